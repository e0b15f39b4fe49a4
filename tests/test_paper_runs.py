"""Every run of the papers' presets, its ablation included, once at toy size: what they name is found in a cache as the hub's clients leave it.

Sizes are cut down; kinds, forms, data sets and the kinds of lm-eval's tasks are the preset's.

Run: pytest tests/test_paper_runs.py
"""

import json
from pathlib import Path

import hub
import pytest
import yaml
from conftest import PROJECT, SMALL_GENERAL, toy_model

from adaptbench import evaluation, plan, stages, stock_tasks, workflow

WORDS = ("one", "two", "three", "four")


def _question(task: str, number: int, **_) -> dict:
    """A made-up document as the data set of one of lm-eval's tasks has it."""
    words = [f"{word} {number}" for word in WORDS]
    if task.startswith("arc"):
        return hub.arc(number, number % 4)
    if task.startswith("cmmlu"):
        return {"Question": f"{task} {number}?", **dict(zip("ABCD", words, strict=True)), "Answer": "ABCD"[number % 4]}
    if task.startswith("mmlu"):
        return {"question": f"{task} {number}?", "subject": task, "choices": words, "answer": number % 4}
    if task == "hellaswag":
        return {"ctx_a": f"The cup {number}", "ctx_b": "is", "activity_label": "Cups", "endings": words, "label": str(number % 4)}  # fmt: skip
    if task == "medqa_4options":
        endings = {f"ending{place}": word for place, word in enumerate(words)}
        return {"sent1": f"Which is {number}?", **endings, "label": number % 4}
    if task == "medmcqa":
        options = {f"op{letter}": word for letter, word in zip("abcd", words, strict=True)}
        return {"question": f"Which is {number}?", **options, "cop": number % 4}
    return {"question": f"What is {number} + 1?", "answer": f"It is {number + 1}.\n#### {number + 1}"}


def _add_stock(home: Path, tasks: list[str]) -> None:
    """The data of lm-eval's tasks, two documents to test on."""
    for task in tasks:
        index = stock_tasks._manager((task,)).task_index
        for leaf in stock_tasks.describe(task).tasks:
            options = index[leaf].cfg
            splits = {
                options[f"{use}_split"]: [_question(leaf, i + 10 * place) for i in range(2 if use == "test" else 6)]
                for place, use in enumerate(("training", "fewshot", "validation", "test"))
                if options.get(f"{use}_split")
            }
            hub.add_data(home, options["dataset_path"], splits, config=options.get("dataset_name") or "default")


