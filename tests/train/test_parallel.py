"""Stages in two gloo processes against one: the same losses and weights under DDP and FSDP2, one's checkpoint in the
other.

One launch of two processes makes all stages of a strategy; the reference is the same stages in this process.

Run: python -m pytest tests/train/test_parallel.py
"""

import json
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adaptbench import errors
from adaptbench.config import load
from adaptbench.config.schema import Devices
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import plan_files, unfolding
from adaptbench.stages import job
from adaptbench.train import distributed, loop
from tests.support.models import reset_accelerate
from tests.support.presets import SMALL_GENERAL
from tests.support.project import PROJECT

LT = {"kind": "lt_tuning", "hidden_training": {"steps": 3}, "fused_training": {"steps": 4}}
ADEPT = {"kind": "adept", "layers": 2, "refresh_every": 2}


def _run(name, tuner, curriculum=None, track="domain", **training):
    own = {"curriculum": curriculum or {"kind": "cpt"}, "tuner": {"kind": tuner} if isinstance(tuner, str) else tuner}
    return {"name": name, "track": track, **own, "training": training}


RUNS = {
    one["name"]: one
    for one in (
        _run("full", "full", micro_batch_size=1),
        _run("checkpointed", "full", micro_batch_size=1, gradient_checkpointing=True, learning_rate=2e-3),
        _run("muon", "full", optimizer="muon"),
        _run("kl", "full", {"kind": "cpt", "kl": 0.1, "replay": 0.2}),
        _run("l2-sp", "full", {"kind": "cpt", "l2_sp": 0.1}),
        _run("lora", {"kind": "lora", "rank": 4}),
        _run("osf", "osf"),
        _run("llama-pro", {"kind": "llama_pro", "layers": 2}),
        _run("adept", ADEPT | {"unit": "row"}),
        _run("adept-no-copy", ADEPT | {"expansion": "none"}),  # measured before its first step
        _run("adept-2x", ADEPT | {"unit_lr": "uniform_2x"}),
        _run("agents", "full", {"kind": "single"}, "agent", sequence_length=800),
        _run("glpft", "full", {"kind": "glpft"}, "agent", sequence_length=800),
        _run("lt", "full", LT, "reasoning", sequence_length=192),
        _run("coconut", "full", {"kind": "coconut", "stages": 1}, "reasoning", sequence_length=192),
        _run("pause", "full", {"kind": "pause"}, "reasoning", sequence_length=192),
        _run("lt-lora", {"kind": "lora", "rank": 4}, LT, "reasoning", sequence_length=192),
        _run("lt-jacobi", "full", LT | {"forward": {"way": "jacobi"}}, "reasoning", sequence_length=192),
    )
}
TWICE = {
    "ddp": [name for name in RUNS if name not in ("lt-jacobi", "checkpointed", "adept-2x")],
    "fsdp": [
        "full",
        "checkpointed",
        "agents",
        "kl",
        "lora",
        "llama-pro",
        "adept",
        "adept-no-copy",
        "adept-2x",
        "lt-jacobi",
    ],
}


RESUMED = {"ddp": ["adept", "lora", "lt"], "fsdp": ["adept", "lora", "lt-jacobi"]}
"""One of each: copied layers under the method's own optimizer, adapters, and all weights through several passes."""


def _preset(names, **devices):
    return {
        "name": "spread", "seeds": [0], "devices": devices, "checkpoint_seconds": 0,
        "tokenizer": {"vocabulary": 400},
        "base": {
            "architecture": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4},
            "training": {"steps": 3, "batch_size": 4, "sequence_length": 64, "precision": "float32"},
        },
        "data": {
            "general": SMALL_GENERAL,
            "domain": {"kind": "world", "entities": 20, "test_items": 16},
            "agent": {"kind": "world", "train_problems": 20, "validation_problems": 4, "test_problems": 4,
            "offered_tools": 4},
            "reasoning": {"kind": "chains", "train_items": 40, "validation_items": 4, "test_items": 4},
        },
        "training": {"steps": 4, "batch_size": 4, "precision": "float32", "attention": "eager", "sequence_length": 32},
        "runs": [RUNS[name] for name in names],
    }  # fmt: skip


def _unfold(names, **devices):
    return unfolding.unfold(load.validate(_preset(names, **devices), "spread.yaml"))


