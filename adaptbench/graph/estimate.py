"""Estimates what a preset needs, from parameters and tokens: jobs, GPU hours, memory, disk and downloads.

FLOPs are those of matrix products, as adaptbench/train/cost.py counts them after a run. Each weight costs 2 FLOPs a
token in the forward pass, 2 in the backward pass, and 2 more if it is trained. Not counted are probes, attention
scores, and what frozen layers below the first trained one save in the backward pass.

A training step takes at least the time in which its operations start, which dominates for small models. With latents, a
step has several forward passes one after another (`CurriculumConfig.forward_passes`). Answers are generated in batches,
token by token; each token takes the time in which its operations start.

All assumptions are printed, and are options of `make plan`.
"""

import math
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property

from adaptbench import registry
from adaptbench.config import problems
from adaptbench.config.preset import Preset
from adaptbench.config.training import Training
from adaptbench.contracts import CurriculumConfig, TunerConfig
from adaptbench.graph import plan_files, published, stock_tasks
from adaptbench.graph.model_size import Assumptions, shape
from adaptbench.graph.nodes import Evaluation, Graph, Node

OPTIMIZER = {"adamw": 8, "muon": 4}
"""Bytes of the moments in float32, for each trained parameter."""

ACTIVATIONS = 34
"""Bytes in 16 bits, for each token, layer and hidden unit: arXiv 2205.05198, equation 2 without attention scores."""


@dataclass(frozen=True)
class Job:
    """The estimate of one job.

    Attributes:
        name: the node's id or the run's key.
        kind: the node's kind, or "evaluate".
        seconds: its duration.
        gpus: GPUs that it uses at once.
        kept: bytes of its result.
        checkpoint: bytes of its checkpoint.
        state: bytes on each GPU for weights, gradients and optimizer.
        activations: bytes on each GPU for activations.
        host: bytes of host memory: the model as every process loads it, and the checkpoint.
    """

    name: str
    kind: str
    seconds: float = 0.0
    gpus: int = 1
    kept: float = 0.0
    checkpoint: float = 0.0
    state: float = 0.0
    activations: float = 0.0
    host: float = 0.0


