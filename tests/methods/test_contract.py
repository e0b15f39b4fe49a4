"""What every method keeps to: one suite over every file in methods/tuners, methods/curricula and methods/posthoc.

A tuner is run under plain continual pre-training, a curriculum (on the first track that it trains on) and a posthoc
method with full fine-tuning, through the real plan and stages on a toy Qwen3 of four layers. A method whose defaults do
not fit that model gives options that do in a module attribute EXAMPLE. Every method is made twice, the second time with
each training killed after its third step and started again, and all tests look at those two.

Run: python -m pytest tests/methods/test_contract.py        one method: add -k <the file's name>
"""

import json
import math
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from adaptbench import registry
from adaptbench.config import load
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import nodes, plan_files, unfolding
from adaptbench.stages import job
from adaptbench.train import loop
from tests.support.models import reset_accelerate
from tests.support.presets import SMALL_GENERAL
from tests.support.project import PROJECT

FIELDS = {"tuners": "tuner", "curricula": "curriculum", "posthoc": "posthoc"}
STEPS = 6
IDS = torch.arange(1, 41).reshape(2, 20)


def _methods(*axes):
    kinds = [(axis, kind) for axis in axes for kind in registry.discover(f"methods.{axis}")]
    return pytest.mark.parametrize(("axis", "kind"), kinds, ids=[f"{axis}-{kind}" for axis, kind in kinds])


every_method = _methods(*FIELDS)
every_trained = _methods("tuners", "curricula")


def _options(axis: str, kind: str) -> dict[str, Any]:
    return {"kind": kind, **getattr(registry.method(axis, kind), "EXAMPLE", {})}


def _values(axis: str, kind: str, model: Path) -> dict[str, Any]:
    """A preset of one run, as a user would write it."""
    run = {"name": "run", "track": _track(axis, kind), "curriculum": {"kind": "cpt"}, "tuner": {"kind": "full"}}
    return {
        "name": "contract",
        "seeds": [0],
        "base": {"model": str(model)},
        "data": {
            "general": SMALL_GENERAL,
            "domain": {"kind": "world", "entities": 20, "test_items": 16},
            "agent": {"kind": "world", "train_problems": 20, "validation_problems": 4, "test_problems": 4,
            "offered_tools": 4},
            "reasoning": {"kind": "chains", "train_items": 40, "validation_items": 4, "test_items": 4},
        },
        "training": {
            "steps": STEPS, "batch_size": 2, "precision": "float32", "attention": "eager",
            "sequence_length": {"domain": 32, "agent": 800, "reasoning": 192}[run["track"]],
        },
        "checkpoint_seconds": 0,
        "runs": [run | {FIELDS[axis]: _options(axis, kind)}],
    }  # fmt: skip


def _track(axis: str, kind: str) -> str:
    """The first track that the method trains on."""
    return (registry.method(axis, kind).Config.tracks or ("domain",))[0] if axis == "curricula" else "domain"


# --- making a method's models


@dataclass
class _Seen:
    """What one call of the training loop did to the model in memory, before anything was merged."""

    trained: int = 0
    moved: list[str] = field(default_factory=list)
    frozen: int = 0
    frozen_moved: list[str] = field(default_factory=list)
    logits: torch.Tensor | None = None


class _Killed(Exception):
    pass