def _add_texts(home: Path, name: str, field: str, config: str) -> None:
    texts = [{field: f"{name} {i}: the cup number {i * i} is kept by {'ab'[i % 2]}."} for i in range(60)]
    hub.add_data(home, name, {"train": texts}, config=config)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A cache of the hub's clients of its own, and a working directory."""
    hub.use(tmp_path / "home", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture(scope="module")
def models(tmp_path_factory, tokenizer) -> dict[str, Path]:
    """Toy models: of eight layers, which ADEPT's need, and of two."""
    folders = {}
    for name, layers in (("llama", 8), ("qwen3", 8), ("small llama", 2)):
        folders[name] = tmp_path_factory.mktemp(name)
        toy_model(name.split()[-1], layers=layers, vocabulary=len(tokenizer)).save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


STOCK = {
    "paper-adept": {"general": ["mmlu_abstract_algebra", "cmmlu_agronomy", "hellaswag"], "domain": ["gsm8k"]},
    "paper-adept-llama3": {"general": ["arc_easy", "arc_challenge"], "domain": ["medqa_4options", "medmcqa"]},
}
"""Of each kind that the presets ask for, groups by one of their tasks."""


@pytest.mark.parametrize(
    ("name", "model", "architecture", "corpora"),
    [
        ("paper-adept", "Qwen/Qwen3-1.7B-Base", "qwen3", {"open-web-math/open-web-math": ("text", "default")}),
        ("paper-adept-llama3", "meta-llama/Meta-Llama-3-8B", "llama", {"epfl-llm/guidelines": ("clean_text", "default")}),
    ],
)  # fmt: skip
def test_every_run_of_adepts_presets_ends_and_answers_its_tasks(name, model, architecture, corpora, home, models):
    asked = yaml.safe_load((PROJECT / "config" / f"{name}.yaml").read_text())["evaluation"]["stock_tasks"]
    for track, tasks in STOCK[name].items():
        assert all(any(task.startswith(one) for one in asked[track]) for task in tasks), (
            "of a kind that the preset asks"
        )
        _add_stock(home, tasks)
    hub.add_model(home, model, models[architecture])
    for corpus, (field, config) in (corpora | {"HuggingFaceFW/fineweb-edu": ("text", "sample-10BT")}).items():
        _add_texts(home, corpus, field, config)
    few = {"steps": 1, "batch_size": 2, "micro_batch_size": 1, "sequence_length": 32, "precision": "float32"}
    change = {
        "data": {
            "general": {"probe_documents": 4, "replay_documents": 10, "test_items": 4},
            "domain": {"train_items": 30, "validation_items": 4, "test_items": 4},
        },
        "training": few,
        "evaluation": {"stock_tasks": STOCK[name]},
    }
    for run, result in _all(name, change).items():
        tasks = {task.split("/")[-1] for task in result["metrics"]}
        assert {"general_corpus_text", "corpus_text", *STOCK[name]["domain"]} <= tasks, run
        assert {f"general_{task}" for task in STOCK[name]["general"]} <= tasks, run


def test_every_run_of_glpfts_preset_ends_and_is_scored(home, models):
    from test_paper_presets import TOOLBENCH, conversations

    hub.add_model(home, "meta-llama/Llama-2-7b-chat-hf", models["small llama"])
    hub.add_data(home, TOOLBENCH, {"train": conversations(4, 0), "test": conversations(2, 50)})
    few = {"sequence_length": 512, "batch_size": 2, "precision": "float32"}
    for run, result in _all("paper-glpft", {"data": {"general": SMALL_GENERAL}, "training": few}).items():
        assert result["metrics"]["toolbench_steps"]["documents"] == 4, run


def test_every_run_of_lt_tunings_preset_ends_and_answers_every_set(home, models):
    hub.add_model(home, "meta-llama/Llama-3.2-1B", models["small llama"])
    problems = [
        {"question": f"Tom has {i} cups and {i} keys. How many?", "answer": f"{i} + {i} = <<{i}+{i}={2 * i}>>{2 * i} kept.\n#### {2 * i}"}
        for i in range(6)
    ]  # fmt: skip
    hub.add_data(home, "openai/gsm8k", {"train": problems[:4], "test": problems[4:]}, config="main")
    hub.add_data(
        home, "ChilleD/SVAMP", {"test": [{"Body": "Tom has 9 cups.", "Question": "How many?", "Answer": "9"}] * 2}
    )
    hub.add_data(home, "ChilleD/MultiArith", {"test": [{"question": "How many cups?", "final_ans": "4"}] * 2})
    hub.add_data(home, "xuyige/ASDiv-Aug", {"test": [{"question": "How many keys?", "answer": "<<2+3=5>>\n####5"}]})
    few = {"sequence_length": 256, "batch_size": 2, "micro_batch_size": 1, "precision": "float32"}
    for run, result in _all("paper-lt-tuning", {"data": {"general": SMALL_GENERAL}, "training": few}).items():
        assert {"gsm8k_reasoning", "svamp", "multiarith", "asdiv_aug"} <= set(result["metrics"]), run


def _all(name: str, change: dict) -> dict[str, dict]:
    """The run.json of every run of the preset, which `change` changes as a second --configfile does; stages are made as the graph makes them."""
    Path("toy.yaml").write_text(yaml.safe_dump(change))
    unfolded = workflow.start({}, [PROJECT / "config" / f"{name}.yaml", Path("toy.yaml")])
    written = yaml.safe_load((PROJECT / "config" / f"{name}.yaml").read_text())
    found = {}
    for evaluated in unfolded.evaluations:
        for end in (evaluated.model, evaluated.data, *evaluated.tasks.values()):
            for node in unfolded.ancestors(end) if end is not None else ():
                if not unfolded.directory(node).exists():
                    stages.run(unfolded.root / "plan" / f"{node}.json", unfolded.directory(node))
        out = unfolded.root / "runs" / evaluated.key
        evaluation.run(plan.evaluation_file(unfolded, evaluated.key), out)
        found[evaluated.run] = json.loads((out / "run.json").read_text())
    assert found.keys() >= {run["name"] for run in (*written["runs"], *written.get("ablation", ()))}
    policies = {one.run for one in unfolded.evaluations if one.policy}
    assert all(result["status"] == "done" for result in found.values())
    return {run: result for run, result in found.items() if run not in policies}
