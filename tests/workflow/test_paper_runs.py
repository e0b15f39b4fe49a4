"""Every kind of run of the papers' presets, the ablation included, once at toy size.

What they name is found in a cache as the hub's clients leave it.

Sizes are cut down; kinds, forms, data sets and the kinds of lm-eval's tasks are the preset's.

Run: pytest tests/workflow/test_paper_runs.py
"""

import json
from pathlib import Path

import pytest
import yaml

from adaptbench.evaluate import score
from adaptbench.graph import plan_files, surroundings
from adaptbench.graph.nodes import Graph
from adaptbench.stages import job
from tests.support import hub
from tests.support.models import toy_model
from tests.support.presets import SMALL_GENERAL
from tests.support.project import PROJECT

TOOLBENCH = "Yhyu13/ToolBench_toolllama_G123_dfs"
STOCK = {
    "paper-adept": {"general": ["mmlu_abstract_algebra", "cmmlu_agronomy", "hellaswag"], "domain": ["gsm8k"]},
    "paper-adept-llama3": {"general": ["arc_easy", "arc_challenge"], "domain": ["medqa_4options", "medmcqa"]},
}
"""Of each kind that the presets ask for, groups by one of their tasks."""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A cache of the hub's clients of its own, and a working directory."""
    hub.use(tmp_path / "home", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture(scope="module")
def llama(tmp_path_factory, tokenizer) -> Path:
    """The folder of a toy model of the Llama architecture, with a chat template and without a token for padding, as
    Llama's are.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("llama")
    ends = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    own = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **ends)
    own.chat_template = "{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}"
    own.save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "max_position_embeddings": 2048}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    torch.manual_seed(0)
    ids = {"bos_token_id": own.bos_token_id, "eos_token_id": own.eos_token_id}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(own), **sizes, **heads, **ids)).save_pretrained(folder)
    return folder


def conversations(count: int, first: int) -> list[dict]:
    """ToolBench's processed form: every conversation twice, once cut after its first step, and one that is broken."""
    apis = [
        {"name": "cup_for_kept", "description": "Finds a cup.",
         "parameters": {"properties": {"number": {"type": "integer"}}}},
        {"name": "Finish", "description": "Ends.", "parameters": {"properties": {}}},
    ]  # fmt: skip
    made = []
    for number in range(first, first + count):
        asked = f"Is the red cup number {number} kept?"
        call = f'\nThought: I look.\nAction: cup_for_kept\nAction Input: {{"number": {number}}}'
        end = (
            '\nThought: It is.\nAction: Finish\nAction Input: {"return_type": "give_answer", "final_answer": "It '
            'is kept."}'
        )
        turns = [
            {
                "from": "system",
                "value": f"You have tools.\nSpecifically, you have access to the following APIs: {apis}",
            },
            {"from": "user", "value": f"\n{asked}\nBegin!\n"},
            {"from": "assistant", "value": call},
            {"from": "function", "value": '{"error": "", "response": "kept"}'},
            {"from": "assistant", "value": end},
        ]
        made += [{"id": f"Step {step}: {asked}", "conversations": turns[: step + 1]} for step in (2, 4)]
    return [*made, {"id": "Step 9: x", "conversations": []}]


@pytest.mark.parametrize(
    ("name", "model", "architecture", "corpus", "field"),
    [
        ("paper-adept", "Qwen/Qwen3-1.7B-Base", "qwen3", "open-web-math/open-web-math", "text"),
        ("paper-adept-llama3", "meta-llama/Meta-Llama-3-8B", "llama", "epfl-llm/guidelines", "clean_text"),
    ],
    ids=STOCK,
)
def test_every_run_of_adepts_presets_ends_and_answers_its_tasks(
    name, model, architecture, corpus, field, home, tmp_path, tokenizer
):
    written = yaml.safe_load((PROJECT / "config" / f"{name}.yaml").read_text())
    asked = written["evaluation"]["stock_tasks"]
    for track, tasks in STOCK[name].items():
        assert all(any(task.startswith(one) for one in asked[track]) for task in tasks), (
            "of a kind that the preset asks"
        )
        hub.add_stock(home, tasks)
    toy_model(architecture, layers=8, vocabulary=len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    hub.add_model(home, model, tmp_path / "model")
    hub.add_texts(home, corpus, field=field)
    hub.add_texts(home, "HuggingFaceFW/fineweb-edu", config="sample-10BT")
    change = {
        "data": {
            "general": {"probe_documents": 4, "replay_documents": 10, "test_items": 4},
            "domain": {"train_items": 30, "validation_items": 4, "test_items": 4},
        },
        "training": {"steps": 2, "batch_size": 2, "micro_batch_size": 1, "sequence_length": 32, "precision": "float32"},
        "evaluation": {"stock_tasks": STOCK[name]},
    }
    for group in ("runs", "ablation"):
        if name == "paper-adept-llama3":  # the others are those of paper-adept
            written[group] = [run for run in written[group] if run["name"] in ("full", "adept", "adept-no-copy")]
        for run in written[group]:
            if "refresh_every" in run["tuner"]:  # every 500 steps there, of which these have two
                run["tuner"]["refresh_every"] = 1
            if isinstance(run["tuner"].get("placement"), list):  # of 28 layers
                run["tuner"]["placement"] = [layer - 20 for layer in run["tuner"]["placement"]]
        change[group] = written[group]
    for run, result in make(name, change)[0].items():
        assert {"general_corpus_text", "corpus_text", *STOCK[name]["domain"]} <= set(result["metrics"]), run
        assert {f"general_{task}" for task in STOCK[name]["general"]} <= set(result["metrics"]), run


def test_every_run_of_glpfts_preset_ends_and_is_scored(home, llama):
    hub.add_model(home, "meta-llama/Llama-2-7b-chat-hf", llama)
    hub.add_data(home, TOOLBENCH, {"train": conversations(6, 0), "test": conversations(3, 50)})
    change = {"data": {"general": SMALL_GENERAL}, "training": {"sequence_length": 512, "batch_size": 2}}
    made, unfolded = make("paper-glpft", change)
    assert "always-call" in made
    for run, result in made.items():
        assert result["metrics"]["toolbench_steps"]["documents"] == 6, run
    rates = {stage["phase"]: stage["training"]["learning_rate"] for stage in trained(unfolded, "agent/glpft/seed0")}
    assert rates == {
        "global": 5e-5,
        "planner": pytest.approx(1e-5),
        "caller": pytest.approx(1e-5),
        "summarizer": pytest.approx(1e-5),
    }
    (manifest,) = Path("results/paper-glpft/data").glob("agent-*/manifest.json")
    left_out = json.loads(manifest.read_text())["left_out"]
    assert {reason: len(numbers) for reason, numbers in left_out[f"{TOOLBENCH} train"].items()} == {
        "a part of a longer path": 6,
        "its system text does not end in a list of APIs": 1,
    }


def test_every_run_of_lt_tunings_preset_ends_and_answers_every_set(home, llama):
    hub.add_model(home, "meta-llama/Llama-3.2-1B", llama)
    problems = [
        {"question": f"Tom has {i} cups and {i} keys. How many?",
         "answer": f"{i} + {i} = <<{i}+{i}={2 * i}>>{2 * i} kept.\n#### {2 * i}"}
        for i in range(12)
    ]  # fmt: skip
    hub.add_data(home, "openai/gsm8k", {"train": problems[:8], "test": problems[8:]}, config="main")
    hub.add_data(
        home, "ChilleD/SVAMP", {"test": [{"Body": "Tom has 9 cups.", "Question": "How many?", "Answer": "9"}] * 3}
    )
    hub.add_data(home, "ChilleD/MultiArith", {"test": [{"question": "How many cups?", "final_ans": "4"}] * 2})
    hub.add_data(home, "xuyige/ASDiv-Aug", {"test": [{"question": "How many keys?", "answer": "<<2+3=5>>\n####5"}]})
    short = {"sequence_length": 256, "batch_size": 2, "micro_batch_size": 1}
    made, unfolded = make("paper-lt-tuning", {"data": {"general": SMALL_GENERAL}, "training": short})
    sizes = {"gsm8k_reasoning": 4, "svamp": 3, "multiarith": 2, "asdiv_aug": 1}
    for run, result in made.items():
        assert {task: result["metrics"][task]["documents"] for task in sizes} == sizes, run
    epochs = {stage["phase"]: stage["training"]["epochs"] for stage in trained(unfolded, "reasoning/lt-tuning/seed0")}
    assert epochs == {"cot": 1, "hidden": 2, "fused": 7}
    parameters = made["lt-tuning"]["model"]["parameters"]
    assert parameters["trained"] == parameters["total"]


def make(name: str, change: dict) -> tuple[dict[str, dict], Graph]:
    """The run.json of every run of the preset, which `change` changes as a second --configfile does, and its graph.
    Stages are made one after another, each as the graph makes it.
    """
    path = PROJECT / "config" / f"{name}.yaml"
    Path("toy.yaml").write_text(yaml.safe_dump(change))
    unfolded = surroundings.load_graph({}, [path, Path("toy.yaml")])
    plan_files.write(unfolded)
    found = {}
    for evaluated in unfolded.evaluations:
        for end in (evaluated.model, evaluated.data, *evaluated.tasks.values()):
            for node in unfolded.ancestors(end) if end is not None else ():
                if not unfolded.directory(node).exists():
                    job.run(unfolded.root / "plan" / f"{node}.json", unfolded.directory(node))
        out = unfolded.root / "runs" / evaluated.key
        score.run(plan_files.evaluation_file(unfolded, evaluated.key), out)
        found[evaluated.run] = json.loads((out / "run.json").read_text())
    written = yaml.safe_load(path.read_text()) | change
    assert found.keys() >= {run["name"] for run in (*written["runs"], *written.get("ablation", ()))}
    assert all(result["status"] == "done" for result in found.values())
    return found, unfolded


def trained(unfolded: Graph, key: str) -> list[dict]:
    """The options of every stage that a run's model was trained in."""
    nodes = (unfolded.nodes[node] for node in unfolded.ancestors(unfolded.evaluation(key).model))
    return [dict(node.options) for node in nodes if node.kind == "train"]
