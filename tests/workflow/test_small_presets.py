"""The presets for one GPU, cut down: the same runs, data kinds and lengths, with a small model, few items and two steps
a stage.

Run: python -m pytest tests/workflow/test_small_presets.py
"""

import json
from contextlib import chdir
from pathlib import Path

import pytest
import yaml

from adaptbench.config import load
from adaptbench.evaluate import score
from adaptbench.graph import plan_files, unfolding
from adaptbench.stages import job
from tests.support.presets import SMALL_GENERAL
from tests.support.project import PROJECT

ITEMS = {"train_items": 24, "validation_items": 4, "test_items": 6}
DATA = {
    "general": SMALL_GENERAL,
    "domain": {"entities": 20, "test_items": 8},
    "agent": ITEMS,
    "reasoning": ITEMS,
}
FEW = {"steps": 2, "batch_size": 2}


def _cut(name):
    """The preset's values with less of everything; kinds, lengths, rates and what a method is stay."""
    values = yaml.safe_load((PROJECT / "config" / f"{name}.yaml").read_text())
    values["seeds"] = [0]
    for track, less in DATA.items():
        if track in values["data"]:
            values["data"][track] |= less
    values["tokenizer"]["vocabulary"] = 600
    values["base"]["architecture"] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
    values["base"]["training"] |= FEW
    values["evaluation"]["limit"] = 2
    values["training"] |= FEW
    for run in values["runs"]:
        run["training"] = run.get("training", {}) | FEW
        for part in run["curriculum"].values():
            if isinstance(part, dict) and "steps" in part:
                part["steps"] = 2
        if "refresh_every" in run["tuner"]:
            run["tuner"]["refresh_every"] = 1
    if values["data"].get("agent", {}).get("kind") == "gsm8k":
        values["data"]["gsm8k"] = {"path": "gsm8k"}
    return values


def _lay_gsm8k():
    """Problems of GSM8K's form, of which the published ones have 7,473 and 1,319."""
    Path("gsm8k").mkdir()
    for split, count in (("train", 60), ("test", 10)):
        Path("gsm8k", f"{split}.jsonl").write_text("".join(_problem(split, i) + "\n" for i in range(count)))


def _problem(split, i):
    price, sum_ = 3 + i, 2 * (3 + i)
    answer = (
        f"Two of them cost 2*{price}=$<<2*{price}={sum_}>>{sum_}.\nShe gets "
        f"200-{sum_}=$<<200-{sum_}={200 - sum_}>>{200 - sum_} back.\n#### {200 - sum_}"
    )
    question = f"A pen of {split} costs ${price}. Ann buys two of pen number {i} with $200. How much does she get back?"
    return json.dumps({"question": question, "answer": answer})


@pytest.mark.parametrize("name", ["small", "small-graphs"])
def test_a_preset_cut_down_trains_every_stage_and_scores_every_run(tmp_path, name):
    unfolded = unfolding.unfold(load.validate(_cut(name), f"{name}.yaml"))
    whole = unfolding.unfold(load.load(PROJECT / "config" / f"{name}.yaml"))
    assert {one.key.rpartition("/")[0] for one in unfolded.evaluations} == {
        one.key.rpartition("/")[0] for one in whole.evaluations
    }
    with chdir(tmp_path):
        _lay_gsm8k()
        plan_files.write(unfolded)
        for node in unfolded.nodes:
            job.run(unfolded.root / "plan" / f"{node}.json", unfolded.directory(node))
        for one in unfolded.evaluations:
            out = unfolded.root / "runs" / one.key
            score.run(plan_files.evaluation_file(unfolded, one.key), out)
            done = json.loads((out / "run.json").read_text())
            assert done["status"] == "done"
            assert all(task["documents"] for task in done["metrics"].values())
        for node in unfolded.nodes.values():
            if "training" in node.options:
                log = (unfolded.directory(node.id) / "training.jsonl").read_text().splitlines()
                losses = [json.loads(line)["loss"] for line in log]
                own = node.options.get("curriculum", {}).get("kind") == "single_matched"  # one stage instead of four
                assert len(losses) == (8 if own else 2), node.id
                assert all(0 < loss < 20 for loss in losses)
