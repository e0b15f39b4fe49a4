"""The presets of papers' models and data: planned without either, and run at toy size from a cache as the hub's clients leave it.

In the runs the presets are changed in size alone: the toy model is found by the preset's hub id, the data by theirs.

Run: pytest tests/test_paper_presets.py
"""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, SMALL_GENERAL, copy_of_project, snakemake
from hub import add_data, add_model

from adaptbench import config, estimate, evaluation, graph, plan, stages, workflow

PRESETS = ("paper-glpft", "paper-lt-tuning")
TOOLBENCH = "Yhyu13/ToolBench_toolllama_G123_dfs"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project, to plan in."""
    return copy_of_project(tmp_path_factory.mktemp("plan") / "project")


@pytest.mark.parametrize("name", PRESETS)
def test_a_dry_run_lists_every_job_without_a_network_a_model_or_data(name, project, tmp_path):
    done = snakemake(project, "-n", "--configfile", f"config/{name}.yaml", HF_HOME=str(tmp_path / "none"))
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = re.findall(r"^    output: (.*)$", done.stdout + done.stderr, re.MULTILINE)
    for run in config.load(project / "config" / f"{name}.yaml").runs:
        assert any(f"results/{name}/runs/{run.track}/{run.name}/seed0/run.json" in one for one in outputs)
    assert any(f"results/{name}/stages/base-" in one for one in outputs)
    assert not (tmp_path / "none").exists(), "planning looked for something"


def commands(path: Path) -> list[tuple[list[str], int | None]]:
    """The command lines in a preset's comments, as the shell splits them, with the GPU memory (GB) that the comments before one name."""
    found, begun, memory = [], "", None
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            continue
        text = line.removeprefix("#").strip()
        if begun or text.startswith((".venv/bin/snakemake", "make ")):
            begun = f"{begun} {text.removesuffix(chr(92))}"
            if not line.endswith(chr(92)) and begun.count("'") % 2 == 0:
                found.append((shlex.split(begun), memory))
                begun = ""
        elif said := re.findall(r"GPUs? of (\d+) GB", text):
            memory = int(said[-1])
    assert not begun, f"{path}: a command without an end: {begun}"
    return found


COMMANDS = [(path, *command) for path in sorted(PROJECT.glob("config/paper-*.yaml")) for command in commands(path)]


def test_the_presets_comments_hold_commands():
    assert len(COMMANDS) >= 7
    assert {path.stem for path, *_ in COMMANDS} >= {*PRESETS, "paper-adept"}
    mentioned = re.findall(
        r"snakemake --|make PRESET", "".join(path.read_text() for path in PROJECT.glob("config/paper-*.yaml"))
    )
    assert len(COMMANDS) == len(mentioned), "some command is not on a line of its own"


