"""What a preset will take, from parameters and tokens: jobs, GPU hours, memory, disk and downloads, before anything runs.

FLOPs are those of matrix products, as adaptbench/train/cost.py counts them afterwards: a weight costs a token 2 forward, 2 on the way back, and 2 more
if it trains. A step of a small model takes what starting its operations takes, however little they compute. That an untrained bottom of the
network needs no way back is not counted, nor are probes and attention scores. Latents cut a step into passes one after another: by wavefront over
pieces, which together are the step's tokens, by Jacobi over all tokens each time, whose activations are all kept. Answers are written a batch at a time, token after token, in what starting the operations takes. What is assumed is printed, and an option of `make plan`.
"""

import math
import re
from dataclasses import dataclass, replace
from functools import cache, cached_property

from adaptbench import registry
from adaptbench.config import validate
from adaptbench.config.preset import Preset
from adaptbench.config.training import Training
from adaptbench.contracts import TunerConfig
from adaptbench.graph import plan_files, published, stock_tasks
from adaptbench.graph.model_size import Assumptions, shape
from adaptbench.graph.nodes import Evaluation, Graph, Node

OPTIMIZER = {"adamw": 8, "muon": 4}  # bytes a trained parameter: moments in float32


ACTIVATIONS = (
    34  # bytes a token, layer and hidden unit in 16 bits: arXiv 2205.05198, equation 2 without attention scores
)


@dataclass(frozen=True)
class Job:
    """One job: its `seconds` on so many `gpus` at once; in bytes what it leaves, its checkpoint, the memory of each GPU for weights, gradients
    and optimizer (`state`) and for activations, and that of the `host` beside GPUs: the model as every process loads it, and the checkpoint.
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
    """Everything that is estimated of one preset's graph."""

    def __init__(self, graph: Graph, assumed: Assumptions, *, ask: bool = True) -> None:
        self.graph, self.assumed, self.size = graph, assumed, shape(graph, ask=ask)
        self.lacks = validate.base_lacks(graph.preset.base)

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """Of every node and every evaluation, by id or key."""
        nodes = {name: self._of_node(node) for name, node in self.graph.nodes.items()}
        for name in plan_files.intermediate_models(self.graph) if self.graph.preset.keep == "scored" else ():
            nodes[name] = replace(nodes[name], kept=0.0, checkpoint=nodes[name].kept + nodes[name].checkpoint)
        return nodes | {one.key: self._of_evaluation(one) for one in self.graph.evaluations}

    @cached_property
    def chains(self) -> dict[str, float]:
        """Of every node and every evaluation, the seconds of the longest chain of jobs that begins with it."""
        found = {name: job.seconds for name, job in self.jobs.items()}
        after: dict[str, float] = {}  # the longest of those that begin after a node
        for one in self.graph.evaluations:
            for node in filter(None, (one.model, one.data, *one.tasks.values())):
                after[node] = max(after.get(node, 0.0), found[one.key])
        for name in reversed(list(self.graph.nodes)):  # parents come first there
            found[name] += after.get(name, 0.0)
            for parent in self.graph.nodes[name].parents.values():
                after[parent] = max(after.get(parent, 0.0), found[name])
        return found

    def of_part(self, part: str) -> dict[str, Job]:
        """The jobs that a part's tables need."""
        wanted = set(plan_files.runs(self.graph, part))
        needed: dict[str, None] = {}
        for one in self.graph.evaluations:
            if f"{self.graph.root}/runs/{one.key}/run.json" in wanted:
                for node in (*([one.model] if one.model else []), *one.tasks.values()):
                    needed.update(dict.fromkeys(self.graph.ancestors(node)))
                needed[one.key] = None
        return {name: self.jobs[name] for name in needed}

    def _layers(self, node: Node) -> int:
        """Of the model that the node leaves."""
        if node.kind in ("base", "imported_base"):
            return self.size.layers
        before = self._layers(self.graph.nodes[next(iter(node.parents.values()))])
        return before + (_tuner(node).share(before)[0] if _makes_model(node) else 0)

    def _of_node(self, node: Node) -> Job:
        if node.kind in ("data", "tasks", "tokenizer", "assemble"):  # a team's members are links
            return Job(node.id, node.kind)
        whole = self.size.parameters(self._layers(node))
        makes = node.kind != "prepare" or _makes_model(node)
        kept = whole * self.size.bytes if makes and not _leaves_adapters(node) else 0.0
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
        state = 4 + OPTIMIZER[training.optimizer]  # of the weights and moments, as of the gradients and moments
        forward = 2 * matrices
        a_token = 2 * forward + 2 * trained + (forward if training.gradient_checkpointing else 0)
        tokens = self._tokens(node, training)
        steps = tokens / (training.batch_size * training.sequence_length)
        passes, whole_passes = self._passes(node, training)
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

    def _passes(self, node: Node, training: Training) -> tuple[float, float]:
        """Of a step: how many are made one after another, and how many times all its tokens go through the model."""
        forward = node.options.get("curriculum", {}).get("forward")  # what goes through latents has it
        if forward is None:
            return 1.0, 1.0
        most = self.assumed.latent_passes
        if forward["way"] == "jacobi" or (forward["way"] == "wavefront" and "wavefront" in self.lacks):
            whole = forward["iterations"] + 1.0 if forward["iterations"] else most
            return whole, whole
        return (training.batch_size * most, most) if forward["way"] == "naive" else (most, 1.0)

    def _tokens(self, node: Node, training: Training) -> float:
        """That the stage puts through the model."""
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
        asked = [task for node in one.tasks.values() for task in self.graph.nodes[node].options["tasks"]]
        tokens = len(asked) * self.assumed.task_tokens + len(one.stock) * self.assumed.stock_task_tokens
        written = self._written(one) * layers * self.assumed.token_seconds
        seconds = self._start(self.size.parameters(layers)) + self._arithmetic(2 * matrices * tokens) + written
        return Job(one.key, "evaluate", seconds, host=self.size.parameters(layers) * self.size.bytes)

    def _written(self, one: Evaluation) -> float:
        """Passes, one after another, in which a run's answers are written."""
        asked = [(self.assumed.answers, 1.0) for name in one.stock if "exact_match" in stock_tasks.task(name).metric]
        for node in (self.graph.nodes[node] for node in one.tasks.values()):
            track, kind = node.options["track"], node.options["kind"]
            items = self.graph.nodes[node.parents["data"]].options["config"].get("test_items") or self.assumed.answers
            asked += [
                (items, self.assumed.turns if task.episodes else 1.0)
                for task in registry.benchmark(track, kind).TASKS
                if task.split == one.options["split"] and _is_written(track, task.name)
            ]
        limit, batch_size = one.options["limit"] or math.inf, one.options["batch_size"]
        batches = sum(turns * math.ceil(min(items, limit) / batch_size) for items, turns in asked)
        return batches * self.assumed.answer_tokens

    def _start(self, parameters: int) -> float:
        return self.assumed.job_seconds + parameters * self.size.bytes / self.assumed.read_rate

    def _arithmetic(self, flops: float) -> float:
        return flops / (self.assumed.flops * self.assumed.utilisation)