def _make(unfolded, nodes):
    """Make the nodes that are not there, here or together with the other processes."""
    for node in nodes:
        out = unfolded.directory(node)
        if not out.exists():
            job.run(unfolded.root / "plan" / f"{node}.json", out)
            if distributed.in_process_group():
                torch.distributed.barrier()


def _trained(unfolded):
    return [node for node in unfolded.nodes if "training" in unfolded.nodes[node].options]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Every stage of every run, made in one process."""
    root = tmp_path_factory.mktemp("alone")
    unfolded = _unfold(RUNS)
    with chdir(root):
        plan_files.write(unfolded)
        _make(unfolded, [node for node in unfolded.nodes if unfolded.nodes[node].kind != "tasks"])
    reset_accelerate()
    return root


class _Asked(Exception):
    pass


def test_stages_of_packed_rows_alone_are_compiled(alone, monkeypatch, tmp_path):
    """Latents and pauses have other lengths at every step, KL and L2-SP a loss of their own."""

    def asked(*_, compile_layers, **__):
        raise _Asked(compile_layers)

    monkeypatch.setattr(loop, "train", asked)
    monkeypatch.chdir(alone)
    unfolded = _unfold(["full", "kl", "l2-sp", "lora", "adept", "agents", "glpft", "lt", "coconut", "pause"])
    compiled = {True: set(), False: set()}
    for node in _trained(unfolded):
        spec = json.loads((unfolded.root / "plan" / f"{node}.json").read_text())
        options = spec["options"]
        options["training"]["compile"] = True
        with pytest.raises(_Asked) as answer:
            job.KINDS[spec["kind"]](spec, tmp_path, tmp_path)
        method = options.get("curriculum", {"kind": "base"})
        name = " ".join([method["kind"], *(term for term in ("kl", "l2_sp") if method.get(term))])
        compiled[answer.value.args[0]].add((name, options.get("phase", "")))
    assert compiled[False] == {
        ("cpt kl", "tune"), ("cpt l2_sp", "tune"), ("lt_hidden", "hidden"), ("lt_tuning", "fused"),
         ("coconut", "latent1"),
        ("coconut", "all"), ("pause", "hidden"), ("pause", "fused"),
    }  # fmt: skip
    assert {name for name, _ in compiled[True]} >= {"base", "cpt", "single"}


def _begin(alone, folder, unfolded):
    """A folder with the plan, and with what no training makes."""
    folder.mkdir()
    with chdir(folder):
        plan_files.write(unfolded)
    for node in unfolded.nodes:
        out = unfolded.directory(node)
        if "training" not in unfolded.nodes[node].options and (alone / out).exists():
            shutil.copytree(alone / out, folder / out)


@pytest.fixture(scope="module", params=TWICE)
def together(request, alone, tmp_path_factory):
    """The stages of a strategy, made in two processes."""
    unfolded = _unfold(TWICE[request.param], processes=2, strategy=request.param)
    root = tmp_path_factory.mktemp("together") / request.param
    _begin(alone, root, unfolded)
    with chdir(root):
        distributed.launch(unfolded.preset.devices, _watch, unfolded)
    return request.param, root, unfolded


def _watch(unfolded):
    """`_make`, and what the first process saw of how parameters and gradients lie."""
    from accelerate import Accelerator

    fill, backward, seen, gradients = distributed.gather_full_model, Accelerator.backward, [], set()

    def back(accelerator, loss):
        backward(accelerator, loss)
        for optimizer in accelerator._optimizers:
            gradients.update(type(p.grad).__name__ for group in optimizer.param_groups for p in group["params"])

    def filled(model, *arguments, **named):
        seen.append(sorted({type(p).__name__ for p in model.parameters()}))
        fill(model, *arguments, **named)

    distributed.gather_full_model, Accelerator.backward = filled, back
    _make(unfolded, [node for node in unfolded.nodes if unfolded.nodes[node].kind != "tasks"])
    if distributed.is_main():
        Path("seen.json").write_text(json.dumps(seen))
        Path("gradients.json").write_text(json.dumps(sorted(gradients)))


def _log(folder):
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


def _weights(folder):
    return {name: value for file in sorted(folder.rglob("*.safetensors")) for name, value in load_file(file).items()}


def _assert_alike(one, other):
    """The same losses to 1e-5. Adam makes a step of a gradient that is nothing but rounding, and Muon rounds to
    bfloat16, so that norms and weights differ by more; not by more than a hundredth.
    """
    for ours, theirs in zip(_log(one), _log(other), strict=True):
        assert ours.keys() == theirs.keys()
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
        assert ours["learning_rate"] == theirs["learning_rate"]
    found, expected = _weights(one), _weights(other)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.dtype == expected[name].dtype
        assert (value - expected[name]).norm() < 1e-2 * expected[name].norm().clamp_min(1e-6), name


def test_two_processes_learn_what_one_learns(alone, together):
    _, root, unfolded = together
    nodes = _trained(unfolded)
    assert len(nodes) >= 9
    for node in nodes:
        _assert_alike(root / unfolded.directory(node), alone / unfolded.directory(node))


def test_a_sharded_model_is_sharded_and_a_copied_one_is_not(together):
    strategy, root, unfolded = together
    seen = json.loads((root / "seen.json").read_text())
    assert len(seen) == (len(_trained(unfolded)) if strategy == "fsdp" else 0)
    assert all(one == ["DTensor"] for one in seen)
    # Between the parts of a step, too: no device holds whole gradients.
    gradients = json.loads((root / "gradients.json").read_text())
    assert gradients == (["DTensor"] if strategy == "fsdp" else ["Tensor"])


def test_a_manifest_says_how_a_stage_was_spread(alone, together):
    strategy, root, unfolded = together
    node = unfolded.directory(_trained(unfolded)[0])
    assert json.loads((root / node / "adaptbench.json").read_text())["devices"] == {
        "processes": 2,
        "strategy": strategy,
    }
    both = [json.loads((one / node / "adaptbench.json").read_text()) for one in (root, alone)]
    assert both[0]["parameters"] == both[1]["parameters"]
    assert both[0]["cost"]["trained_tokens"] == both[1]["cost"]["trained_tokens"]


class _AskedToStop:
    """A StopSignal that a process alone, or the second of two, receives in its third step."""

    def __init__(self):
        self.steps = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def received(self):
        self.steps += 1
        return "SIGTERM" if self.steps == 3 and not (distributed.in_process_group() and distributed.is_main()) else ""


def _stop_in_the_third_step(unfolded, nodes):
    loop.StopSignal = _AskedToStop
    for node in nodes:
        with pytest.raises(errors.Interrupted, match=r"after step 3 of \d"):
            job.run(unfolded.root / "plan" / f"{node}.json", unfolded.directory(node))
        if distributed.in_process_group():
            torch.distributed.barrier()


def _before_tuning(alone, folder, unfolded):
    """A folder with all but the runs' last stages, which are returned."""
    _begin(alone, folder, unfolded)
    begun = {parent for node in unfolded.nodes.values() for parent in node.parents.values() if node.kind == "train"}
    nodes = [node for node in _trained(unfolded) if unfolded.nodes[node].kind == "train" and node not in begun]
    for node in unfolded.nodes:
        out = unfolded.directory(node)
        if node not in nodes and unfolded.nodes[node].kind != "tasks" and not (folder / out).exists():
            shutil.copytree(alone / out, folder / out)
    return nodes


