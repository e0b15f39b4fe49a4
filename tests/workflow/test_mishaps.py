"""The whole graph when something goes wrong: mistakes, kills, a full disk, a run that diverges, two at once.

Run: pytest tests/workflow/test_mishaps.py
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.processes import finished, has_checkpoint, snakemake, wait_until
from tests.support.project import SMOKE, TOKENS
from tests.support.smoke import POLICIES, RUNS, files_with, with_run

pytestmark = pytest.mark.graph


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--config", "evaluation={batch_size: 0}"), "error: config/smoke.yaml: evaluation.batch_size: must be > 0"),
        (("--config", "base={model: a: b}"), "error: --config: '{model: a: b}' is not YAML; quote it"),
        (("--config", "base={model: ./nowhere}"), "error: base.model: nowhere: no such model folder"),
        (("--config", "data={gsm8k: {path: nowhere}}"), "error: data.gsm8k.path: nowhere: no such folder"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(smoke, arguments, line):
    done = snakemake(smoke, *SMOKE, *arguments)
    assert done.returncode != 0
    said = [text for text in done.stderr.strip().splitlines() if not text.startswith("Using workflow specific profile")]
    assert said == [line]


def test_a_killed_stage_goes_on_from_its_checkpoint_and_ends_in_the_same_bits(smoke):
    """kill -9 of the base's training, then the same command again."""
    name = next((smoke / "results/smoke/stages").glob("base-*")).name
    reference = smoke / "results/smoke/stages" / name / "model.safetensors"
    expected = reference.read_bytes()
    shutil.copytree(smoke / "results/smoke/data", smoke / "results/kill/data")
    shutil.copytree(next((smoke / "results/smoke/stages").glob("tokenizer-*")),
        smoke / "results/kill/stages" / next((smoke / "results/smoke/stages").glob("tokenizer-*")).name)  # fmt: skip
    preset = (smoke / "config/smoke.yaml").read_text().replace("name: smoke", "name: kill\ncheckpoint_seconds: 0")
    (smoke / "config/kill.yaml").write_text(preset)
    target = f"results/kill/stages/{name}"
    command = [sys.executable, "-m", "snakemake", target, "--cores", "2", "--configfile", "config/kill.yaml"]
    process = subprocess.Popen(
        command, cwd=smoke, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until(lambda: has_checkpoint(smoke / "results/kill/work"))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
    state = next((smoke / "results/kill/work").glob("*/checkpoint/state.json"))
    step = json.loads(state.read_text())["state"]["counts"]["step"]
    assert 0 < step < 30
    assert not (smoke / target).exists()
    done = snakemake(smoke, "--unlock", "--configfile", "config/kill.yaml")
    done = snakemake(smoke, target, "--cores", "2", "--configfile", "config/kill.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (smoke / target / "model.safetensors").read_bytes() == expected
    log = [json.loads(line)["step"] for line in (smoke / target / "training.jsonl").read_text().splitlines()]
    assert log == list(range(1, 31))
    assert not list((smoke / "results/kill/work").iterdir())


def _stage(folder: Path, kind: str, out: Path) -> list[str]:
    """The command that runs one stage of the smoke run again, alone, into `out`."""
    plans = (folder / "results/smoke/plan").glob("*.json")
    plan = next(path for path in plans if json.loads(path.read_text()).get("kind") == kind)
    return [sys.executable, "-m", "adaptbench", "stage", str(plan.relative_to(folder)), str(out)]


def test_a_full_disk_is_one_line_and_leaves_nothing(smoke, tmp_path):
    no_file_over_49_kib = ["bash", "-c", "trap '' XFSZ; ulimit -f 49; exec \"$@\"", "limited"]
    done = finished([*no_file_over_49_kib, *_stage(smoke, "train", tmp_path / "out")], smoke)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: no space left for")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
    shutil.rmtree(smoke / "results/smoke/work", ignore_errors=True)


def test_an_interrupted_stage_says_so_in_one_line_and_leaves_nothing(smoke, tmp_path):
    said = tmp_path / "said"
    with said.open("w") as file:
        process = subprocess.Popen(
            _stage(smoke, "base", tmp_path / "out"), cwd=smoke, stdout=subprocess.DEVNULL, stderr=file
        )
    wait_until(lambda: "step" in said.read_text() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert re.search(
        r"^error: stopped by SIGINT after step \d+ of 30; run again to go on from there$",
        said.read_text().strip().splitlines()[-1],
    )
    assert [path.name for path in tmp_path.iterdir()] == ["said"]
    shutil.rmtree(smoke / "results/smoke/work", ignore_errors=True)


def test_when_a_run_fails_the_others_are_reported_and_a_rerun_completes_them(smoke):
    """A run that diverges: the rest end, their tables are made apart from the real ones, the exit status says it."""
    preset = with_run(smoke, "").replace("name: smoke", "name: fails")
    bad = (
        "  - {name: bad, track: domain, curriculum: {kind: cpt}, tuner: {kind: full}, training: {learning_rate: "
        "1e30}}\n"
    )
    (smoke / "config/fails.yaml").write_text(with_run(smoke, bad).replace("name: smoke", "name: fails"))
    shutil.copytree(
        smoke / "results/smoke", smoke / "results/fails", ignore=shutil.ignore_patterns("tables", "figures")
    )
    arguments = ("--cores", "2", "--configfile", "config/fails.yaml")
    done = snakemake(smoke, *arguments, **TOKENS)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "secret-of" not in said
    assert not files_with(smoke, b"secret-of")
    assert re.search(r"error: step \d+: .* is nan; lower training\.learning_rate", said)
    all_but_one = 3 + len(POLICIES) + len(RUNS)
    told = f"{all_but_one} of {all_but_one + 1} runs are done; their tables and figures: results/fails/partial/main."
    assert told in said
    table = (smoke / "results/fails/partial/main/tables/domain.md").read_text()
    assert "| bad | left out: results/fails/runs/domain/bad/seed0/run.json: missing |" in table
    assert re.search(r"\| lora \| \**0\.\d{3} \[", table)
    assert not (smoke / "results/fails/tables/domain.md").exists()
    (smoke / "config/fails.yaml").write_text(preset)
    assert snakemake(smoke, "results/fails/tables/domain.md", *arguments).returncode == 0
    assert "| lora |" in (smoke / "results/fails/tables/domain.md").read_text()
    assert not (smoke / "results/fails/partial").exists()


def test_two_at_once_do_not_harm_each_other(smoke):
    """The second is told that the folder is locked, or comes late enough to find all done; the first ends well."""
    (smoke / "config/two.yaml").write_text(
        (smoke / "config/smoke.yaml").read_text().replace("name: smoke", "name: two")
    )
    target = "results/two/data/" + next((smoke / "results/smoke/data").glob("domain-*")).name
    with ThreadPoolExecutor() as pool:
        both = list(
            pool.map(lambda _: snakemake(smoke, target, "--cores", "1", "--configfile", "config/two.yaml"), "12")
        )
    assert any(done.returncode == 0 for done in both), both
    for done in both:
        assert done.returncode == 0 or "lock" in (done.stdout + done.stderr).lower()
    assert (smoke / target / "manifest.json").exists()