@dataclass
class _Workspace:
    """A folder with results/, in which nodes are made once."""

    folder: Path
    seen: dict[str, _Seen] = field(default_factory=dict)

    def make(self, unfolded: nodes.Graph, node: str) -> Path:
        """The node's directory, made if it is not there."""
        with chdir(self.folder):
            out = unfolded.directory(node)
            if not out.exists():
                plan_files.write(unfolded)
                reset_accelerate()
                _other_random_state()
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(loop, "train", self._watched(node))
                    job.run(unfolded.root / "plan" / f"{node}.json", out)
        return self.folder / out

    def make_after_a_kill(self, unfolded: nodes.Graph, node: str) -> Path:
        """The same, killed after the third step's log row and before its checkpoint, then started again."""
        with pytest.MonkeyPatch.context() as patch:
            write = loop.Log.write

            def dying(log, step, **values):
                write(log, step, **values)
                if step == 3:
                    raise _Killed

            patch.setattr(loop.Log, "write", dying)
            with pytest.raises(_Killed):
                self.make(unfolded, node)
        out = self.folder / unfolded.directory(node)
        assert not out.exists()
        assert [path.name for path in out.parent.iterdir() if path.name.startswith(f".{node}")] == []
        assert list((self.folder / unfolded.root / "work").glob(f"{node}-*/checkpoint/state.json"))
        return self.make(unfolded, node)

    def _watched(self, node: str):
        train = loop.train

        def watched(model, *arguments, **named):
            before = {name: p.detach().clone() for name, p in model.named_parameters()}
            trains = {name for name, p in model.named_parameters() if p.requires_grad}
            outcome = train(model, *arguments, **named)
            seen = self.seen[node] = _Seen(trained=len(trains), frozen=len(before) - len(trains))
            for name, p in model.named_parameters():
                if not torch.equal(p, before[name]):
                    (seen.moved if name in trains else seen.frozen_moved).append(name)
            mode = model.training
            with torch.no_grad():
                seen.logits = model.eval()(input_ids=IDS).logits
            model.train(mode)
            return outcome

        return watched


_states = count(1000)


def _other_random_state() -> None:
    """As in a process of its own: what a stage does may depend on its seed alone."""
    state = next(_states)
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)


@dataclass
class _Method:
    """A method's graph, its nodes' directories in parents-first order, and what was seen of each training."""

    graph: nodes.Graph
    folders: dict[str, Path]
    seen: dict[str, _Seen]

    @property
    def result(self) -> Path:
        return list(self.folders.values())[-1]

    @property
    def results(self) -> list[Path]:
        """The model directories in it: itself, or its members."""
        roles = json.loads((self.result / "adaptbench.json").read_text())["decode"].get("roles", {"": "."})
        return [self.result / place for place in dict.fromkeys(roles.values())]

    def of_kind(self, kind: str) -> list[str]:
        return [node for node in self.folders if self.graph.nodes[node].kind == kind]

    def parent(self, node: str, role: str) -> Path:
        return self.folders[self.graph.nodes[node].parents[role]]


SHARED = ("data", "imported_base")  # no method's work: made once and copied


@pytest.fixture(scope="module")
def made(tmp_path_factory, model_folder) -> Iterator[Any]:
    """Makes a method by axis and kind, once in each of two folders: "first" and "killed"."""
    root = tmp_path_factory.mktemp("contract")
    spaces = {name: _Workspace(root / name) for name in ("first", "killed")}
    done: dict[tuple[str, str, str], _Method] = {}

    def make(axis: str, kind: str, place: str = "first") -> _Method:
        if (axis, kind, place) not in done:
            unfolded = unfolding.unfold(load.validate(_values(axis, kind, model_folder("qwen3")), "contract.yaml"))
            evaluation = unfolded.evaluation(f"{_track(axis, kind)}/run/seed0")
            if evaluation.model is None:
                pytest.skip(evaluation.skipped)
            folders: dict[str, Path] = {}
            for node in unfolded.ancestors(evaluation.model):
                out = spaces[place].folder / unfolded.directory(node)
                node_kind = unfolded.nodes[node].kind
                if place != "first" and node_kind in SHARED and not out.exists():
                    shutil.copytree(make(axis, kind).folders[node], out)
                kill = place == "killed" and node_kind == "train" and not out.exists()
                folders[node] = (spaces[place].make_after_a_kill if kill else spaces[place].make)(unfolded, node)
            done[axis, kind, place] = _Method(unfolded, folders, spaces[place].seen)
        return done[axis, kind, place]

    for space in spaces.values():
        space.folder.mkdir()
    yield make
    reset_accelerate()


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def _log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