def _assert_stopped(unfolded, nodes):
    assert [unfolded.directory(node).exists() for node in nodes] == [False] * len(nodes)
    assert len(list(Path("results/spread/work").glob("*/checkpoint/state.json"))) == len(nodes)


@pytest.mark.parametrize("strategy", TWICE)
def test_a_signal_to_one_process_stops_all_and_one_alone_goes_on(alone, tmp_path, strategy):
    names = RESUMED[strategy]
    unfolded = _unfold(names, processes=2, strategy=strategy)
    root = tmp_path / "root"
    nodes = _before_tuning(alone, root, unfolded)
    with chdir(root):
        distributed.launch(unfolded.preset.devices, _stop_in_the_third_step, unfolded, nodes)
        _assert_stopped(unfolded, nodes)
        plan_files.write(_unfold(names))
        _make(unfolded, nodes)
    reset_accelerate()
    for node in nodes:
        _assert_alike(root / unfolded.directory(node), alone / unfolded.directory(node))


@pytest.mark.parametrize("strategy", TWICE)
def test_what_one_process_began_two_end(alone, tmp_path, strategy, monkeypatch):
    names = RESUMED[strategy]
    single, unfolded = _unfold(names), _unfold(names, processes=2, strategy=strategy)
    root = tmp_path / "root"
    nodes = _before_tuning(alone, root, single)
    with chdir(root):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "StopSignal", loop.StopSignal)  # undone after the block
            _stop_in_the_third_step(single, nodes)
        reset_accelerate()
        _assert_stopped(unfolded, nodes)
        plan_files.write(unfolded)
        distributed.launch(unfolded.preset.devices, _make, unfolded, nodes)
    for node in nodes:
        _assert_alike(root / unfolded.directory(node), alone / unfolded.directory(node))


