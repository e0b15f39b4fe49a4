"""Scoring: what lm-eval is given and what is kept of its answer, against plain log-likelihoods of our own.

Run: pytest tests/evaluate/test_evaluation.py
"""

import json
import math

import pytest
import torch

from adaptbench import registry
from adaptbench.errors import AdaptbenchError
from adaptbench.evaluate import harness, metrics, training_cost
from adaptbench.io.model_folder import MANIFEST, SCHEMA_VERSION, read_manifest, write_manifest
from adaptbench.model import storage


@pytest.fixture(scope="module")
def scored(model_folder, task_folders):
    """All tasks of both toy worlds on one toy model, in one call, as the graph does it."""
    tasks = [*registry.benchmark("general", "world").TASKS, *registry.benchmark("domain", "world").TASKS]
    folder = model_folder("qwen3")
    found, seconds = harness.evaluate(
        folder, {"kind": "plain"}, [task.name for task in tasks], task_folders,
        batch_size=7, limit=None,
    )  # fmt: skip
    return folder, metrics.sample_rows(found["samples"], tasks), found, seconds


def log_likelihood(model, tokenizer, prompt: str, text: str) -> float:
    """Sum of log-probabilities of `text` after `prompt`, one sequence, no batch."""
    before, whole = tokenizer(prompt).input_ids, tokenizer(prompt + text).input_ids
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return sum(logs[i - 1, whole[i]].item() for i in range(len(before), len(whole)))


def test_choices_and_text_are_scored_as_a_plain_loop_scores_them(scored, task_folders):
    folder, rows, _, _ = scored
    model, tokenizer = storage.load_model(folder), storage.load_tokenizer(folder)
    for task in ("general_facts", "general_skills"):
        items = [json.loads(line) for line in (task_folders["general"] / f"splits/{task}.jsonl").open()]
        for item, row in zip(items, rows[rows["task"] == task].sort_values("document").itertuples(), strict=True):
            scores = [log_likelihood(model, tokenizer, item["prompt"], f" {choice}") for choice in item["choices"]]
            best = item["choices"][scores.index(max(scores))]
            assert row.prediction == best
            assert row.value == float(best == item["choices"][item["gold"]])
    texts = [json.loads(line)["text"] for line in (task_folders["general"] / "splits/general_text.jsonl").open()]
    for text, row in zip(texts, rows[rows["task"] == "general_text"].sort_values("document").itertuples(), strict=True):
        bits = -log_likelihood(model, tokenizer, "", text) / math.log(2) / len(text.encode())
        assert row.value == pytest.approx(bits, abs=1e-5)
        assert row.weight == len(text.encode())


def test_generated_answers_are_the_greedy_continuation_up_to_the_stop(scored, task_folders):
    folder, rows, _, _ = scored
    model, tokenizer = storage.load_model(folder), storage.load_tokenizer(folder)
    items = [json.loads(line) for line in (task_folders["domain"] / "splits/domain_answers.jsonl").open()]
    for item, row in zip(
        items, rows[rows["task"] == "domain_answers"].sort_values("document").itertuples(), strict=True
    ):
        ids = tokenizer(item["prompt"]).input_ids
        start = len(ids)
        with torch.no_grad():
            while len(ids) < start + 16 and (len(ids) == start or ids[-1] != tokenizer.eos_token_id):
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        text = tokenizer.decode(ids[start:], skip_special_tokens=True)
        for stop in (".", "\n"):
            text = text.split(stop)[0]
        assert row.prediction == text.strip()
        assert row.target == item["target"]
        assert row.value == float(text.strip() == item["target"])


