"""ADEPT in the graph: its probe corpus, and which stages runs share.

Run: python -m pytest tests/methods/test_adept_stages.py
"""

import json
from contextlib import chdir

import pytest
from transformers import AutoModelForCausalLM

from adaptbench.contracts import StageContext
from adaptbench.data.packing import document
from adaptbench.graph import plan_files, unfolding
from adaptbench.methods.tuners import adept, adept_layers
from adaptbench.stages import job
from tests.support.adept_cases import DATA, DECOUPLED, _lineage, _log, _naive, _preset, _token_losses, _unfold


def test_the_probe_reads_every_document_of_its_corpus_once_and_cuts_long_ones(tmp_path, tokenizer, benchmark_data):
    context = StageContext(5, {"general": benchmark_data["general"]}, tokenizer)
    lines = (benchmark_data["general"] / "splits/probe.jsonl").read_text().splitlines()
    length = 24
    for wanted in (None, 5):
        expected = []
        for line in lines[:wanted]:
            ids = [*tokenizer(json.loads(line)["text"]).input_ids, tokenizer.eos_token_id]
            pieces = [ids[start : start + length] for start in range(0, len(ids), length)]
            expected += [piece for piece in pieces if len(piece) > 1]
        assert any(len(piece) == length for piece in expected), "no document was long enough to be cut"
        cfg = adept.Config(probe_batch_size=3, probe_length=length, probe_documents=wanted)
        found = []
        batches = adept_layers.probe_batches(cfg, context)
        assert {tuple(batch["input_ids"].shape) for batch in batches[:-1]} == {(3, length)}
        for batch in batches:
            for ids, labels, places in zip(
                *(batch[k].tolist() for k in ("input_ids", "labels", "position_ids")), strict=True
            ):
                starts = [i for i, place in enumerate(places) if place == 0]
                for start, end in zip(starts, [*starts[1:], length], strict=True):
                    if any(label >= 0 for label in labels[start:end]):
                        assert labels[start:end] == [-100, *ids[start + 1 : end]]
                        found.append(ids[start:end])
        assert sorted(found) == sorted(expected)


def test_the_probe_stage_writes_each_layers_importance_on_the_corpus(tmp_path, tokenizer, benchmark_data, model_folder):
    """Against every document alone, tokenized here."""
    folder = model_folder("qwen2")
    cfg = adept.Config(probe_batch_size=3, probe_length=40)
    out = tmp_path / "out"
    out.mkdir()
    context = StageContext(0, {"general": benchmark_data["general"]}, tokenizer)
    adept.probe(cfg, {"base": folder}, out, context)
    pieces = []
    for line in (benchmark_data["general"] / "splits/probe.jsonl").read_text().splitlines():
        ids = [*tokenizer(json.loads(line)["text"]).input_ids, tokenizer.eos_token_id]
        pieces += [document(ids[start : start + 40]) for start in range(0, len(ids), 40) if len(ids) - start > 1]
    base, rises = _naive(
        AutoModelForCausalLM.from_pretrained(folder), lambda m: _token_losses(m, [pieces]).mean().item()
    )
    found = json.loads((out / "importance.json").read_text())
    assert found["base_loss"] == pytest.approx(base, abs=1e-5)
    assert found["importance"] == pytest.approx(rises, abs=1e-5)


def test_runs_that_differ_in_their_rates_alone_share_probe_and_expansion():
    tuners = [*({"unit_lr": value} for value in (*DECOUPLED, "uniform", "uniform_2x"))]
    tuners += [{"unit": "row"}, {"unit": "head"}, {"refresh_every": 7}]
    unfolded = _unfold(*tuners, seeds=[0, 1])
    found = [_lineage(unfolded, run, seed) for run in range(len(tuners)) for seed in (0, 1)]
    assert {tuple(sorted(prepared)) for prepared, _ in found} == {("expand", "probe")}
    assert len({prepared["probe"].id for prepared, _ in found}) == 1
    assert len({prepared["expand"].id for prepared, _ in found}) == 1
    assert len({trained.id for _, trained in found}) == len(found)
    assert all(trained.parents["model"] == prepared["expand"].id for prepared, trained in found)


def test_runs_that_choose_other_layers_share_the_probe_alone():
    tuners = [{}, {"layers": 3}, {"placement": "highest"}, {"expansion": "none"}]
    unfolded = _unfold(*tuners)
    found = [_lineage(unfolded, run)[0] for run in range(len(tuners))]
    assert len({prepared["probe"].id for prepared in found}) == 1
    assert len({prepared["expand"].id for prepared in found}) == len(tuners)


