"""What the comparison with other trainers measures: the same work, proved by losses, and a row for each way.

Run: python -m pytest tests/tools/test_peer_speed.py
"""

import copy
import math
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest

from adaptbench.errors import AdaptbenchError
from tools.__main__ import main
from tools.speed import peers as peer_speed
from tools.speed import ways as peer_ways
from tools.speed.ways import OURS, Sizes, Trace

SMALL = Sizes(32, 2, 2, 200, 2, 32, warm=1, timed=2, rounds=1)


@pytest.fixture(scope="module")
def works():
    return peer_ways.works(SMALL)


def trace(losses, trained=5):
    made = Trace()
    made.losses, made.ends, made.trained = losses, [0.0] * len(losses), trained
    return made


def test_every_way_does_the_same_work_and_has_a_row(works, tmp_path, monkeypatch):
    expected = {
        "masked SFT": {"transformers Trainer"},
        "SFT, nothing masked": {"transformers Trainer"},
        "LoRA": {"peft, plain loop"},
        "LLaMA-Pro": {"transformers Trainer"},
    }
    more = {"TRL SFTTrainer"} if peer_ways.version("trl") else set()
    assert {work: set(ways) for work, ways in works.items()} == {w: {OURS} | e | more for w, e in expected.items()}
    monkeypatch.setattr(peer_speed, "version", lambda name: "1")
    monkeypatch.setattr(peer_speed, "works", lambda sizes: works)
    monkeypatch.setattr(peer_speed, "CPU", SMALL)
    peer_speed.measure(tmp_path)
    table = pd.read_csv(tmp_path / "peers_cpu.csv")
    assert {"trl", "peft", "trained_parameters", "torch", *peer_speed.COLUMNS} <= set(table)
    assert (table["loss_difference"] < SMALL.tolerance).all()
    assert (table["times_ours"][table["way"] == OURS] == 1).all()
    assert (table["low"] <= table["tokens_a_second"]).all()
    assert (table["tokens_a_second"] <= table["high"]).all()
    assert len(table) == sum(map(len, works.values()))
    assert "tokens a second" in (tmp_path / "peers_cpu.md").read_text()


def test_steps_of_the_first_way_are_those_of_the_project(works):
    made = Trace()
    works["masked SFT"][OURS](3, made)
    assert len(made.losses) == len(made.ends) == 3
    assert made.losses[0] == pytest.approx(math.log(SMALL.vocabulary), rel=0.05)
    assert made.losses[0] > made.losses[1] > made.losses[2]


def test_a_way_that_trains_something_else_is_found(works):
    ours = works["LLaMA-Pro"][OURS]
    start = copy.deepcopy(works["LLaMA-Pro"]["transformers Trainer"].args[1])
    start.get_input_embeddings().requires_grad_(True)
    other = partial(peer_ways._by_trainer, SMALL, start)
    with pytest.raises(AdaptbenchError, match=r"trained parameters in other, .*; not the same work"):
        peer_speed.compare("LLaMA-Pro", {OURS: ours, "other": other}, SMALL)


def test_a_way_that_trains_at_another_rate_is_found(works):
    ours = works["masked SFT"][OURS]
    faster = peer_ways.works(replace(SMALL, rate=1.5 * SMALL.rate))["masked SFT"][OURS]
    with pytest.raises(AdaptbenchError, match=r"the loss of step 2 is .* in faster, .*; not the same work"):
        peer_speed.compare("masked SFT", {OURS: ours, "faster": faster}, SMALL)


@pytest.mark.parametrize(
    ("losses", "message"),
    [([9.0, 8.0, math.nan], "loss of step 3"), ([9.0, 8.0], "2 steps in other"), ([9.1, 8.0, 7.0], "loss of step 1")],
)
def test_other_losses_are_other_work(losses, message):
    with pytest.raises(AdaptbenchError, match=message):
        peer_speed.agreement("any", {OURS: trace([9.0, 8.0, 7.0]), "other": trace(losses)}, 1e-4)


def test_a_loss_that_does_not_move_proves_nothing():
    with pytest.raises(AdaptbenchError, match="too little to compare"):
        peer_speed.agreement("any", {OURS: trace([9.0, 9.0]), "other": trace([9.0, 9.0])}, 1e-4)


def test_without_trl_one_line_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peer_speed, "version", lambda name: "")
    assert main(["peer-speed", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: trl is not installed: pip install 'adaptbench[peers]'\n"
