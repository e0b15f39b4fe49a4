"""Teams: what the curricula for agents end in, what their stages share, and what a team of adapters saves.

Everything is made by the real plan and stages from one small preset; weights are compared with matrices merged by hand,
steps with those that the stages took.

Run: python -m pytest tests/agent/test_team.py
"""

import hashlib
import json
import os
import shutil
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from adaptbench.agent import language_model, team
from adaptbench.agent.dialogue import TEAM
from adaptbench.benchmarks.agent import world
from adaptbench.config import load
from adaptbench.data.tokenizer import train
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import plan_files, unfolding
from adaptbench.graph.nodes import Graph, Node
from adaptbench.model import storage
from adaptbench.stages import job
from adaptbench.train import loop
from adaptbench.train.optimizers import total_steps
from tests.support.models import reset_accelerate
from tests.support.presets import SMALL_GENERAL, preset_values

SIZES = {
    "kind": "world", "train_problems": 20, "validation_problems": 4, "test_problems": 4,
}  # fmt: skip
FULL, LORA, PRO = {"kind": "full"}, {"kind": "lora", "rank": 2, "alpha": 8.0}, {"kind": "llama_pro", "layers": 2}
ADEPT = {
    "kind": "adept", "layers": 2, "refresh_every": 2, "probe_batch_size": 4, "probe_length": 64, "probe_documents": 8,
}  # fmt: skip
LOCAL = {role: {"steps": steps} for role, steps in zip(TEAM, (2, 1, 3), strict=True)}
EPOCHS = {"planner": {"epochs": 0.5}, "caller": {"epochs": 1.0, "batch_size": 3}, "summarizer": {"epochs": 2}}
PASS = {"training": {"epochs": 1.0}}


def _run(name, kind, tuner, **more):
    training = more.pop("training", {})
    return {
        "name": name, "track": "agent", "curriculum": {"kind": kind, **more}, "tuner": tuner, "training": training,
    }  # fmt: skip