@pytest.mark.parametrize("option", ["probe_documents", "probe_batch_size", "probe_length"])
def test_another_probe_is_another_stage(option):
    unfolded = _unfold({}, {option: 17})
    assert len({_lineage(unfolded, run)[0]["probe"].id for run in (0, 1)}) == 2


@pytest.mark.parametrize("placement", ["uniform", "suffix", "random", [1, 4]])
def test_a_placement_that_looks_at_no_importance_is_not_probed(placement):
    unfolded = _unfold({"placement": placement, "unit_lr": "uniform"})
    prepared, trained = _lineage(unfolded, 0)
    assert list(prepared) == ["expand"]
    assert "data.general" not in trained.parents
    assert not any("probe" in node for node in unfolded.nodes)


def test_random_layers_are_drawn_for_each_seed_and_all_others_chosen_once():
    seeds = [3, 5]
    unfolded = _unfold({"placement": "random"}, {"placement": "uniform"}, {}, seeds=seeds)
    expands = [[_lineage(unfolded, run, seed)[0]["expand"] for seed in seeds] for run in range(3)]
    assert [len({node.id for node in nodes}) for nodes in expands] == [2, 1, 1]
    assert [node.options["seed"] for node in expands[0]] == seeds
    assert [expands[i][0].options["seed"] for i in (1, 2)] == [None, None]


@pytest.mark.parametrize("placement", ["lowest", "random"])
def test_without_copies_training_starts_from_the_base(placement):
    unfolded = _unfold({"placement": placement, "expansion": "none"}, {"placement": placement})
    (prepared, trained), (copying, expanded) = _lineage(unfolded, 0), _lineage(unfolded, 1)
    base = prepared["expand"].parents["base"]
    assert unfolded.nodes[base].kind == "base"
    assert trained.parents["model"] == base
    assert trained.parents["prepared.expand"] == prepared["expand"].id
    assert expanded.parents["model"] == copying["expand"].id


@pytest.mark.parametrize("unit_lr", [*DECOUPLED, "uniform", "uniform_2x"])
def test_training_reads_the_general_corpus_where_it_measures_importance(unit_lr):
    _, trained = _lineage(_unfold({"unit_lr": unit_lr}), 0)
    assert ("data.general" in trained.parents) == (unit_lr in DECOUPLED)


def test_the_local_stages_of_a_team_are_measured_before_their_first_step(model_folder, tmp_path):
    """They go on from the global stage's copies, whose rates were measured in it; one of them has a single step."""
    local = {role: {"steps": steps} for role, steps in (("planner", 2), ("caller", 1), ("summarizer", 3))}
    run = {
        "name": "team", "track": "agent", "curriculum": {"kind": "glpft", **local},
        "training": {"steps": 3, "sequence_length": 400},
        "tuner": {"kind": "adept", "layers": 1, "refresh_every": 2, "probe_batch_size": 4, "probe_length": 64},
    }  # fmt: skip
    agent = {"kind": "world", "train_problems": 20, "validation_problems": 4, "test_problems": 4, "offered_tools": 4}
    unfolded = unfolding.unfold(_preset(model_folder("qwen3"), runs=[run], data=DATA | {"agent": agent}))
    logs = {}
    with chdir(tmp_path):
        plans = plan_files.write(unfolded)
        for node in unfolded.ancestors(unfolded.evaluation("agent/team/seed0").model):
            job.run(plans / f"{node}.json", unfolded.directory(node))
            if unfolded.nodes[node].kind == "train":
                logs[unfolded.nodes[node].options["phase"]] = _log(unfolded.directory(node))
    measured = {
        phase: [(row["step"], start) for row in rows for start in ("start/", "") if f"{start}mean_multiplier" in row]
        for phase, rows in logs.items()
    }
    assert measured == {
        "global": [(2, "")], "planner": [(1, "start/")], "caller": [(1, "start/")],
        "summarizer": [(1, "start/"), (2, "")],
    }  # fmt: skip
    for phase in local:
        rates = [
            value for key, value in logs[phase][0].items() if key.startswith("start/multiplier/") and "norm" not in key
        ]
        assert len(set(rates)) == 7, "one copy, and each of its matrices has another rate"