class Estimate:
    """The estimates for one preset's graph."""

    def __init__(self, graph: Graph, assumed: Assumptions, *, online: bool = True) -> None:
        """Prepare the estimates; `online` allows requests to the hub for the base's size.

        Raises:
            AdaptbenchError: the base's size is unknown.
        """
        self.graph, self.assumed, self.size = graph, assumed, shape(graph, online=online)
        self.lacks = problems.base_lacks(graph.preset.base)

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """The jobs of all nodes and evaluations, by id or key."""
        nodes = {name: self._of_node(node) for name, node in self.graph.nodes.items()}
        for name in plan_files.intermediate_models(self.graph) if self.graph.preset.keep == "scored" else ():
            nodes[name] = replace(nodes[name], kept=0.0, checkpoint=nodes[name].kept + nodes[name].checkpoint)
        return nodes | {one.key: self._of_evaluation(one) for one in self.graph.evaluations}

    @cached_property
    def chains(self) -> dict[str, float]:
        """The seconds of the longest chain of jobs that starts at each node and evaluation, by id or key."""
        found = {name: job.seconds for name, job in self.jobs.items()}
        after: dict[str, float] = {}  # the longest chain that starts after a node
        for one in self.graph.evaluations:
            for node in filter(None, (one.model, one.data, *one.tasks.values())):
                after[node] = max(after.get(node, 0.0), found[one.key])
        for name in reversed(list(self.graph.nodes)):  # children first
            found[name] += after.get(name, 0.0)
            for parent in self.graph.nodes[name].parents.values():
                after[parent] = max(after.get(parent, 0.0), found[name])
        return found

    def part_jobs(self, part: str) -> dict[str, Job]:
        """Return the jobs that a part's tables need."""
        wanted = set(plan_files.runs(self.graph, part))
        needed: dict[str, None] = {}
        for one in self.graph.evaluations:
            if f"{self.graph.root}/runs/{one.key}/run.json" in wanted:
                for node in (*([one.model] if one.model else []), *one.tasks.values()):
                    needed.update(dict.fromkeys(self.graph.ancestors(node)))
                needed[one.key] = None
        return {name: self.jobs[name] for name in needed}

    def _layers(self, node: Node) -> int:
        """Return the number of layers of the node's model."""
        if node.kind in ("base", "imported_base"):
            return self.size.layers
        before = self._layers(self.graph.nodes[next(iter(node.parents.values()))])
        return before + (_tuner(node).share(before)[0] if _makes_model(node) else 0)

    def _of_node(self, node: Node) -> Job:
        if node.kind in ("data", "tasks", "tokenizer", "assemble"):  # an assembled team links to its members
            return Job(node.id, node.kind)
        whole = self.size.parameters(self._layers(node))
        makes = node.kind != "prepare" or _makes_model(node)
        kept = whole * self.size.bytes if makes and not _keeps_adapters(node) else 0.0
        if node.kind not in ("base", "train"):
            return Job(node.id, node.kind, self._start(whole), kept=kept, host=whole * self.size.bytes)
        return self._of_training(node, whole, kept)

    def _of_training(self, node: Node, whole: int, kept: float) -> Job:
        training = Training.model_validate(node.options["training"])
        devices = self.graph.preset.devices
        layers = self._layers(node)
        trained_layers = _tuner(node).share(layers)[1] if node.kind == "train" else None
        matrices = layers * self.size.layer + self.size.head
        trained = matrices if trained_layers is None else trained_layers * self.size.layer
        moving = whole if trained_layers is None else trained
        state = 4 + OPTIMIZER[training.optimizer]  # moments, and weights (checkpoint) or gradients (memory) in float32
        forward = 2 * matrices
        a_token = 2 * forward + 2 * trained + (forward if training.gradient_checkpointing else 0)
        tokens = self._tokens(node, training)
        steps = tokens / (training.batch_size * training.sequence_length)
        passes, whole_passes = self._forward_passes(node, training)
        arithmetic = self._arithmetic(a_token * tokens) * whole_passes / devices.processes
        seconds = max(arithmetic, steps * passes * layers * self.assumed.layer_seconds)
        in_layers = 2 * layers + ACTIVATIONS if training.gradient_checkpointing else ACTIVATIONS * layers
        share = training.batch_size // devices.processes
        at_once = min(training.micro_batch_size or share, share) * training.sequence_length
        return Job(
            node.id,
            node.kind,
            self._start(whole) + seconds,
            devices.processes,
            kept,
            checkpoint=state * moving,
            state=(4 * whole + state * moving) / (devices.processes if devices.sharded else 1),
            activations=at_once * self.size.hidden * in_layers * whole_passes,
            host=4 * whole * devices.processes + state * moving,
        )

    def _forward_passes(self, node: Node, training: Training) -> tuple[float, float]:
        """Return the sequential forward passes of a step, and how often all its tokens are processed."""
        if "curriculum" not in node.options:
            return 1.0, 1.0
        options = node.options["curriculum"]
        curriculum: CurriculumConfig = registry.method("curricula", options["kind"]).Config.model_validate(options)
        return curriculum.forward_passes(training.batch_size, self.assumed.latent_passes, self.lacks)

    def _tokens(self, node: Node, training: Training) -> float:
        """Return the tokens that the stage processes."""
        if training.steps is not None:
            return training.steps * training.batch_size * training.sequence_length
        assert training.epochs is not None
        splits = [
            self.graph.directory(parent) / "splits" / "train.jsonl"
            for role, parent in node.parents.items()
            if role.startswith("data.") and self.graph.nodes[parent].options["track"] != "general"
        ]
        there = [path.stat().st_size for path in splits if path.exists()]
        if there:
            return training.epochs * sum(there) / 4  # about 4 bytes a token
        tracks = {
            self.graph.nodes[parent].options["track"]
            for role, parent in node.parents.items()
            if role.startswith("data.")
        }
        known = [one for track in sorted(tracks - {"general"}) if (one := published_epoch(self.graph.preset, track))]
        return training.epochs * (sum(one.documents * one.tokens for one in known) or self.assumed.epoch_tokens)

    def _of_evaluation(self, one: Evaluation) -> Job:
        if one.model is None:
            return Job(one.key, "evaluate")
        layers = self._layers(self.graph.nodes[one.model])
        matrices = layers * self.size.layer + self.size.head
        tasks = [task for node in one.tasks.values() for task in self.graph.nodes[node].options["tasks"]]
        tokens = len(tasks) * self.assumed.task_tokens + len(one.stock) * self.assumed.stock_task_tokens
        generation = self._generation_passes(one) * layers * self.assumed.token_seconds
        seconds = self._start(self.size.parameters(layers)) + self._arithmetic(2 * matrices * tokens) + generation
        return Job(one.key, "evaluate", seconds, host=self.size.parameters(layers) * self.size.bytes)

    def _generation_passes(self, one: Evaluation) -> float:
        """Return the sequential forward passes that generate a run's answers."""
        generated = [
            (self.assumed.answers, 1.0) for name in one.stock if "exact_match" in stock_tasks.task(name).metric
        ]
        for node in (self.graph.nodes[node] for node in one.tasks.values()):
            track, kind = node.options["track"], node.options["kind"]
            items = self.graph.nodes[node.parents["data"]].options["config"].get("test_items") or self.assumed.answers
            generated += [
                (items, self.assumed.turns if task.episodes else 1.0)
                for task in registry.benchmark(track, kind).TASKS
                if task.split == one.options["split"] and _is_generated(track, task.name)
            ]
        limit, batch_size = one.options["limit"] or math.inf, one.options["batch_size"]
        batches = sum(turns * math.ceil(min(items, limit) / batch_size) for items, turns in generated)
        return batches * self.assumed.answer_tokens

    def _start(self, parameters: int) -> float:
        """Return the seconds in which a job starts and reads its model."""
        return self.assumed.job_seconds + parameters * self.size.bytes / self.assumed.read_rate

    def _arithmetic(self, flops: float) -> float:
        """Return the seconds that a GPU computes for so many FLOPs."""
        return flops / (self.assumed.flops * self.assumed.utilisation)


