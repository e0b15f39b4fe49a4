"""What a preset will take, from parameters and tokens: jobs, GPU hours, memory, disk and downloads, before anything runs.

FLOPs are those of matrix products, as adaptbench/cost.py counts them afterwards: a weight costs a token 2 forward, 2 on the way back, and 2 more
if it trains. A step of a small model takes what starting its operations takes, however little they compute. That an untrained bottom of the
network needs no way back is not counted, nor are probes and attention scores. Latents cut a step into passes one after another: by wavefront over
pieces, which together are the step's tokens, by Jacobi over all tokens each time, whose activations are all kept. Answers are written a batch at a time, token after token, in what starting the operations takes. What is assumed is printed, and an option of `make plan`.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property

from adaptbench import checks, hub, plan, published, registry, stock_tasks
from adaptbench.config import HubData, Preset, Training
from adaptbench.contracts import AdaptbenchError, TunerConfig
from adaptbench.graph import Evaluation, Graph, Node

REPORTS = ("collect", "conclude", "tables", "figures", "paper", "explorer")
OPTIMIZER = {"adamw": 8, "muon": 4}  # bytes a trained parameter: moments in float32
ACTIVATIONS = (
    34  # bytes a token, layer and hidden unit in 16 bits: arXiv 2205.05198, equation 2 without attention scores
)
ASSUMED_LAYERS = 32  # of a model of which only the name is known


@dataclass(frozen=True)
class Assumptions:
    """What no preset says."""

    flops: float = 989e12  # a GPU's in a second: H100 SXM, bfloat16 without sparsity (NVIDIA's data sheet)
    utilisation: float = 0.35  # the share of them that is reached
    gpus: int = 1  # that work at a time, one job each
    epoch_tokens: float = 10e6  # of an epoch, where the data are not there yet and nothing is published of them
    stock_task_tokens: float = 5e6  # that a task of lm-eval puts through a model
    task_tokens: float = 2e5  # the same, a task of a benchmark here
    layer_seconds: float = 0.002  # that a layer takes in a training step at least: some 135 operations and casts to bfloat16, started one by one
    latent_passes: float = 8.0  # of a step with latents, one after another: one more than the most of a row
    token_seconds: float = 0.0005  # that a layer takes at least to write the next token of a batch
    answer_tokens: float = 100.0  # of an answer, in the longest of its batch
    answers: float = 1000.0  # that a task has written, where no option says how many
    turns: float = 5.0  # in which a live episode is written
    job_seconds: float = 10.0  # to start a job on its GPU, waiting in a queue apart
    read_rate: float = 1e9  # bytes of a model that are read in a second


@dataclass(frozen=True)
class Shape:
    """A model's size: parameters of a layer, of the output head and of all but the layers; bytes of a stored parameter.

    `missing` are bytes that must be downloaded, `origin` says how all this is known.
    """

    layers: int
    layer: int
    head: int
    rest: int
    hidden: int
    bytes: float
    origin: str
    missing: int = 0

    def parameters(self, layers: int) -> int:
        return self.rest + layers * self.layer


def shape(graph: Graph, *, ask: bool = True) -> Shape:
    """The base's size: of its architecture; as it was taken in; of its folder, the hub's cache, the hub (if it may `ask`); where none can be
    had, as it is published, else of its name.

    Raises:
        AdaptbenchError: nothing says how large it is.
    """
    base = graph.preset.base
    if base.model is None:
        return _of_architecture(graph.preset)
    (node,) = (node.id for node in graph.nodes.values() if node.kind == "imported_base")
    taken_in = hub.local(str(graph.directory(node)), "main")
    if found := taken_in or hub.local(base.model, base.revision):
        try:
            return _of_config(found)
        except AdaptbenchError as error:
            raise AdaptbenchError(f"base.model: {base.model}: {error}") from None
    why = "not in the hub's cache"
    if ask:
        try:
            return _of_config(hub.ask(base.model, base.revision))
        except AdaptbenchError as error:  # what the start would refuse (adaptbench/preflight.py) can still be estimated
            why = str(error)
    if base.model in published.MODELS:
        return _of_published(published.MODELS[base.model], f"its published config.json: {why}")
    return _of_name(base.model, why)


def _of_architecture(preset: Preset) -> Shape:
    """Qwen3 as it is pre-trained here, in float32."""
    made = preset.base.architecture
    size = published.Model(
        made.num_hidden_layers,
        made.hidden_size,
        made.intermediate_size,
        made.num_attention_heads,
        made.num_key_value_heads,
        made.hidden_size // made.num_attention_heads,
        preset.tokenizer.vocabulary,
        tied=made.tie_word_embeddings,
        head_norms=True,
    )
    return Shape(size.layers, size.layer, size.head, size.rest, size.hidden, 4.0, "base.architecture")


def _of_published(size: published.Model, origin: str) -> Shape:
    """In 16 bits, as all of them are stored."""
    missing = 2 * (size.rest + size.layers * size.layer)
    return Shape(size.layers, size.layer, size.head, size.rest, size.hidden, 2.0, origin, missing)


def _of_config(found: hub.Found) -> Shape:
    """What the model's config.json and its weights say.

    Raises:
        AdaptbenchError: there are no weights, or its sizes are no whole numbers above zero.
    """
    inner = found.config.get("text_config")
    config = inner if isinstance(inner, Mapping) else found.config
    if not found.parameters:
        raise AdaptbenchError("no weights in its safetensors files")
    stored = found.bytes / found.parameters
    sizes = {"num_hidden_layers", "hidden_size", "vocab_size"} & config.keys()
    for name in sorted(sizes):
        if not isinstance(config[name], int) or isinstance(config[name], bool) or config[name] < 1:
            raise AdaptbenchError(f"config.json: {name} is {config[name]!r}; it must be a whole number above zero")
    if len(sizes) < 3:  # other names in older architectures
        layer = found.parameters // ASSUMED_LAYERS
        origin = f"{found.origin}, {ASSUMED_LAYERS} layers assumed"
        return Shape(ASSUMED_LAYERS, layer, 0, 0, math.isqrt(layer // 12), stored, origin, found.missing)
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    head = config["vocab_size"] * hidden
    layer = (found.parameters - head * (1 if config.get("tie_word_embeddings") else 2)) // layers
    rest = found.parameters - layers * layer
    return Shape(layers, layer, head, rest, hidden, stored, found.origin, found.missing)


def _of_name(model: str, why: str) -> Shape:
    """By the rule that n layers of width h have 12 n h^2 parameters."""
    said = re.search(r"(\d+(?:\.\d+)?)b(?![a-z])", model.casefold())
    if said is None:
        raise AdaptbenchError(f"base.model: {why}; and its name does not say how large it is")
    layer = round(float(said[1]) * 1e9 / ASSUMED_LAYERS)
    origin = f"its name alone, {ASSUMED_LAYERS} layers assumed: {why}"
    return Shape(ASSUMED_LAYERS, layer, 0, 0, math.isqrt(layer // 12), 2.0, origin, 2 * ASSUMED_LAYERS * layer)


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
        self.lacks = checks.base_lacks(graph.preset.base)

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """Of every node and every evaluation, by id or key."""
        nodes = {name: self._of_node(node) for name, node in self.graph.nodes.items()}
        for name in plan.between(self.graph) if self.graph.preset.keep == "scored" else ():
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
        wanted = set(plan.runs(self.graph, part))
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


def public_data(preset: Preset) -> dict[str, HubData]:
    """The data sets of the hub that the preset's benchmarks read, by their key under `data`."""
    names = (
        name
        for track in registry.tracks()
        for one in (preset.benchmark(track), *preset.further_tests(track))
        if one is not None
        for name in getattr(registry.benchmark(track, one.kind), "PUBLIC_DATA", {})
    )
    return {name: source for name in names if (source := getattr(preset.data, name)).path is None}


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