# --- the file and its options


@every_method
def test_the_docstring_says_what_it_is_and_where_it_comes_from(axis, kind):
    text = registry.method(axis, kind).__doc__ or ""
    first = text.split("\n", 1)[0]
    assert first.endswith("."), "the docstring's first line must be one sentence that ends in a period"
    assert len(first.split()) >= 5, "the docstring's first line must have at least five words"
    if kind not in ("full", "cpt"):
        assert re.search(r"arXiv:? ?\d{4}\.\d{4,5}|https?://\S+|doi:? ?10\.\d+", text, re.IGNORECASE), (
            "the docstring names no source: an arXiv id, a DOI or a URL (of your repository, if the idea is yours)"
        )


@every_method
def test_the_kind_is_the_file_name_and_there_are_defaults(axis, kind):
    module = registry.method(axis, kind)
    assert Path(module.__file__).stem == kind
    assert module.Config().kind == kind
    assert module.Config(**_options(axis, kind)).kind == kind


@every_method
def test_options_are_strict(axis, kind):
    cls, options = registry.method(axis, kind).Config, _options(axis, kind)
    for wrong in [{"no_such_option": 1}] + [{name: {"no": 1}} for name in cls.model_fields] + [{"kind": f"{kind}x"}]:
        with pytest.raises(ValidationError):
            cls.model_validate(options | wrong)


def _mistake(axis: str, kind: str, tmp_path: Path) -> str:
    values = _values(axis, kind, tmp_path)
    values["runs"][0][FIELDS[axis]]["no_such_option"] = 1
    with pytest.raises(AdaptbenchError) as caught:
        load.validate(values, "x.yaml")
    return str(caught.value)


@every_method
def test_a_wrong_option_in_a_preset_is_one_line(axis, kind, tmp_path):
    found = re.match(r"x\.yaml: runs\.0\.(\w+)\.(\w+\.)?no_such_option: unknown key", _mistake(axis, kind, tmp_path))
    assert found
    assert found[1] == FIELDS[axis]


def test_one_mistake_in_the_only_run_is_not_counted_as_two(tmp_path):
    assert _mistake("posthoc", "wise_ft", tmp_path).endswith("unknown key")


@every_method
def test_options_are_frozen(axis, kind):
    made_config = registry.method(axis, kind).Config(**_options(axis, kind))
    for name in type(made_config).model_fields:
        with pytest.raises(ValidationError):
            setattr(made_config, name, getattr(made_config, name))


@every_method
def test_options_come_back_from_the_plan_as_they_were(axis, kind):
    before = registry.method(axis, kind).Config(**_options(axis, kind))
    assert type(before).model_validate(json.loads(json.dumps(before.model_dump(mode="json")))) == before


@every_method
def test_a_reason_to_skip_is_text(axis, kind):
    module = registry.method(axis, kind)
    reason = getattr(module, "skip_reason", lambda config: "")(module.Config(**_options(axis, kind)))
    assert isinstance(reason, str)
    assert "\n" not in reason


def test_importing_the_methods_imports_nothing_heavy():
    code = (
        "import sys; from adaptbench import registry;"
        "found = [kind for axis in registry.METHOD_AXES for kind in registry.discover(f'methods.{axis}')];"
        "heavy = ('torch', 'transformers', 'peft', 'datasets', 'accelerate', 'pandas', 'numpy', 'safetensors');"
        "print(len(found), [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=120
    )
    found = sum(len(registry.discover(f"methods.{axis}")) for axis in FIELDS)
    assert done.stdout.strip() == f"{found} []"


# --- what it makes