@cache
def _is_generated(track: str, task: str) -> bool:
    """Return whether a task's answers are generated, and not chosen from given ones."""
    folder = registry.project_root() / "benchmarks" / track / "tasks"
    text = (folder / f"{task}.yaml").read_text()
    shared = re.search(r"^include: (\S+)$", text, re.MULTILINE)
    return "output_type: generate_until" in text + ((folder / shared[1]).read_text() if shared else "")


def _tuner(node: Node) -> TunerConfig:
    options = node.options["tuner"]
    tuner: TunerConfig = registry.method("tuners", options["kind"]).Config.model_validate(options)
    return tuner


def _keeps_adapters(node: Node) -> bool:
    """Return whether a training stage saves only adapters, which are small, instead of the model."""
    if node.options.get("merge", True):
        return False
    return getattr(registry.method("tuners", node.options["tuner"]["kind"]), "ADAPTERS", False)


def _makes_model(node: Node) -> bool:
    """Return whether the node is a preparation that makes a model."""
    if node.kind != "prepare":
        return False
    steps = registry.method("tuners", node.options["tuner"]["kind"]).preparations(_tuner(node))
    return any(step.name == node.options["function"] and step.makes_model for step in steps)


def published_epoch(preset: Preset, track: str) -> published.Epoch | None:
    """Return the published size of the track's training data; None if unknown or if the preset reads other data."""
    benchmark = preset.benchmark(track)
    if benchmark is None or getattr(benchmark, "train_items", None) is not None:
        return None
    sources = preset.public_data(track, benchmark.kind).values()
    keys = ((one.hub_id, track, getattr(benchmark, "form", None)) for one in sources if one.path is None)
    return next((published.EPOCHS[key] for key in keys if key in published.EPOCHS), None)
