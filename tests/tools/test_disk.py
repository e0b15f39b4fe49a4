"""What can be removed of a preset's results, and what outlives it.

Run: pytest tests/tools/test_disk.py
"""

import json
import shutil
from pathlib import Path

import pytest

from adaptbench.config import load
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import plan_files, unfolding
from adaptbench.graph.nodes import Evaluation, Graph
from adaptbench.io import records
from tests.support.presets import preset_values
from tools import disk
from tools.__main__ import main


@pytest.fixture
def made(tmp_path, monkeypatch) -> Graph:
    """A preset with all its stages and runs, their files a few bytes each; one run is of the ablation and shares an
    expansion.
    """
    monkeypatch.chdir(tmp_path)
    unfolded = unfolding.unfold(load.validate(values(), "toy.yaml"))
    plan_files.write(unfolded)
    for node in unfolded.nodes.values():
        make_stage(unfolded, node.id)
    for evaluation in unfolded.evaluations:
        finish(unfolded, evaluation)
    return unfolded


def values() -> dict:
    """A full, a LLaMA-Pro and a LoRA run; an ablation of LLaMA-Pro with the same expansion and one with its own."""
    content = preset_values() | {"seeds": [0, 1]}
    pro = content["runs"][1]
    content["runs"].append(pro | {"name": "pro-3", "tuner": pro["tuner"] | {"layers": 3}})
    content["ablation"] = [pro | {"name": "pro-slow", "training": {"learning_rate": 1e-5}, "tables": ["ablation_pro"]}]
    return content


def make_stage(unfolded: Graph, node: str) -> None:
    folder = unfolded.directory(node)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adaptbench.json").write_text(json.dumps({"schema_version": 1, "stage": node}))
    for name in ("chosen.json", "tokenizer.json", *(["model.safetensors"] if unfolded.nodes[node].makes_model else [])):
        (folder / name).write_text("{}" * 1000)


def finish(unfolded: Graph, evaluation: Evaluation) -> None:
    path = unfolded.root / "runs" / evaluation.key / "run.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"hash": evaluation.digest}))


def expansions(unfolded: Graph) -> dict[int, Path]:
    """By its number of layers the directory of each expansion."""
    nodes = [node for node in unfolded.nodes.values() if node.kind == "prepare"]
    return {node.options["tuner"]["layers"]: unfolded.directory(node.id) for node in nodes}


def stages(unfolded: Graph) -> set[str]:
    return {path.name for path in (unfolded.root / "stages").iterdir()}


def test_what_lies_between_is_what_no_run_is_scored_on_and_one_part_alone_needs(made):
    shared, own = (expansions(made)[layers] for layers in (2, 3))
    assert plan_files.intermediate_models(made) == [own.name]
    assert json.loads((made.root / "plan/between.json").read_text()) == [own.name]
    alone = values() | {"ablation": []}
    assert plan_files.intermediate_models(unfolding.unfold(load.validate(alone, "toy.yaml"))) == sorted(
        [shared.name, own.name]
    )


def test_models_between_finished_runs_go_and_what_their_stages_noted_stays(made):
    before = stages(made)
    said = disk.clean(made.root)
    gone = {path.name for path in expansions(made).values()}
    assert before - stages(made) == gone
    assert said == "removed: 2 models (0.0 MB) between finished runs, 0 work folders (0.0 MB)"
    for name in gone:
        kept = records.find(made.root / "stages" / name)
        assert sorted(path.name for path in kept.iterdir()) == ["adaptbench.json", "chosen.json"]
        assert json.loads((kept / "adaptbench.json").read_text())["stage"] == name
    assert disk.clean(made.root).startswith("removed: 0 models")


@pytest.mark.parametrize("state", ["missing", "of other options", "damaged"])
def test_what_an_unfinished_run_needs_stays(made, state):
    one = next(evaluation for evaluation in made.evaluations if evaluation.run == "pro-slow" and evaluation.seed == 1)
    path = made.root / "runs" / one.key / "run.json"
    if state == "missing":
        path.unlink()
    else:
        path.write_text('{"hash": "other"}' if state == "of other options" else "{")
    said = disk.clean(made.root)
    assert expansions(made)[2].exists()
    assert not expansions(made)[3].exists()
    assert said.startswith("removed: 1 model ")


def test_models_of_options_that_the_preset_no_longer_has_go_when_forced(made):
    old = made.root / "stages/domain-cpt-full-tune-seed0-0123456789"
    old.mkdir()
    (old / "model.safetensors").write_text("x")
    said = disk.clean(made.root)
    assert old.exists()
    assert said.endswith("left: 1 folder (0.0 MB) of unfinished stages or other options; FORCE=1 removes them")
    disk.clean(made.root, force=True)
    assert not old.exists()


def test_a_finished_stages_work_goes_and_an_unfinished_ones_checkpoint_stays(made):
    trained = sorted(node.id for node in made.nodes.values() if node.kind == "train")
    finished, unfinished = (made.root / "work" / f"{node}-abcdef0123" for node in trained[:2])
    for work in (finished, unfinished):
        work.mkdir(parents=True)
    mark = made.root / "work/explorer-ablation"  # what a rule has made, no stage's work
    mark.touch()
    shutil.rmtree(made.directory(trained[1]))
    for run in made.evaluations:
        if run.model == trained[1]:
            (made.root / "runs" / run.key / "run.json").unlink()
    disk.clean(made.root)
    assert not finished.exists()
    assert unfinished.exists()
    disk.clean(made.root, force=True)
    assert not unfinished.exists()
    assert mark.exists()


def test_results_and_scored_models_stay_even_when_forced(made):
    others = {path for path in made.root.rglob("*") if path.is_file() and "stages" not in path.parts}
    disk.clean(made.root, force=True)
    assert {evaluation.model for evaluation in made.evaluations if evaluation.model} <= stages(made)
    assert all(path.exists() for path in others)


def test_it_does_not_clean_under_a_running_workflow(made):
    lock = Path(".snakemake/locks/0.input.lock")
    lock.parent.mkdir(parents=True)
    lock.touch()
    with pytest.raises(AdaptbenchError, match="Snakemake is running in this folder; wait for its end"):
        disk.clean(made.root, force=True)
    assert all(path.exists() for path in expansions(made).values())


def test_where_no_preset_has_run_it_says_so(tmp_path, capsys):
    for command in ("clean-work", "disk"):
        assert main([command, str(tmp_path / "none")]) == 1
        assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: no preset has run here\n"


def test_a_preset_that_was_only_planned_has_nothing_to_remove(made):
    for place in ("stages", "runs", "records"):
        shutil.rmtree(made.root / place, ignore_errors=True)
    assert (
        disk.clean(made.root, force=True) == "removed: 0 models (0.0 MB) between finished runs, 0 work folders (0.0 MB)"
    )


def test_the_table_of_sizes_tells_what_stays(made, capsys):
    for layers, megabytes in ((2, 2), (3, 3)):
        (expansions(made)[layers] / "model.safetensors").write_bytes(b"0" * megabytes * 10**6)
    assert main(["disk", str(made.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("|")[1].strip(): [float(size) for size in line.split("|")[2:4]] for line in lines[2:]}
    assert rows["models between"] == [3.0, 0.0]
    assert rows["models that stay: scored, or shared with the ablation"] == pytest.approx([2.0, 2.0], abs=0.2)
    assert rows["all"][0] - rows["all"][1] == pytest.approx(3.0)
    everything = sum(path.stat().st_size for path in made.root.rglob("*") if path.is_file())
    assert rows["all"][0] == pytest.approx(everything / 1e6, abs=0.06)
