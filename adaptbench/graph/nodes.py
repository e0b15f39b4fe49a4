"""Unfolds a preset into the stages that must run: plain Python, no torch, a few milliseconds.

A node is one directory and one job. Its id is a readable name and a hash of everything that determines its content: its
options, its parents' ids, its seed. Equal stages of different runs are therefore one node, and a changed option is
another directory: nothing stale is ever taken for fresh. The code that makes a node is not in the hash but in a parameter of
its rule (adaptbench/graph/sources.py). adaptbench/graph/plan_files.py writes the graph down for the jobs.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
        kind: which function of adaptbench/stages/job.py makes it.
        options: everything that determines it besides its parents.
        parents: role -> id of the nodes that it reads.
        files: data files outside the graph that it reads.
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
        return self.kind if self.kind in ("data", "tasks") else "stages"


@dataclass(frozen=True)
class Evaluation:
    """One run under one seed: the model that is scored, and on what.

    `tasks` maps a benchmark to its tasks' node, `stock` the names in results of lm-eval's own tasks to how they are asked. `model` is None where the run is skipped, for the reason in `skipped`, and
    where no model but the benchmark's baseline `policy` answers, which knows the training data in the node `data`.
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
        """Identifies everything that determines the run: its model, its tasks, its evaluation options."""
        content = asdict(self)
        return digest({name: value for name, value in content.items() if name != "stock" or value})


@dataclass(frozen=True)
class Graph:
    preset: Preset
    nodes: Mapping[str, Node]
    evaluations: tuple[Evaluation, ...]

    @property
    def root(self) -> Path:
        return Path("results") / self.preset.name

    def directory(self, node_id: str) -> Path:
        return self.root / self.nodes[node_id].folder / node_id

    def evaluation(self, key: str) -> Evaluation:
        """The evaluation that results/<preset>/runs/<key>/run.json holds.

        Raises:
            AdaptbenchError: the preset has no such run.
        """
        for evaluation in self.evaluations:
            if evaluation.key == key:
                return evaluation
        raise self._missing(key, "run or seed", [evaluation.key for evaluation in self.evaluations])

    def node(self, node_id: str) -> Node:
        """The node of that id.

        Raises:
            AdaptbenchError: the preset has none.
        """
        if node_id not in self.nodes:
            raise self._missing(node_id, "stage", list(self.nodes))
        return self.nodes[node_id]

    def _missing(self, name: str, what: str, known: list[str]) -> AdaptbenchError:
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        return AdaptbenchError(f"{name}: preset {self.preset.name!r} has no such {what}{meant}")

    def run(self, evaluation: Evaluation) -> Run | None:
        """The preset's run that an evaluation scores; None for a baseline."""
        runs = {(run.track, run.name): run for _, run in self.preset.every_run()}
        return runs.get((evaluation.track, evaluation.run))

    def decoding(self, evaluation: Evaluation) -> str:
        """The kind of decoding that answers (registry.DECODINGS); "" where nothing is asked. What a stage assembles decodes as its track does."""
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
            module, options = (
                registry.method("curricula", node.options["curriculum"]["kind"]),
                node.options["curriculum"],
            )
            if hasattr(module, "decode"):
                decode = module.decode(module.Config.model_validate(options), node.options["phase"])
        elif node.kind == "assemble":
            benchmark = registry.benchmark(evaluation.track, self.preset.benchmark(evaluation.track).kind)
            decode = getattr(benchmark, "DECODE", {})
        return str(decode.get("kind", "plain"))

    def ancestors(self, node_id: str) -> tuple[str, ...]:
        """The nodes that `node_id` descends from, parents first, itself last."""
        found: dict[str, None] = {}
        open_nodes = [(node_id, iter(self.nodes[node_id].parents.values()))]  # no recursion: a lineage may be long
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
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:HASH_LENGTH]
