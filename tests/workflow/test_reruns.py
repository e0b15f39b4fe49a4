"""After the whole graph has run: what a change makes again, a new method, an ablation, models that were removed.

The tests change one copy of the project and its results, in the order in which they stand.

Run: pytest tests/workflow/test_reruns.py
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.support.processes import finished, snakemake
from tests.support.project import PROJECT, SMOKE
from tests.support.smoke import DOMAIN, planned, run_json, with_run

pytestmark = pytest.mark.graph


def test_models_between_can_be_removed_and_nothing_is_made_again(smoke, tmp_path):
    """Not even by a new evaluation, whose costs come from the stages' records."""
    copy = Path(shutil.copytree(smoke, tmp_path / "copy"))
    before = {path.name for path in (copy / "results/smoke/stages").iterdir()}
    done = finished([sys.executable, "-m", "tools", "clean-work", "results/smoke"], copy)
    assert done.returncode == 0, done.stderr
    gone = before - {path.name for path in (copy / "results/smoke/stages").iterdir()}
    # The ablation, which is not made yet, needs ADEPT's expansion.
    assert len(gone) == 12
    assert any("llama_pro-expand" in name for name in gone)
    assert not planned(copy, *SMOKE)
    cost = run_json(copy, "llama-pro")["cost"]
    shutil.rmtree(copy / "results/smoke/runs/domain/llama-pro")
    wanted = ("runs/domain/llama-pro/seed0/run.json", "figures/adept_layer_importance.svg", "figures/cost.svg")
    done = snakemake(copy, *(f"results/smoke/{path}" for path in wanted), *SMOKE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert run_json(copy, "llama-pro")["cost"] == cost
    assert "is not drawn" not in done.stdout + done.stderr
    assert not gone & {path.name for path in (copy / "results/smoke/stages").iterdir()}


def test_models_between_are_temporary_where_the_preset_says_so(smoke):
    run = "results/scored/runs/domain/llama-pro/seed0/run.json"
    arguments = (run, *SMOKE, "--config", "name=scored", "keep=scored")
    done = snakemake(smoke, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    stages, records = (
        {path.name.rpartition("-")[0] for path in (smoke / f"results/scored/{place}").iterdir()} for place in ("stages",
         "records")
    )  # fmt: skip
    assert stages == {"tokenizer", "base", "domain-cpt-llama_pro-tune-seed0"}
    assert records == {"base", "llama_pro-expand", "domain-cpt-llama_pro-tune-seed0"}
    result = json.loads((smoke / run).read_text())
    assert [stage["name"] for stage in result["cost"]["stages"].values()] == [None, "expand", "tune"]
    assert not planned(smoke, *arguments)
    assert not planned(smoke, run, *SMOKE, "--config", "name=scored")


@contextmanager
def edited(folder: Path, name: str, more: str) -> Iterator[None]:
    """More text at the end of a file of the project."""
    text = (folder / name).read_text()
    (folder / name).write_text(text + more)
    try:
        yield
    finally:
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "made", "not_made"),
    [
        ("adaptbench/agent/language_model.py", {"runs/agent/glpft/", "runs/agent/base/"},
         {"stages/", "runs/domain/", "runs/reasoning/"}),
        ("methods/tuners/lora.py", {"domain-cpt-lora-tune", "runs/domain/lora/"},
         {"cpt-full", "llama_pro", "base-", "runs/domain/full/"}),
        ("adaptbench/report/tables.py", {"tables/", "index.html"}, {"data/", "stages/", "runs/", "collected/"}),
    ],
)  # fmt: skip
def test_edited_code_makes_again_what_runs_it_and_a_remark_nothing(smoke, name, made, not_made):
    """Of more files: tests/graph/test_sources.py, by what jobs depend on."""
    with edited(smoke, name, "\nEDITED = 1\n"):
        outputs = " ".join(planned(smoke, *SMOKE))
    for part in made:
        assert part in outputs
    for part in not_made:
        assert part not in outputs
    with edited(smoke, name, "\n# a remark\n"):
        assert not planned(smoke, *SMOKE)


def test_a_touched_file_of_the_project_makes_nothing_again(smoke):
    for path in (*smoke.glob("*/*.py"), *smoke.glob("*/*/*.py"), *smoke.glob("benchmarks/*/*/*")):
        if path.is_file():
            os.utime(path)
    assert not planned(smoke, *SMOKE)