@pytest.mark.parametrize(
    ("path", "words", "memory"), COMMANDS, ids=[f"{path.stem}-{i}" for i, (path, *_) in enumerate(COMMANDS)]
)
def test_a_command_in_a_presets_comments_is_valid_and_fits_the_gpus_that_it_names(path, words, memory, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if words[0] == "make":
        assert words[1] == f"PRESET={path.stem}"
        changes = [word.removeprefix("CONFIG=") for word in words[2:]]
    else:
        assert words[1:6] == ["--cores", "all", "--configfile", f"config/{path.stem}.yaml", "--config"]
        changes = words[6:]
    unfolded = graph.unfold(workflow.preset(dict(change.split("=", 1) for change in changes), [path]))
    if memory is not None:
        jobs = estimate.Estimate(unfolded, estimate.Assumptions()).jobs.values()
        assert max(job.state + job.activations for job in jobs) < memory * 1e9


@pytest.fixture(scope="module")
def llama(tmp_path_factory, tokenizer) -> Path:
    """The folder of a toy model of the Llama architecture, with a chat template and without a token for padding, as Llama's are."""
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


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A cache of the hub's clients of its own, in place of the user's, and a working directory."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def make(name: str, change: dict, *runs: str) -> tuple[list[dict], list[dict]]:
    """Stage by stage as the graph does it, some runs of a preset that `change` changes as a second --configfile does.

    Returns their run.json and, of every trained stage, its options.
    """
    Path("toy.yaml").write_text(yaml.safe_dump(change))
    unfolded = workflow.start({}, [PROJECT / "config" / f"{name}.yaml", Path("toy.yaml")])
    found = []
    for key in runs:
        evaluated = unfolded.evaluation(key)
        ends = [end for end in (evaluated.model, evaluated.data, *evaluated.tasks.values()) if end is not None]
        for node in dict.fromkeys(node for end in ends for node in unfolded.ancestors(end)):
            if not unfolded.directory(node).exists():
                stages.run(unfolded.root / "plan" / f"{node}.json", unfolded.directory(node))
        evaluation.run(plan.evaluation_file(unfolded, key), Path("runs") / key)
        found.append(json.loads((Path("runs") / key / "run.json").read_text()))
    nodes = [node for node in unfolded.nodes.values() if unfolded.directory(node.id).exists()]
    return found, [dict(node.options) for node in nodes if node.kind == "train"]


def conversations(count: int, first: int) -> list[dict]:
    """ToolBench's processed form: every conversation twice, once cut after its first step, and one that is broken."""
    apis = [
        {"name": "cup_for_kept", "description": "Finds a cup.", "parameters": {"properties": {"number": {"type": "integer"}}}},
        {"name": "Finish", "description": "Ends.", "parameters": {"properties": {}}},
    ]  # fmt: skip
    made = []
    for number in range(first, first + count):
        asked = f"Is the red cup number {number} kept?"
        call = f'\nThought: I look.\nAction: cup_for_kept\nAction Input: {{"number": {number}}}'
        end = '\nThought: It is.\nAction: Finish\nAction Input: {"return_type": "give_answer", "final_answer": "It is kept."}'
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


def test_glpft_runs_from_a_cached_model_and_cached_data_to_scores(home, llama):
    add_model(home, "meta-llama/Llama-2-7b-chat-hf", llama)
    add_data(home, TOOLBENCH, {"train": conversations(6, 0), "test": conversations(3, 50)})
    change = {"data": {"general": SMALL_GENERAL}, "training": {"sequence_length": 512, "batch_size": 2}}
    (team, always), trained = make("paper-glpft", change, "agent/glpft/seed0", "agent/always-call/seed0")
    assert team["status"] == always["status"] == "done"
    assert team["metrics"]["toolbench_steps"]["documents"] == 6
    assert always["metrics"]["toolbench_steps"]["documents"] == 6
    rates = {stage["phase"]: stage["training"]["learning_rate"] for stage in trained}
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


def test_lt_tuning_runs_from_a_cached_model_and_cached_data_to_scores(home, llama):
    add_model(home, "meta-llama/Llama-3.2-1B", llama)
    problems = [
        {"question": f"Tom has {i} cups and {i} keys. How many?", "answer": f"{i} + {i} = <<{i}+{i}={2 * i}>>{2 * i} kept.\n#### {2 * i}"}
        for i in range(12)
    ]  # fmt: skip
    add_data(home, "openai/gsm8k", {"train": problems[:8], "test": problems[8:]}, config="main")
    add_data(home, "ChilleD/SVAMP", {"test": [{"Body": "Tom has 9 cups.", "Question": "How many?", "Answer": "9"}] * 3})
    add_data(home, "ChilleD/MultiArith", {"test": [{"question": "How many cups?", "final_ans": "4"}] * 2})
    add_data(home, "xuyige/ASDiv-Aug", {"test": [{"question": "How many keys?", "answer": "<<2+3=5>>\n####5"}]})
    short = {"sequence_length": 256, "batch_size": 2, "micro_batch_size": 1}
    (made,), trained = make(
        "paper-lt-tuning", {"data": {"general": SMALL_GENERAL}, "training": short}, "reasoning/lt-tuning/seed0"
    )
    asked = {
        task: made["metrics"][task]["documents"] for task in ("gsm8k_reasoning", "svamp", "multiarith", "asdiv_aug")
    }
    assert asked == {"gsm8k_reasoning": 4, "svamp": 3, "multiarith": 2, "asdiv_aug": 1}
    assert {stage["phase"]: stage["training"]["epochs"] for stage in trained} == {"cot": 1, "hidden": 2, "fused": 7}
    assert made["model"]["parameters"]["trained"] == made["model"]["parameters"]["total"]