@every_trained
def test_it_trains(axis, kind, made):
    method = made(axis, kind)
    assert method.of_kind("train")
    for node in method.of_kind("train"):
        before = _weights(method.parent(node, "model"))
        after = _weights(method.folders[node])
        common = [name for name in after if name in before and before[name].shape == after[name].shape]
        assert any(not torch.equal(after[name], before[name]) for name in common), f"{node} left every weight as it was"
        assert all(tensor.isfinite().all() for tensor in after.values())
        rows = _log(method.folders[node])
        steps = json.loads((method.folders[node] / "adaptbench.json").read_text())["cost"]["steps"]
        assert steps == method.graph.nodes[node].options["training"]["steps"] or axis == "curricula"
        assert [row["step"] for row in rows] == list(range(1, steps + 1))
        assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)
        if axis == "tuners":
            assert len(rows) == STEPS


@every_trained
def test_what_is_frozen_stays_bit_for_bit_and_what_trains_moves(axis, kind, made):
    method = made(axis, kind)
    for node in method.of_kind("train"):
        seen = method.seen[node]
        assert seen.frozen_moved == []
        assert seen.moved, "nothing that requires gradients has moved"
        cost = json.loads((method.folders[node] / "adaptbench.json").read_text())["parameters"]
        assert (cost["trained"] < cost["total"]) == (seen.frozen > 0)


@every_method
def test_the_result_opens_with_plain_transformers(axis, kind, made):
    result = made(axis, kind).result
    for directory in made(axis, kind).results:
        model, report = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
        assert not any(report.values()), report
        tokenizer = AutoTokenizer.from_pretrained(directory)
        assert tokenizer.decode(tokenizer("The red cup.").input_ids, skip_special_tokens=True) == "The red cup."
        assert len(tokenizer) <= model.get_input_embeddings().num_embeddings
        with torch.no_grad():
            assert model(IDS).logits.isfinite().all()
        assert "auto_map" not in json.loads((directory / "config.json").read_text())
    manifest = json.loads((result / "adaptbench.json").read_text())
    assert manifest["decode"]["kind"] in registry.DECODINGS
    pickled = [p.name for p in result.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".py")]
    assert pickled == []


@every_trained
def test_the_saved_model_is_the_trained_one(axis, kind, made):
    method = made(axis, kind)
    for node in method.of_kind("train"):
        with torch.no_grad():
            logits = AutoModelForCausalLM.from_pretrained(method.folders[node]).eval()(IDS).logits
        # Logits are of size 1 to 5; merging in float32 costs a few units in the sixth digit.
        torch.testing.assert_close(logits, method.seen[node].logits, rtol=1e-5, atol=3e-5)


def _assert_same_files(method: _Method, other: _Method) -> None:
    compared = 0
    for node, folder in method.folders.items():
        if method.graph.nodes[node].kind in SHARED:
            continue
        assert folder != other.folders[node]
        names, others = (
            sorted(path.name for path in made.folders[node].iterdir() if path.suffix in (".safetensors", ".jsonl"))
            for made in (method, other)
        )
        assert names == others
        for name in names:
            assert (folder / name).read_bytes() == (other.folders[node] / name).read_bytes(), f"{node}/{name}"
            compared += 1
    assert compared


@every_method
def test_a_second_run_that_is_killed_goes_on_to_the_same_bytes(axis, kind, made):
    killed = made(axis, kind, "killed")
    _assert_same_files(made(axis, kind), killed)
    work = killed.result.parents[1] / "work"
    assert work.is_dir()
    assert list(work.iterdir()) == [], "a finished stage leaves its work folder behind"


@_methods("posthoc")
def test_the_result_has_the_shape_of_what_it_was_made_from(axis, kind, made):
    method = made(axis, kind)
    (node,) = method.of_kind("posthoc")
    before, after = _weights(method.parent(node, "end")), _weights(method.result)
    assert {n: (t.shape, t.dtype) for n, t in before.items()} == {n: (t.shape, t.dtype) for n, t in after.items()}
    assert not (method.result / "training.jsonl").exists(), "the log is the training's, not the posthoc method's"
