"""What is misspelt on the command line ends in one line that says what there is.

Run: pytest tests/workflow/test_command_line.py
"""

import re
import shlex
import sys

import pytest

from tests.support.processes import finished, snakemake
from tests.support.project import PROJECT

PRESETS = sorted(path.stem for path in (PROJECT / "config").glob("*.yaml"))


@pytest.mark.parametrize("target", ["run", "ablation", "sweep", "verify", "plan"])
def test_make_names_the_presets_that_are_there(target):
    done = finished(["make", "PRESET=nope", target], PROJECT)
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert done.returncode == 2
    assert "config/nope.yaml: no such preset; PRESET is one of" in line
    assert all(name in line.replace(".", " ").split() for name in PRESETS)


def test_make_plans_several_presets_at_once_and_runs_one():
    done = finished(["make", "PRESET=paper"], PROJECT)
    (line,) = (done.stdout + done.stderr).strip().splitlines()
    assert "config/paper.yaml: no such preset" in line
    assert "several at once are for `make plan`" in line
    planned = finished(["make", "--dry-run", "PRESET=paper", "plan"], PROJECT)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout.count("config/paper-") == sum(name.startswith("paper-") for name in PRESETS)


@pytest.mark.parametrize(
    "change",
    ["seeds=[0]", "data={gsm8k: {path: 'x y #2'}}", "name='2024'", 'name="it\'s"', "name=a$b$(x)",
     "name=$(shell touch made)"],
)  # fmt: skip
def test_make_hands_over_what_was_written(change):
    planned = finished(["make", "--dry-run", "PRESET=gsm8k", f"CONFIG={change}", "plan"], PROJECT)
    last = planned.stdout.strip().splitlines()[-1]
    assert shlex.split(last)[-3:] == ["config/gsm8k.yaml", "--config", change]
    assert not (PROJECT / "made").exists()


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("runs/domain/lorra/seed0/run.json",
         "error: domain/lorra/seed0: preset 'smoke' has no such run or seed; did you mean domain/lora/seed0?"),
        ("runs/domain/lora/seed7/run.json",
         "error: domain/lora/seed7: preset 'smoke' has no such run or seed; did you mean domain/lora/seed0?"),
        ("stages/nothing-like-it", "error: nothing-like-it: preset 'smoke' has no such stage"),
    ],
)  # fmt: skip
def test_a_misspelt_target_is_one_line_that_names_the_nearest(target, line):
    done = snakemake(
        PROJECT, f"results/smoke/{target}", "--dry-run", "--cores", "1", "--configfile", "config/smoke.yaml"
    )
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == line
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("value", ["2020-99-99", "!!int x", "!!bool x", "[" * 3000])
def test_a_value_that_is_no_yaml_is_one_line(value):
    done = finished(
        [sys.executable, "-m", "adaptbench", "estimate", "config/smoke.yaml", "--config", f"seeds={value}"], PROJECT
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: --config: '{value[:60]}")
    assert line.endswith(" is not YAML; quote it")
    assert len(line) < 200


BROKEN = {
    b"name: 2020-99-99\n": "toy.yaml: not YAML: '2020-99-99' is no timestamp",
    b"name: \xff\n": "toy.yaml: not UTF-8 text",
    b"[" * 5000: "toy.yaml: not YAML: nested too deeply",
    b"seeds: [" + b"9" * 5000 + b"]\n": "toy.yaml: not YAML: '9999",
    b"name: [\n": "toy.yaml:",
    b"- a\n": "toy.yaml:",
    b"": "toy.yaml:",
    b"name: toy\nrunz: []\n": "toy.yaml: data: missing",
}


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content[:12]))
def test_a_broken_preset_is_one_line(tmp_path, content):
    """Snakemake, which opens it first, may end in a traceback: make asks before."""
    (tmp_path / "toy.yaml").write_bytes(content)
    done = finished([sys.executable, "-m", "adaptbench", "check", "toy.yaml"], tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {BROKEN[content]}"), line


def test_make_asks_what_is_wrong_with_a_preset_before_snakemake_opens_it(project_copy):
    (project_copy / ".venv").symlink_to(sys.prefix)
    (project_copy / "config/toy.yaml").write_text("name: 2020-99-99\n")
    for target in ("run", "ablation"):
        done = finished(["make", "-o", ".venv/.ready", "PRESET=toy", target], project_copy)
        assert done.returncode == 2
        first, last = done.stderr.strip().splitlines()
        assert first.startswith("error: config/toy.yaml: not YAML: '2020-99-99' is no timestamp")
        assert last.startswith("make: ***")


def test_check_counts_what_it_has_found_right():
    done = finished([sys.executable, "-m", "adaptbench", "check", "config/smoke.yaml", "config/tiny.yaml"], PROJECT)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert re.fullmatch(r"config/smoke\.yaml: a preset of \d\d+ runs in \d\d+ stages", first)
    assert second.startswith("config/tiny.yaml: a preset of ")


def test_an_option_without_a_value_is_one_line():
    done = finished([sys.executable, "-m", "adaptbench", "check", "config/smoke.yaml", "--config", "name"], PROJECT)
    assert done.returncode == 1
    assert done.stderr == "error: --config 'name': must be KEY=VALUE\n"


def test_a_wrong_number_is_said_to_be_none():
    done = finished([sys.executable, "-m", "adaptbench", "estimate", "config/smoke.yaml", "--gpus", "x"], PROJECT)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].endswith("argument --gpus: must be a whole number, not 'x'")