def _command(folder, node, unfolded, *launcher, **environment):
    stage = ["adaptbench", "stage", f"results/spread/plan/{node}.json", str(unfolded.directory(node))]
    return subprocess.run(
        [sys.executable, "-m", *launcher, *(["-m"] if launcher else []), *stage],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(PROJECT)} | environment, capture_output=True, text=True,
            check=False, timeout=300,
    )  # fmt: skip


def test_the_command_starts_its_processes_and_says_what_went_wrong_once(alone, tmp_path):
    unfolded = _unfold(["lora"], processes=2)
    root = tmp_path / "root"
    _begin(alone, root, unfolded)
    base, tune = _trained(unfolded)
    done = _command(root, base, unfolded)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("step 3/3") == 1
    _assert_alike(root / unfolded.directory(base), alone / unfolded.directory(base))
    path = root / unfolded.root / "plan" / f"{tune}.json"
    spec = json.loads(path.read_text())
    spec["options"]["training"]["learning_rate"] = 1e30
    path.write_text(json.dumps(spec))
    failed = _command(root, tune, unfolded)
    assert failed.returncode == 1
    assert failed.stderr.count("lower training.learning_rate") == 1
    assert "Traceback" not in failed.stderr
    assert failed.stderr.strip().splitlines()[-1].startswith("error: step ")
    assert not (root / unfolded.directory(tune)).exists()


@pytest.mark.parametrize(
    "launcher",
    [
        ("torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        # Without --multi_gpu, Accelerate asks MPI for the processes.
        ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
         "--main_process_port", "0"),
    ],
    ids=["torchrun", "accelerate-launch"],
)  # fmt: skip
def test_a_stage_started_by_another_launcher_finds_its_processes(alone, tmp_path, launcher):
    unfolded = _unfold(["lora"])  # the preset asks for one
    root = tmp_path / "root"
    _begin(alone, root, unfolded)
    base = _trained(unfolded)[0]
    done = _command(root, base, unfolded, *launcher)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("step 3/3") == 1
    _assert_alike(root / unfolded.directory(base), alone / unfolded.directory(base))


# --- what cannot be, said when the preset is read


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": {"batch_size": 6}},
         "runs.0.training.batch_size: must be a multiple of devices.processes, 4, not 6"),
        ({"base": {"training": {"steps": 1, "batch_size": 2}}},
         "base.training.batch_size: must be a multiple of devices.processes, 4"),
        ({"base": {"training": {"steps": 1, "batch_size": 4, "optimizer": "muon"}}},
         "base.training.optimizer: muon needs whole matrices"),
        ({"training": {"compile": True}}, "runs.0.training.compile: is for devices.processes: 1"),
        ({"run": "muon"}, "runs.0.training.optimizer: muon needs whole matrices"),
        ({"run": "l2-sp"}, "runs.0.curriculum.l2_sp: the distance is one of whole weights"),
        ({"run": "osf"}, "runs.0.tuner.kind: osf projects gradients of whole matrices"),
        ({"run": "lt"}, "runs.0.curriculum.forward.way: must be jacobi under devices.strategy: fsdp"),
        ({"run": "lt-lora", "forward": {"way": "jacobi"}},
         "runs.0.curriculum.kind: under lora it trains new tokens' rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_spread_is_refused_by_its_key(change, said):
    values = _preset([change.get("run", "full")], processes=4, strategy="fsdp")
    values["training"] |= change.get("training", {})
    values["base"] |= change.get("base", {})
    if "forward" in change:
        values["runs"][0] = values["runs"][0] | {"curriculum": LT | {"forward": change["forward"]}}
    with pytest.raises(AdaptbenchError, match=r"^x\.yaml: ") as error:
        load.validate(values, "x.yaml")
    assert said in str(error.value)
    alone = load.validate(values | {"devices": {"strategy": "fsdp"}}, "x.yaml")  # in one process all of it can be
    assert alone.devices == Devices(strategy="fsdp")


def test_the_devices_make_no_stage_anew():
    assert _unfold(TWICE["ddp"]).nodes.keys() == _unfold(TWICE["ddp"], processes=2).nodes.keys()
