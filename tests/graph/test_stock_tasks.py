"""lm-eval's own tasks by name: documents, metrics and the one number, on made-up data in a local cache of the hub.

Run: pytest tests/graph/test_stock_tasks.py
"""

import math

import pandas as pd
import pytest
import torch

from adaptbench.config import load
from adaptbench.config.preset import Preset
from adaptbench.errors import AdaptbenchError
from adaptbench.evaluate import harness, metrics
from adaptbench.graph import known_tasks, stock_tasks, surroundings, unfolding
from adaptbench.model import storage
from adaptbench.statistics import answers, comparison_table
from tests.support import hub
from tests.support.presets import preset_values

STOCK = {
    "general_arc_easy": {"task": "arc_easy", "num_fewshot": 2},
    "general_mmlu_stem": {"task": "mmlu_stem", "num_fewshot": None},
    "bhs_swahili": {"task": "bhs_swahili", "num_fewshot": None},
    "gsm8k": {"task": "gsm8k", "num_fewshot": 1},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Data sets of four stock tasks; the members of groups are of different sizes."""
    folder = tmp_path_factory.mktemp("hub")
    train, test = [hub.arc(i, i % 4) for i in range(20, 25)], [hub.arc(i, i % 4) for i in range(7)]
    hub.add_data(folder, "allenai/ai2_arc", {"train": train, "validation": train, "test": test}, config="ARC-Easy")
    for size, leaf in enumerate(stock_tasks.describe("mmlu_stem").tasks, 1):
        documents = [
            {"question": f"{leaf} {i}?", "subject": leaf, "choices": [f"{c}{i}" for c in "wxyz"], "answer": i % 4}
            for i in range(1 + size % 3)
        ]
        splits = {"test": documents, "validation": documents, "dev": documents}
        hub.add_data(folder, "cais/mmlu", splits, config=leaf.removeprefix("mmlu_"))
    for size, leaf in enumerate(stock_tasks.describe("bhs_swahili").tasks, 1):
        # What is shorter is likelier: each member's first document comes out right, the others wrong.
        endings = [f"ni {size}", f"ni {size} na kitu kingine"]
        documents = [
            {"context": f"Kikombe {i}", "ending_good": endings[i > 0], "ending_bad": endings[i == 0]}
            for i in range(size)
        ]
        hub.add_data(
            folder, "jmichaelov/bhs", {"test": documents}, config=leaf.removeprefix("bhs__").replace("__", "-")
        )
    problems = [{"question": f"What is {i} + 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(6)]
    hub.add_data(folder, "openai/gsm8k", {"train": problems[3:], "test": problems[:3]}, config="main")
    return folder


@pytest.fixture(scope="module")
def scored(home, model_folder):
    """All four on one toy model, in one call."""
    with pytest.MonkeyPatch.context() as patch:
        hub.use(home, patch)
        folder = model_folder("qwen3")
        found, _ = harness.evaluate(
            folder, {"kind": "plain"}, [], {}, batch_size=8, limit=None, stock=STOCK,
        )  # fmt: skip
    tasks = [stock_tasks.task(name) for name in STOCK]
    return folder, found, metrics.sample_rows(found["samples"], tasks)


def rows_of(rows, task: str, metric: str):
    return rows[(rows["task"] == task) & (rows["metric"] == metric)].sort_values("document")


def test_a_choice_is_scored_as_a_plain_loop_scores_it(scored):
    folder, _, rows = scored
    model, tokenizer = storage.load_model(folder), storage.load_tokenizer(folder)
    mine = rows_of(rows, "general_arc_easy", "acc")
    assert len(mine) == 7
    for number, row in zip(range(7), mine.itertuples(), strict=True):
        document = hub.arc(number, number % 4)
        choices = document["choices"]["text"]
        scores = []
        for choice in choices:
            before, whole = tokenizer(row.prompt).input_ids, tokenizer(f"{row.prompt} {choice}").input_ids
            with torch.no_grad():
                logs = model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
            scores.append(sum(logs[i - 1, whole[i]].item() for i in range(len(before), len(whole))))
        assert row.prediction == choices[scores.index(max(scores))]
        assert row.target == choices[number % 4]
        assert row.value == float(row.prediction == row.target)
        assert row.prompt.endswith(f"Question: {document['question']}\nAnswer:")


def test_examples_before_a_question_are_an_option(scored):
    _, _, rows = scored
    assert {prompt.count("Question:") for prompt in rows_of(rows, "general_arc_easy", "acc")["prompt"]} == {3}
    assert {prompt.count("Question:") for prompt in rows_of(rows, "gsm8k", "exact_match")["prompt"]} == {2}


@pytest.mark.parametrize(("name", "by_size"), [("general_mmlu_stem", True), ("bhs_swahili", False)])
def test_a_group_is_one_number_by_lm_evals_own_weights_and_keeps_its_documents(scored, name, by_size):
    _, found, rows = scored
    entry = STOCK[name]["task"]
    leaves = stock_tasks.describe(entry).tasks
    of_leaf = {leaf: (found["results"][leaf]["acc,none"], len(found["samples"][leaf])) for leaf in leaves}
    assert len({size for _, size in of_leaf.values()}) > 2
    weights = [size if by_size else 1 for _, size in of_leaf.values()]
    expected = sum(value * w for (value, _), w in zip(of_leaf.values(), weights, strict=True)) / sum(weights)
    mine = rows_of(rows, name, "acc")
    assert list(mine["document"]) == list(range(sum(size for _, size in of_leaf.values())))
    assert mine["document_hash"].nunique() == len(mine)
    task = stock_tasks.task(name)
    assert metrics.metric(rows, task)["value"] == pytest.approx(expected)
    assert found["results"][entry]["acc,none"] == pytest.approx(expected)
    plain = mine["value"].mean()
    assert math.isclose(plain, expected) == by_size, "weights must matter in this data"


def test_a_number_that_is_not_lm_evals_is_refused(scored):
    _, found, _ = scored
    one = {"bhs_swahili": STOCK["bhs_swahili"]}
    wrong = {"samples": found["samples"], "results": {"bhs_swahili": {"acc,none": 0.123}}}
    with pytest.raises(AdaptbenchError, match=r"bhs_swahili: the mean over documents is .*, lm-eval's number 0.123"):
        stock_tasks.samples(wrong, one)


def test_every_way_of_reading_an_answer_is_kept(scored):
    _, found, rows = scored
    assert set(rows[rows["task"] == "gsm8k"]["metric"]) == {"exact_match", "exact_match (flexible-extract)"}
    for metric, key in (("exact_match", "strict-match"), ("exact_match (flexible-extract)", "flexible-extract")):
        mine = rows_of(rows, "gsm8k", metric)
        assert list(mine["document"]) == [0, 1, 2]
        assert mine["value"].mean() == pytest.approx(found["results"]["gsm8k"][f"exact_match,{key}"])


def test_tasks_of_general_are_what_is_forgotten_and_pair_by_document(scored):
    _, _, rows = scored
    tasks = known_tasks.known_tasks()
    assert (tasks["general_arc_easy"].label, tasks["general_arc_easy"].unit) == ("arc_easy", "accuracy")
    by_run = {}
    for run, shift in (("full", 0.0), ("lora", 1.0)):
        seeds = [rows.assign(track="domain", run=run, seed=seed) for seed in range(2)]
        made = pd.concat(seeds)
        made["value"] = (made["value"] + shift).clip(0, 1)
        by_run[run] = made
    names = ("general_arc_easy", "general_mmlu_stem", "gsm8k")
    asked = {
        name: {run: answers(made[(made["task"] == name) & (made["metric"] == tasks[name].metric)]) for run,
            made in by_run.items()}
        for name in names
    }  # fmt: skip
    found = {(row["kind"], row["task"]) for row in comparison_table.of_table(asked, "full") if row["kind"] != "leader"}
    assert found == {("kept", "general_arc_easy"), ("kept", "general_mmlu_stem"), ("baseline", "gsm8k")}


def preset(stock: dict, **more) -> Preset:
    return load.validate(preset_values() | {"evaluation": {"stock_tasks": stock, **more}}, "toy.yaml")


def test_a_run_is_asked_the_general_ones_and_its_tracks_own_and_validation_none():
    stock = {"general": ["arc_easy"], "domain": [{"task": "gsm8k", "num_fewshot": 8}]}
    (run,) = [one for one in unfolding.unfold(preset(stock)).evaluations if one.run == "lora"]
    assert run.stock == {
        "general_arc_easy": {"task": "arc_easy", "num_fewshot": None},
        "gsm8k": {"task": "gsm8k", "num_fewshot": 8},
    }
    without = unfolding.unfold(load.validate(preset_values(), "toy.yaml"))
    (plain,) = [one for one in without.evaluations if one.run == "lora"]
    assert plain.model == run.model
    assert plain.digest != run.digest
    chosen = unfolding.unfold(preset(stock, split="validation"))
    assert not any(one.stock for one in chosen.evaluations)


@pytest.mark.parametrize(
    ("stock", "line"),
    [
        ({"general": ["arc_eazy"]},
         r"stock_tasks.general.0: arc_eazy: no task or group of lm-eval .*; did you mean arc_easy"),
        ({"general": ["mmlu", "mmlu_stem"]}, "stock_tasks.general: mmlu and mmlu_stem ask the same documents"),
        ({"general": ["mmlu"], "domain": ["mmlu_anatomy"]}, "stock_tasks.domain: mmlu and mmlu_anatomy ask the same"),
        ({"domain": ["gsm8k", "gsm8k"]}, "stock_tasks.domain: each task once"),
        ({"domain": ["wikitext"]}, "stock_tasks.domain.0: wikitext: its word_perplexity is no mean over documents"),
        ({"domain": ["humaneval"]}, "humaneval runs code that the model writes, which is never done here"),
        ({"domain": ["squadv2"]}, "squadv2 is a Python class of lm-eval, whose metrics no file names"),
        ({"domain": [{"task": "bhs_swahili", "num_fewshot": 3}]}, "domain.0.num_fewshot: must be 0; lm-eval fixes"),
    ],
)  # fmt: skip
def test_a_task_that_cannot_be_asked_is_one_line_before_anything_runs(stock, line):
    with pytest.raises(AdaptbenchError, match=line):
        surroundings._check_surroundings(preset(stock))


@pytest.mark.parametrize(
    ("stock", "line"),
    [
        ({"genral": ["mmlu"]}, "toy.yaml: evaluation.stock_tasks: no data.genral"),
        ({"agent": ["mmlu"]}, "toy.yaml: evaluation.stock_tasks: no data.agent"),
        ({"general": [{"name": "mmlu"}]}, r"evaluation.stock_tasks.general.0.task: missing"),
        ({"general": "mmlu"}, "evaluation.stock_tasks.general: must be a list"),
    ],
)
def test_a_misspelt_option_is_one_line(stock, line):
    with pytest.raises(AdaptbenchError, match=line):
        preset(stock)


def test_data_that_cannot_be_had_are_one_line(tmp_path, monkeypatch):
    hub.use(tmp_path, monkeypatch)
    with pytest.raises(AdaptbenchError, match=r"^evaluation.stock_tasks: arc_easy: .*allenai/ai2_arc"):
        stock_tasks.load({"arc_easy": {"task": "arc_easy", "num_fewshot": None}})


def test_a_task_that_is_scored_by_code_from_the_hub_is_refused():
    with pytest.raises(AdaptbenchError, match=r"^polemo2_in: polemo2_in is scored by code from the hub"):
        stock_tasks.describe("polemo2_in")