def test_a_sentence_scored_whole_and_by_its_last_word_in_one_call_are_both_right(model_folder, tmp_path):
    """The same tokens with the boundary elsewhere: lm-eval's cache of logits would give one the other's numbers."""
    from lm_eval.api.instance import Instance

    from adaptbench.evaluate.plain import language_model

    folder = model_folder("qwen3")
    model, tokenizer = storage.load_model(folder), storage.load_tokenizer(folder)
    lm = language_model(folder, batch_size=4, tasks={})
    prompt, text = "The red cup number 1 is", " kept."
    requests = [("", prompt + text), (prompt, text)]
    instances = [Instance("loglikelihood", {}, arguments, i) for i, arguments in enumerate(requests)]
    found = [value for value, _ in lm.loglikelihood(instances)]
    expected = [log_likelihood(model, tokenizer, *arguments) for arguments in requests]
    assert found == pytest.approx(expected, abs=1e-4)


def test_an_unknown_way_or_option_of_decoding_is_one_line(model_folder, task_folders):
    folder = model_folder("qwen3")
    for decode, line in (
        ({"kind": "magic"}, "decodes by 'magic'; known are agent, latent, plain, policy"),
        ({"kind": "plain", "beam": 3}, "decode.beam: plain decoding has no such option"),
    ):
        with pytest.raises(AdaptbenchError, match=line):
            harness.evaluate(folder, decode, ["general_facts"], task_folders, batch_size=1, limit=None)


def test_every_document_keeps_its_hashes(scored):
    _, rows, found, _ = scored
    assert not rows.duplicated(["task", "document"]).any()
    assert rows[["document_hash", "prompt_hash"]].map(len).min(axis=None) >= 16
    assert {len(found["samples"][task]) for task in found["samples"]} == {16}


def test_seconds_are_recorded(scored):
    seconds = scored[-1]
    assert seconds["start_up"] > 0
    assert seconds["evaluation"] > 0


def test_a_run_costs_its_own_stages_without_the_base_and_without_compiling(tmp_path):
    counts = {"steps": 5, "tokens": 7, "trained_tokens": 6, "flops": 11, "train_seconds": 2.0, "peak_bytes": 13}
    for name, kind, seconds in (
        ("base", "base", {"all": 100.0, "training": 90.0}),
        ("first", "train", {"all": 30.0, "compiling": 20.0, "training": 2.0}),
        ("second", "train", {"all": 4.0, "training": 2.0}),
    ):
        (tmp_path / name).mkdir()
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "kind": kind,
            "options": {},
            "cost": counts,
            "seconds": seconds,
        }
        (tmp_path / name / MANIFEST).write_text(json.dumps(manifest))
    cost = training_cost.training_cost({name: str(tmp_path / name) for name in ("base", "first", "second")})
    assert cost["wall_seconds"] == 30 - 20 + 4
    assert (cost["steps"], cost["flops"], cost["train_seconds"], cost["peak_bytes"]) == (10, 22, 4.0, 13)
    assert list(cost["stages"]) == ["base", "first", "second"]


def test_an_unknown_way_of_decoding_is_one_line(model_folder):
    with pytest.raises(AdaptbenchError, match="decodes by 'telepathy'; known are agent"):
        harness.evaluate(model_folder("qwen3"), {"kind": "telepathy"}, [], {}, batch_size=1, limit=None)


def test_validation_and_test_tasks_are_never_mixed(task_folders):
    spec = {"task_directories": {track: str(path) for track, path in task_folders.items()}, "stock": {}}
    of_split = {
        split: {t.name for t in harness.tasks_of(spec | {"options": {"split": split}})}
        for split in ("test", "validation")
    }
    assert of_split["validation"] == {"domain_validation"}
    assert of_split["test"] == {"general_facts", "general_skills", "general_text", "domain_facts", "domain_answers"}


def test_a_model_from_a_newer_version_is_refused(tmp_path):
    write_manifest(tmp_path, {"schema_version": 99})
    with pytest.raises(AdaptbenchError, match="schema version 99 is newer"):
        read_manifest(tmp_path)
    with pytest.raises(AdaptbenchError, match="not made by adaptbench"):
        read_manifest(tmp_path / "none")