def report(graph: Graph, assumed: Assumptions) -> str:
    """What `make plan` prints of a preset.

    Raises:
        AdaptbenchError: the hub refuses the base, or nothing says how large it is.
    """
    preset = graph.preset
    estimate = Estimate(graph, assumed)
    size = estimate.size
    model = preset.base.model or "a base pre-trained here"
    lines = [
        f"{preset.name}: {model}, {size.parameters(size.layers):.3g} parameters in {size.layers} layers (known from {size.origin})"
    ]
    done: Collection[str] = ()
    for part in plan.parts(graph):
        jobs = estimate.of_part(part)
        episodes = any(table["episodes"] for table in plan.tables(graph, part).values())
        reports = Counter((*REPORTS, "transcripts") if episodes else REPORTS)
        lines.append(f"  {part if part == 'main' else f'{part}, besides'}")
        lines += _of_jobs([job for name, job in jobs.items() if name not in done], reports, assumed)
        done = {*done, *jobs}
    lines.append(f"  downloads    {_downloads(preset, size)}")
    for track in registry.tracks():
        if epoch := published_epoch(preset, track):
            lines.append(f"  an epoch     {track}: {epoch.documents} times {epoch.tokens:.3g} tokens ({epoch.source})")
    values = ", ".join(f"{field.name} {getattr(assumed, field.name):g}" for field in fields(assumed))
    lines.append(f"  assumed      {values}; only models on disk and their checkpoints")
    return "\n".join(lines)


