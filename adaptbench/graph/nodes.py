"""Types of the graph: nodes (stages), evaluations, and the graph itself.

A node is one directory and one job. Its id is a readable name and a hash of everything that determines its content: its
options, its parents' ids, its seed. Equal stages of different runs are therefore one node. A changed option gives
another directory, so a stale result is never reused. The code that makes a node is not in the hash but in a parameter
of its rule (adaptbench/graph/sources.py). adaptbench/graph/plan_files.py writes the graph to files for the jobs.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.config.preset import Preset
from adaptbench.config.schema import Run
from adaptbench.errors import AdaptbenchError

HASH_LENGTH = 10


@dataclass(frozen=True)
class Node:
    """One stage of the graph.

    Attributes:
        id: readable name and hash; the directory's name.
        kind: the key of the function in adaptbench/stages/ that makes it.
        options: everything that determines it besides its parents.
        parents: role -> id of a node that it reads.
        files: data files outside of the graph that it reads.
        makes_model: whether its directory holds a model.
    """

    id: str
    kind: str
    options: Mapping[str, Any]
    parents: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    makes_model: bool = True

    @property
    def folder(self) -> str:
        """The folder of its directory, in the folder of results."""
        return self.kind if self.kind in ("data", "tasks") else "stages"


@dataclass(frozen=True)
class Evaluation:
    """One run under one seed: the model that is scored, and its tasks.

    Attributes:
        track: the run's track.
        run: the run's name.
        seed: its seed.
        model: the node of the model; None if the run is skipped or a policy answers.
        tasks: benchmark -> the node of its tasks.
        options: the options of the evaluation and of decoding.
        skipped: the reason if the run is skipped.
        policy: the benchmark's baseline that answers in place of a model.
        data: the node of the training data, which a policy knows.
        stock: the name in results of a task of lm-eval -> its options.
    """

    track: str
    run: str
    seed: int
    model: str | None
    tasks: Mapping[str, str]
    options: Mapping[str, Any]
    skipped: str = ""
    policy: str = ""
    data: str | None = None
    stock: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.track}/{self.run}/seed{self.seed}"

    @property
    def digest(self) -> str:
        """A hash of everything that determines the result: the model, the tasks, the options."""
        content = asdict(self)
        return digest({name: value for name, value in content.items() if name != "stock" or value})


@dataclass(frozen=True)
class Graph:
    """The stages and evaluations of a preset."""

    preset: Preset
    nodes: Mapping[str, Node]
    evaluations: tuple[Evaluation, ...]

    @property
    def root(self) -> Path:
        """The folder of the preset's results."""
        return Path("results") / self.preset.name

    def directory(self, node_id: str) -> Path:
        """Return a node's directory."""
        return self.root / self.nodes[node_id].folder / node_id

    def evaluation(self, key: str) -> Evaluation:
        """Return the evaluation of results/<preset>/runs/<key>/run.json.

        Raises:
            AdaptbenchError: the preset has no such run.
        """
        for evaluation in self.evaluations:
            if evaluation.key == key:
                return evaluation
        raise self._missing(key, "run or seed", [evaluation.key for evaluation in self.evaluations])

    def node(self, node_id: str) -> Node:
        """Return the node of that id.

        Raises:
            AdaptbenchError: the preset has no such node.
        """
        if node_id not in self.nodes:
            raise self._missing(node_id, "stage", list(self.nodes))
        return self.nodes[node_id]

    def _missing(self, name: str, what: str, known: list[str]) -> AdaptbenchError:
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        return AdaptbenchError(f"{name}: preset {self.preset.name!r} has no such {what}{meant}")

    def run(self, evaluation: Evaluation) -> Run | None:
        """Return the preset's run that an evaluation scores; None for a baseline."""
        return self._runs.get((evaluation.track, evaluation.run))

    @cached_property
    def _runs(self) -> dict[tuple[str, str], Run]:
        return {(run.track, run.name): run for _, run in self.preset.every_run()}

    def decoding(self, evaluation: Evaluation) -> str:
        """Return the kind of decoding (registry.DECODINGS) of an evaluation; "" if it is skipped.

        An assembled model decodes as its track's benchmark says.
        """
        if evaluation.policy:
            return "policy"
        if evaluation.model is None:
            return ""
        if kind := evaluation.options["decode"].get("kind"):
            return str(kind)
        node = self.nodes[evaluation.model]
        while node.kind == "posthoc":
            node = self.nodes[node.parents["end"]]
        decode = {}
        if node.kind == "train":
            options = node.options["curriculum"]
            module = registry.method("curricula", options["kind"])
            if hasattr(module, "decode"):
                decode = module.decode(module.Config.model_validate(options), node.options["phase"])
        elif node.kind == "assemble":
            benchmark = registry.benchmark(evaluation.track, self.preset.benchmark(evaluation.track).kind)
            decode = getattr(benchmark, "DECODE", {})
        return str(decode.get("kind", "plain"))

    def ancestors(self, node_id: str) -> tuple[str, ...]:
        """Return a node and the nodes that it descends from, parents first."""
        found: dict[str, None] = {}
        open_nodes = [
            (node_id, iter(self.nodes[node_id].parents.values()))
        ]  # no recursion, because a lineage may be long
        while open_nodes:
            node, parents = open_nodes[-1]
            parent = next((one for one in parents if one not in found), None)
            if parent is None:
                found[node] = None
                open_nodes.pop()
            else:
                open_nodes.append((parent, iter(self.nodes[parent].parents.values())))
        return tuple(found)


def digest(content: Any) -> str:
    """Return a short hash of content that JSON can represent."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:HASH_LENGTH]