@cache
def _is_written(track: str, task: str) -> bool:
    """Whether a task's answers are written, and not chosen among given ones."""
    folder = registry.project_root() / "benchmarks" / track / "tasks"
    text = (folder / f"{task}.yaml").read_text()
    shared = re.search(r"^include: (\S+)$", text, re.MULTILINE)
    return "output_type: generate_until" in text + ((folder / shared[1]).read_text() if shared else "")


def _tuner(node: Node) -> TunerConfig:
    options = node.options["tuner"]
    tuner: TunerConfig = registry.method("tuners", options["kind"]).Config.model_validate(options)
    return tuner


def _leaves_adapters(node: Node) -> bool:
    """Whether a training stage keeps what it trained apart from the model, which is small."""
    if node.options.get("merge", True):
        return False
    return getattr(registry.method("tuners", node.options["tuner"]["kind"]), "ADAPTERS", False)


def _makes_model(node: Node) -> bool:
    """Whether it is a preparation that leaves a model."""
    if node.kind != "prepare":
        return False
    steps = registry.method("tuners", node.options["tuner"]["kind"]).preparations(_tuner(node))
    return any(step.name == node.options["function"] and step.makes_model for step in steps)


def published_epoch(preset: Preset, track: str) -> published.Epoch | None:
    """What is published of the track's training data, where the preset takes all of them from the hub."""
    benchmark = preset.benchmark(track)
    if benchmark is None or getattr(benchmark, "train_items", None) is not None:
        return None
    sources = [
        getattr(preset.data, name) for name in getattr(registry.benchmark(track, benchmark.kind), "PUBLIC_DATA", {})
    ]
    keys = ((one.hub_id, track, getattr(benchmark, "form", None)) for one in sources if one.path is None)
    return next((published.EPOCHS[key] for key in keys if key in published.EPOCHS), None)