def _of_jobs(jobs: Sequence[Job], reports: Counter[str], assumed: Assumptions) -> list[str]:
    counts = Counter(job.kind for job in jobs) + reports
    hours = {kind: sum(job.seconds * job.gpus for job in jobs if job.kind == kind) / 3600 for kind in counts}
    shown = ", ".join(f"{kind} {value:.3g}" for kind, value in hours.items() if value)
    longest = max(jobs, key=lambda job: job.seconds)
    largest = max(jobs, key=lambda job: job.state + job.activations)
    host = max(jobs, key=lambda job: job.host)
    gpus = max(assumed.gpus, *(job.gpus for job in jobs))
    wall = max(longest.seconds, sum(job.seconds / (gpus // job.gpus) for job in jobs)) / 3600
    each = f" on each of {largest.gpus} GPUs" if largest.gpus > 1 else ""
    kept = sum(job.kept for job in jobs)
    return [
        f"    jobs         {sum(counts.values())}: " + ", ".join(f"{kind} {count}" for kind, count in counts.items()),
        f"    GPU hours    {sum(hours.values()):.3g} ({shown}); about {wall:.3g} hours on {gpus} GPU",
        f"    longest job  {longest.name}: {longest.seconds / 3600:.3g} hours",
        f"    GPU memory   {gb(largest.state)}, and about {gb(largest.activations)} for activations{each}: {largest.name}",
        f"    host memory  about {gb(host.host)}: {host.name}",
        f"    disk         {gb(kept)} kept, {gb(kept + checkpoints(jobs, gpus))} at most",
    ]


def checkpoints(jobs: Sequence[Job], gpus: int) -> float:
    """Bytes of the checkpoints that may lie there at a time."""
    return sum(sorted((job.checkpoint for job in jobs), reverse=True)[:gpus])


def _downloads(preset: Preset, size: Shape) -> str:
    model = f"{gb(size.missing)} of {preset.base.model}" if size.missing else "no model"
    names = [source.hub_id for source in public_data(preset).values()]
    names += [
        name
        for tasks in preset.evaluation.stock_tasks.values()
        for task in tasks
        for name in stock_tasks.describe(task.task).data
    ]
    return f"{model}; data: {', '.join(dict.fromkeys(names))} (not counted)" if names else f"{model}, no data"


def gb(size: float) -> str:
    return f"{size / 1e9:.3g} GB"