RUNS = [
    _run("single", "single", FULL),
    _run("single-lora", "single", LORA),
    _run("multi-task", "multi_task", FULL),
    _run("matched", "single_matched", FULL, **LOCAL),
    _run("glpft", "glpft", FULL, **LOCAL),
    _run("glpft-lora", "glpft", LORA, **LOCAL),
    _run("glpft-pro", "glpft", PRO, **LOCAL),
    _run("glpft-adept", "glpft", ADEPT, **LOCAL),
    _run("multi-task-lora", "multi_task", LORA),
    _run("multi-task-pro", "multi_task", PRO),
    _run("multi-task-adept", "multi_task", ADEPT),
    _run("matched-lora", "single_matched", LORA, **LOCAL),
    _run("matched-pro", "single_matched", PRO, **LOCAL),
    _run("matched-adept", "single_matched", ADEPT, **LOCAL),
    _run("single-pro", "single", PRO),
    _run("single-adept", "single", ADEPT),
    _run("one-stage-pro", "one_stage", PRO),
    _run("one-stage-adept", "one_stage", ADEPT),
    _run("one-stage", "one_stage", FULL),
    _run("one-stage-lora", "one_stage", LORA),
    _run("glpft-halves", "glpft", FULL, reuse=False),
    _run("single-half", "single", FULL, trajectories="first_half"),
    _run("glpft-epochs", "glpft", FULL, **EPOCHS, **PASS),
    _run("matched-epochs", "single_matched", FULL, **EPOCHS, **PASS),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A plain folder of a random Qwen3 that is wide against the adapters' rank, and reads this world in few tokens."""
    folder = tmp_path_factory.mktemp("base")
    train([one["text"] for one in world.build(world.Config.model_validate(SIZES), 0, {})["train"]], 450, folder)
    tokenizer = storage.load_tokenizer(folder)
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=4, head_dim=32,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=True,
            pad_token_id=0, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    return folder


def _values(base, runs=RUNS):
    return {
        "name": "teams",
        "seeds": [0],
        "base": {"model": str(base)},
        "data": {
            "general": SMALL_GENERAL,
            "agent": SIZES,
        },
        "training": {"steps": 3, "batch_size": 2, "sequence_length": 256, "learning_rate": 5e-3,
        "precision": "float32"},
        "runs": runs,
    }  # fmt: skip


def _unfold(base, runs=RUNS):
    return unfolding.unfold(load.validate(_values(base, runs), "teams.yaml"))


@dataclass
class _Workspace:
    """A folder with results/, in which the nodes of runs are made once."""

    folder: Path
    unfolded: Graph
    before: dict[str, str] = field(default_factory=dict)

    def node(self, run: str) -> Node:
        """The node that a run ends in."""
        return self.unfolded.nodes[self.unfolded.evaluation(f"agent/{run}/seed0").model]

    def path(self, node: str) -> Path:
        return self.folder / self.unfolded.directory(node)

    def make(self, run: str) -> Path:
        """The directory that a run ends in. Of those that it was assembled from, the contents are noted before that."""
        end = self.node(run)
        with chdir(self.folder):
            for node in self.unfolded.ancestors(end.id):
                out = self.unfolded.directory(node)
                if not out.exists():
                    if self.unfolded.nodes[node].kind == "assemble":
                        parents = self.unfolded.nodes[node].parents.values()
                        self.before |= {parent: _contents(self.path(parent)) for parent in parents}
                    self.stage(node)
        return self.path(end.id)

    def stage(self, node: str) -> None:
        reset_accelerate()
        plan_files.write(self.unfolded)
        job.run(self.unfolded.root / "plan" / f"{node}.json", self.unfolded.directory(node))

    def roles(self, run: str) -> dict[str, Path]:
        """The directories of the stages of a run's team."""
        return {role: self.path(self.node(run).parents[role]) for role in TEAM}


def _contents(folder: Path) -> str:
    """Names, contents and time stamps of all that is in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path.relative_to(folder)} {path.stat().st_mtime_ns} {path.stat().st_mode}".encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory, base):
    yield _Workspace(tmp_path_factory.mktemp("teams"), _unfold(base))
    reset_accelerate()


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def _ids(folder: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return torch.tensor([tokenizer("Tools:\nadd(a, b): a plus b\nTask: What is 3 plus 4?\nThought:").input_ids])


def _logits(model, ids):
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits


def _opened(folder: Path):
    """The model as plain transformers opens it: nothing missing, nothing left over."""
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    assert not any(name.startswith("adapter") for name in os.listdir(folder))
    return model


def _size(folder: Path, *, weights_only: bool = False) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors" if weights_only else "*") if file.is_file())


def _manifest(folder: Path) -> dict:
    return json.loads((folder / "adaptbench.json").read_text())


# --- three models


@pytest.mark.parametrize("run", ["glpft", "glpft-pro", "glpft-adept", "one-stage", "one-stage-pro", "one-stage-adept"])
def test_a_team_is_three_plain_models_each_its_stages_own(made, run):
    folder = made.make(run)
    assert {path.name for path in folder.iterdir()} == {*TEAM, "adaptbench.json"}
    assert _manifest(folder)["decode"] == {"kind": "agent", "roles": {role: role for role in TEAM}}
    ids = _ids(folder / "planner")
    parent = made.path(made.unfolded.nodes[made.node(run).parents["planner"]].parents["model"])
    logits = {role: _logits(_opened(folder / role), ids) for role in TEAM}
    logits["where they start"] = _logits(_opened(parent), ids)
    for role, stage in made.roles(run).items():
        assert torch.equal(logits[role], _logits(_opened(stage), ids))
    names = list(logits)
    apart = [(logits[a] - logits[b]).abs().max() for i, a in enumerate(names) for b in names[:i]]
    assert min(apart) > 1e-3, "two members are one model"


@pytest.mark.parametrize(
    "run", ["single", "single-lora", "multi-task", "glpft", "glpft-lora", "one-stage", "one-stage-lora", "glpft-pro"]
)
def test_the_parameters_that_are_told_are_those_in_the_files(made, run):
    folder = made.make(run)
    kept = sum(
        tensor.numel() for place in (folder, *folder.iterdir()) if place.is_dir() for tensor in _weights(place).values()
    )
    assert _manifest(folder)["parameters"]["total"] == kept


@pytest.mark.parametrize("tuner", ["", "-lora", "-pro", "-adept"])
@pytest.mark.parametrize(
    ("run", "roles"), [("multi-task", TEAM), ("single", ("assistant",)), ("matched", ("assistant",))]
)
def test_one_model_plays_all_roles_under_multi_task_and_one_under_single(made, run, roles, tuner):
    folder = made.make(run + tuner)
    decode = _manifest(folder)["decode"]
    assert decode == {"kind": "agent", "roles": dict.fromkeys(roles, ".")}
    assert list(decode["roles"]) == list(roles)
    lm = language_model.language_model(folder, batch_size=2, tasks={}, roles=decode["roles"])
    assert set(lm.members) == set(roles)
    assert len({id(member.model) for member in lm.members.values()}) == 1
    _opened(folder)


# --- one model and three adapters


def test_a_team_of_adapters_keeps_the_merged_global_model_once(made):
    folder = made.make("glpft-lora")
    assert {path.name for path in folder.iterdir()} == {"base", *TEAM, "adaptbench.json"}
    assert _manifest(folder)["decode"] == {"kind": "agent", "roles": {role: role for role in TEAM}, "base": "base"}
    merged = made.path(made.node("glpft-lora").parents["global"])
    assert merged == made.make("single-lora"), "the global stage of single under the same tuner"
    before, base = _weights(merged), _weights(folder / "base")
    assert before.keys() == base.keys()
    assert all(torch.equal(before[name], base[name]) for name in before)
    _opened(folder / "base")
    for role in TEAM:
        names = {path.name for path in (folder / role).glob("*.safetensors")}
        assert names == {"adapter_model.safetensors"}
        assert all("lora_" in name for name in _weights(folder / role))


def test_without_a_global_stage_the_adapters_base_is_the_start_model(made):
    folder = made.make("one-stage-lora")
    start = made.path(made.node("one-stage-lora").parents["start"])
    assert made.unfolded.nodes[start.name].kind == "imported_base"
    assert (folder / "base" / "model.safetensors").read_bytes() == (start / "model.safetensors").read_bytes()


def test_adapters_store_a_third_and_little_more(made, capsys):
    """Three models against one and three adapters of rank 2 in width 128."""
    full, adapters = made.make("glpft"), made.make("glpft-lora")
    ratio = _size(adapters) / _size(full)
    weights = _size(adapters, weights_only=True) / _size(full, weights_only=True)
    with capsys.disabled():
        print(f"\nadapters / full: weights {weights:.3f}, all files {ratio:.3f}")
    assert ratio <= 0.45
    assert 1 / 3 < weights <= 0.45


def _merged_by_hand(base: Path, adapter: Path, scale: float):
    """The base's matrices plus scale * B A, by the names in the adapter's file."""
    model, factors = AutoModelForCausalLM.from_pretrained(base), _weights(adapter)
    parameters = dict(model.named_parameters())
    changed = 0
    for name in factors:
        if name.endswith("lora_A.weight"):
            a, b = factors[name], factors[name.replace("lora_A", "lora_B")]
            matrix = name.removeprefix("base_model.model.").replace(".lora_A", "")
            with torch.no_grad():
                parameters[matrix].add_(scale * b @ a)
            changed += 1
    assert changed == 7 * 4
    return model


@pytest.mark.parametrize("run", ["glpft-lora", "one-stage-lora"])
def test_each_roles_logits_are_those_of_the_base_and_its_adapter_merged_by_hand(made, run):
    folder = made.make(run)
    decode = {name: value for name, value in _manifest(folder)["decode"].items() if name != "kind"}
    lm = language_model.language_model(folder, batch_size=2, tasks={}, **decode)
    ids = _ids(folder / "base")
    start = _logits(AutoModelForCausalLM.from_pretrained(folder / "base"), ids)
    found = {}
    for role in (*TEAM, *reversed(TEAM)):  # in turn, there and back
        lm.members[role].use()
        logits = _logits(lm.members[role].model, ids)
        hand = _merged_by_hand(folder / "base", folder / role, LORA["alpha"] / LORA["rank"])
        torch.testing.assert_close(logits, _logits(hand, ids), rtol=1e-5, atol=3e-5)
        found[role] = logits
    everyone = [*found.values(), start]
    apart = [(a - b).abs().max() for i, a in enumerate(everyone) for b in everyone[:i]]
    assert min(apart) > 1e-3, "two members write alike, so that nothing is told apart"


def test_the_adapters_are_those_that_their_stages_trained(made):
    folder = made.make("glpft-lora")
    for role, stage in made.roles("glpft-lora").items():
        assert (folder / role / "adapter_model.safetensors").read_bytes() == (
            stage / "adapter_model.safetensors"
        ).read_bytes()


# --- links


@pytest.mark.parametrize("run", ["glpft", "glpft-lora"])
def test_assembling_changes_nothing_in_what_it_is_assembled_from(made, run):
    folder = made.make(run)
    parents = {made.path(parent): made.before[parent] for parent in made.node(run).parents.values()}
    for parent, contents in parents.items():
        assert _contents(parent) == contents
    # Its files are theirs, not copies; and its own manifest is nobody else's.
    for role, stage in made.roles(run).items():
        for file in stage.glob("*.safetensors"):
            assert (folder / role / file.name).stat().st_ino == file.stat().st_ino
    assert (folder / "adaptbench.json").stat().st_nlink == 1
    # Made again, and evaluated, it still changes nothing.
    with chdir(made.folder):
        made.stage(made.node(run).id)
        decode = {name: value for name, value in _manifest(folder)["decode"].items() if name != "kind"}
        language_model.language_model(folder, batch_size=2, tasks={}, **decode)
    for parent, contents in parents.items():
        assert _contents(parent) == contents


def test_where_files_cannot_be_linked_they_are_copied(made, tmp_path, monkeypatch):
    made.make("glpft")

    def refuse(source, target):
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    members = {role: made.path(node) for role, node in made.node("glpft").parents.items()}
    team.assemble(members, tmp_path)
    for role in TEAM:
        names = {path.name for path in members[role].iterdir()}
        assert {path.name for path in (tmp_path / role).iterdir()} == names
        for name in names:
            copy, source = tmp_path / role / name, members[role] / name
            assert copy.stat().st_ino != source.stat().st_ino
            assert copy.read_bytes() == source.read_bytes()


# --- stages that curricula share


def test_the_global_stage_is_the_stage_of_single(made):
    shared = made.node("single").id
    for run in ("glpft", "matched"):
        parents = {node for node in made.unfolded.ancestors(made.node(run).id)}
        assert (shared in parents) == (run == "glpft")
    assert made.node("glpft").parents["global"] == shared
    assert made.node("glpft-lora").parents["global"] == made.node("single-lora").id
    for run in ("glpft", "glpft-lora"):
        for role in TEAM:
            role_node = made.unfolded.nodes[made.node(run).parents[role]]
            assert role_node.parents["model"] == made.node(run).parents["global"]


def test_without_reuse_the_global_stage_is_singles_on_one_half(made):
    ends = {run: made.node(run).id for run in ("single", "single-half")}
    assert made.node("glpft-halves").parents["global"] == ends["single-half"] != ends["single"]


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({}, True),
        ({"replay": 0.2}, False),
        ({"local_rate_ratio": 0.5}, True),
        ({"planner": {"steps": 9}}, True),
    ],
    ids=str,
)
def test_the_global_stage_is_shared_as_far_as_options_are_the_same(base, change, shared):
    unfolded = _unfold(base, [_run("single", "single", FULL), _run("glpft", "glpft", FULL, **change)])
    ends = {one.run: unfolded.nodes[one.model] for one in unfolded.evaluations if one.model}
    assert (ends["glpft"].parents["global"] == ends["single"].id) == shared


def test_with_the_same_replay_single_and_the_global_stage_are_one_again(base):
    runs = [_run("single", "single", FULL, replay=0.2), _run("glpft", "glpft", FULL, replay=0.2)]
    unfolded = _unfold(base, runs)
    ends = {one.run: unfolded.nodes[one.model] for one in unfolded.evaluations if one.model}
    assert ends["glpft"].parents["global"] == ends["single"].id


def test_local_stages_train_at_the_ratio_of_the_global_rate_unless_they_say_otherwise(base):
    own = {"planner": {"learning_rate": 0.7}, "caller": {"weight_decay": 0.01}}
    unfolded = _unfold(
        base, [_run("glpft", "glpft", FULL, local_rate_ratio=0.1, training={"learning_rate": 0.02}, **own)]
    )
    end = unfolded.nodes[unfolded.evaluation("agent/glpft/seed0").model]
    options = {role: unfolded.nodes[node].options.get("training") for role, node in end.parents.items()}
    assert options["global"]["learning_rate"] == 0.02
    assert options["planner"]["learning_rate"] == 0.7
    assert options["caller"]["learning_rate"] == options["summarizer"]["learning_rate"] == pytest.approx(0.002)
    assert [options[role]["weight_decay"] for role in ("global", *TEAM)] == [0.0, 0.0, 0.01, 0.0]


# --- the control that takes as many steps


def _steps(made, run) -> int:
    """What the training stages of a run took."""
    made.make(run)
    nodes = [node for node in made.unfolded.ancestors(made.node(run).id) if made.unfolded.nodes[node].kind == "train"]
    return sum(_manifest(made.path(node))["cost"]["steps"] for node in nodes)


@pytest.mark.parametrize(("control", "run"), [("matched", "glpft"), ("matched-epochs", "glpft-epochs")])
def test_the_control_takes_exactly_the_steps_of_all_four_stages(made, control, run):
    assert _steps(made, control) == _steps(made, run)
    if run == "glpft":
        assert _steps(made, control) == 3 + 2 + 1 + 3
    rates = [json.loads(line)["learning_rate"] for line in (made.make(control) / "training.jsonl").open()]
    assert len(rates) == _steps(made, control)
    peak = rates.index(max(rates))
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True), "more than one schedule"
    assert rates[-1] < rates[peak]


class _Counted(Exception):
    pass


def _counted_steps(folder, unfolded, run, monkeypatch) -> int:
    """The steps that the stages of a run would take: each goes as far as the loop, on the base as every stage's
    start.
    """
    end = unfolded.evaluation(f"agent/{run}/seed0").model
    counts = []

    def count(model, optimizers, data, objective, training, **more):
        counts.append(total_steps(training, data))
        raise _Counted

    for node in unfolded.ancestors(end):
        kind = unfolded.nodes[node].kind
        out = unfolded.directory(node)
        if kind == "train":
            with monkeypatch.context() as patch:
                patch.setattr(loop, "train", count)
                with pytest.raises(_Counted):
                    job.run(unfolded.root / "plan" / f"{node}.json", out)
            start = unfolded.directory(unfolded.nodes[node].parents["model"])
            if not out.exists():
                shutil.copytree(folder / start, out)
        elif kind != "assemble" and not out.exists():
            job.run(unfolded.root / "plan" / f"{node}.json", out)
    return sum(counts)


@pytest.mark.parametrize(
    ("options", "training"),
    [
        ({}, {"epochs": 1.0}),
        ({"reuse": False}, {"epochs": 2.0}),
        ({"replay": 0.3}, {"epochs": 1.0, "batch_size": 3}),
        ({"planner": {"epochs": 1.0}}, {"steps": 5}),
        ({"summarizer": {"steps": 7}}, {"epochs": 1.0}),
        ({"caller": {"sequence_length": 512}}, {"epochs": 1.0}),
        ({"summarizer": {"sequence_length": 200}}, {"epochs": 1.0, "sequence_length": 256}),
        ({"planner": {"epochs": 1.0, "sequence_length": 300}}, {"steps": 5, "sequence_length": 400}),
    ],
    ids=str,
)
def test_the_steps_are_counted_right_whatever_a_role_overrides(base, tmp_path, monkeypatch, options, training):
    """Against the stages themselves, stopped where training would begin."""
    runs = [
        _run("glpft", "glpft", FULL, training=training, **options),
        _run("matched", "single_matched", FULL, training=training, **options),
    ]
    unfolded = _unfold(base, runs)
    monkeypatch.chdir(tmp_path)
    plan_files.write(unfolded)
    expected = _counted_steps(tmp_path, unfolded, "glpft", monkeypatch)
    assert expected > 4
    assert _counted_steps(tmp_path, unfolded, "matched", monkeypatch) == expected


# --- what is refused before anything runs


def _refused(values) -> str:
    with pytest.raises(AdaptbenchError) as caught:
        load.validate(values, "x.yaml")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def _preset(*runs, agent=None):
    values = preset_values()
    values["data"]["agent"] = agent or {"kind": "world"}
    values["runs"] = list(runs)
    return values


CURRICULA = ("single", "single_matched", "multi_task", "one_stage", "glpft")


@pytest.mark.parametrize("kind", CURRICULA)
def test_curricula_for_agents_train_on_no_other_track(kind):
    run = _run("one", kind, FULL) | {"track": "domain"}
    assert _refused(_preset(run)) == f"x.yaml: runs.0.curriculum.kind: {kind} trains on agent, not on domain"
    assert load.validate(_preset(_run("one", kind, FULL)), "x.yaml")


def test_other_curricula_do_not_train_agents():
    assert (
        _refused(_preset(_run("one", "cpt", FULL)))
        == "x.yaml: runs.0.curriculum.kind: cpt trains on domain, not on agent"
    )


@pytest.mark.parametrize("kind", ["toolalpaca", "api_bank"])
def test_a_benchmark_that_is_only_asked_is_nothing_to_train_on(kind):
    message = _refused(_preset(_run("one", "glpft", FULL), agent={"kind": kind}))
    assert message.startswith(f"x.yaml: runs.0.track: data.agent is {kind}, which has nothing to train on; ")
    values = _preset(_run("one", "glpft", FULL))
    values["data"]["agent_tests"] = [{"kind": kind}]
    assert load.validate(values, "x.yaml")


@pytest.mark.parametrize("kind", CURRICULA)
def test_a_post_hoc_step_needs_one_model(kind):
    values = _preset(_run("one", kind, FULL) | {"posthoc": {"kind": "wise_ft", "alpha": 0.5}})
    if kind in ("one_stage", "glpft"):
        assert _refused(values) == f"x.yaml: runs.0.posthoc: {kind} ends in several models; wise_ft needs one"
    else:
        assert load.validate(values, "x.yaml")


@pytest.mark.parametrize("name", ["base", "majority", "always-call", "always-give-up", "Majority", "ALWAYS-CALL"])
def test_a_run_is_not_named_like_a_baseline(name):
    message = _refused(_preset(_run("fine", "single", FULL), _run(name, "glpft", FULL)))
    assert message == f"x.yaml: runs.1.name: {name!r} is a baseline that every agent table has"


def test_on_another_track_the_baselines_names_are_free():
    values = preset_values()
    values["runs"][0]["name"] = "majority"
    assert load.validate(values, "x.yaml")


@pytest.mark.parametrize("kind", ["one_stage", "glpft", "single_matched"])
@pytest.mark.parametrize(
    "override",
    [
        {"no_such_option": 1},
        {"steps": 0},
        {"steps": 5, "epochs": 1.0},
        {"micro_batch_size": 3, "batch_size": 4},
        {"schedule": "warmup_stable_decay", "warmup_ratio": 0.9, "decay_ratio": 0.5},
    ],
    ids=str,
)
def test_a_mistake_in_a_roles_training_is_one_line_that_names_the_role(kind, override):
    message = _refused(_preset(_run("one", kind, FULL, caller=override)))
    assert message.startswith("x.yaml: runs.0.curriculum.")
    assert "caller" in message.split(": ")[1]


def test_a_setting_of_a_role_that_clashes_with_the_runs_is_one_line_too():
    run = _run("one", "glpft", FULL, planner={"micro_batch_size": 3}, training={"batch_size": 4})
    message = _refused(_preset(run))
    assert message.startswith("x.yaml: runs.0.curriculum.planner")
    assert "micro_batch_size must divide batch_size" in message