def test_results_are_taken_as_they_are_when_they_are_touched(smoke, tmp_path):
    copy = Path(shutil.copytree(smoke, tmp_path / "copy"))
    with edited(copy, "adaptbench/train/loop.py", "\nEDITED = 1\n"):
        assert planned(copy, *SMOKE)
        assert snakemake(copy, *SMOKE, "--touch").returncode == 0
        assert not planned(copy, *SMOKE)


def test_an_edited_task_file_scores_again_and_trains_nothing(smoke):
    with edited(smoke, "benchmarks/domain/tasks/domain_facts.yaml", "\n# a remark\n"):
        outputs = planned(smoke, *SMOKE)
    assert len([output for output in outputs if "runs/domain/" in output]) == 1 + len(DOMAIN)
    assert not any("stages/" in output for output in outputs)


def test_a_changed_option_reruns_that_run_alone(smoke):
    preset = yaml.safe_load((smoke / "config/smoke.yaml").read_text())
    next(run for run in preset["runs"] if run["name"] == "lora")["tuner"]["rank"] = 2
    (smoke / "config/other.yaml").write_text(yaml.safe_dump(preset))
    outputs = planned(smoke, "--cores", "2", "--configfile", "config/other.yaml")
    made = [output for output in outputs if "runs/" in output or "stages/" in output]
    assert len(made) == 2
    assert all("lora" in output for output in made)


def test_what_tables_show_is_reported_again_and_scored_once(smoke):
    preset = yaml.safe_load((smoke / "config/smoke.yaml").read_text())
    next(run for run in preset["runs"] if run["name"] == "lora")["tables"] = ["domain", "another"]
    (smoke / "config/shown.yaml").write_text(yaml.safe_dump(preset))
    outputs = " ".join(planned(smoke, "--cores", "2", "--configfile", "config/shown.yaml"))
    for part in ("tables/another.md", "figures/another_scores.svg", "collected/comparisons.csv", "index.html"):
        assert part in outputs
    for part in ("stages/", "runs/", "collected/scores.csv", "tables/paper.md"):
        assert part not in outputs


def test_a_new_method_is_one_file_and_only_its_jobs_run(smoke):
    """The sketch in docs/adding-a-method.md, as it stands there."""
    text = (PROJECT / "docs/adding-a-method.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    line = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
    (smoke / "methods/tuners/norms.py").write_text(code)
    (smoke / "config/more.yaml").write_text(with_run(smoke, line))
    arguments = ("--cores", "2", "--configfile", "config/more.yaml")
    made = [output for output in planned(smoke, *arguments) if "runs/" in output or "stages/" in output]
    assert len(made) == 2
    assert all("norms" in output for output in made)
    done = snakemake(smoke, "results/smoke/tables/domain.md", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    assert run_json(smoke, "norms")["metrics"]["domain_facts"]["documents"] == 40
    assert "| norms |" in (smoke / "results/smoke/tables/domain.md").read_text()


def test_the_contract_suite_finds_a_new_method_by_its_name(smoke):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-k",
        "norms",
        "tests/methods/test_contract.py",
    ]
    environment = os.environ | {"PYTHONPATH": str(smoke)}
    done = finished(command, smoke, environment=environment)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 5


def test_an_ablation_is_made_when_it_is_asked_for_and_leaves_the_main_tables_alone(smoke_run, tmp_path):
    smoke = Path(shutil.copytree(smoke_run, tmp_path / "copy"))
    before = (smoke / "results/smoke/tables/domain.md").stat().st_mtime_ns
    assert not (smoke / "results/smoke/tables/ablation_adept.md").exists()
    done = snakemake(smoke, "ablation", *SMOKE)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = (smoke / "results/smoke/tables/ablation_adept.md").read_text().splitlines()[2:5]
    assert [row.split("|")[1].strip() for row in rows] == ["base", "adept", "adept-minmax"]
    assert (smoke / "results/smoke/figures/ablation_adept_forgetting.svg").exists()
    assert "adept - llama-pro" in (smoke / "results/smoke/tables/ablation_paper.md").read_text()
    assert (smoke / "results/smoke/tables/domain.md").stat().st_mtime_ns == before
    assert not planned(smoke, *SMOKE)
