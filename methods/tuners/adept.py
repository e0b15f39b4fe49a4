"""ADEPT: copy the layers that general ability needs least, then tune the copies unit by unit.

Paper: arXiv 2510.10071 (ICLR 2026). Stage 1 probes every layer on general text and expands the model by identity copies
of the least important ones; stage 2 trains the copies alone, every unit at a rate that falls with its importance for
general text, measured again every few hundred steps.

Differs from the authors' code (PuppyKnightUniversity/ADEPT), which has two parameter groups and so two rates, normalises
over all tensors together, where norm gains outweigh every matrix, and adds the probe's gradients to the next step. Here
every unit has its own rate, matrices are ranked among matrices and norm gains among norm gains, and probing leaves no
trace. What that code does remains as two choices (`decoupled_minmax`, `decoupled_calibrated`), beside the controls:
`uniform`, `uniform_2x`, other placements, and training the chosen layers themselves.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from adaptbench.contracts import Preparation, StageContext, TunerConfig
from adaptbench.errors import AdaptbenchError
from adaptbench.methods.tuners import adept_figures
from adaptbench.model.units import Units, units

if TYPE_CHECKING:
    import torch

    from adaptbench.train.hooks import Run

EXAMPLE = {"layers": 2, "refresh_every": 2, "probe_batch_size": 4, "probe_length": 64}
PROBED = ("lowest", "highest")
RANKED = ("decoupled_rank", "decoupled_rank_by_name")
DECOUPLED = (*RANKED, "decoupled_calibrated", "decoupled_minmax")
PAPERS_STEPS = 500  # between two measurements
SHARE = 10  # of a shorter stage: one of so many parts

Rule = Literal["lowest", "uniform", "suffix", "random", "highest"]


def _placement(value: Any) -> Any:
    """A rule's name, or layers' indices in ascending order.

    Raises:
        ValueError: neither.
    """
    if isinstance(value, str) and value in get_args(Rule):
        return value
    if not isinstance(value, (list, tuple)) or not value or any(type(one) is not int or one < 0 for one in value):
        raise ValueError(f"must be one of {', '.join(get_args(Rule))}, or a list of layers' indices, from 0")
    if len(set(value)) != len(value):
        raise ValueError("must list each layer once")
    return tuple(sorted(value))


class Config(TunerConfig):
    kind: Literal["adept"] = "adept"
    placement: Annotated[
        Rule | tuple[int, ...],
        BeforeValidator(_placement, json_schema_input_type=Rule | list[Annotated[int, Field(ge=0)]]),
    ] = Field(
        "lowest",
        description="which layers: of lowest (ADEPT) or highest importance, evenly spread (LLaMA-Pro), the last, any; or their indices, from 0",
    )
    layers: int = Field(4, gt=0, description="how many layers are chosen; where placement lists them, as many")
    expansion: Literal["copy", "none"] = Field(
        "copy", description="copy: train identity copies of them; none: train them themselves"
    )
    unit_lr: Literal[
        "decoupled_rank",
        "decoupled_rank_by_name",
        "decoupled_calibrated",
        "decoupled_minmax",
        "uniform",
        "uniform_2x",
    ] = Field(
        "decoupled_rank",
        description="rate of a unit: by its importance's rank among all matrices, norm gains or biases of the trained layers, or among "
        "the parameters of its name; by the importance min-max normalised, matrices apart (calibrated) or over all units (both as "
        "released); or one for all",
    )
    unit: Literal["tensor", "row", "head"] = Field("tensor", description="what has a rate of its own")
    refresh_every: int | None = Field(
        None,
        gt=0,
        description=f"steps between measurements of the units' importance; default: {PAPERS_STEPS}, or a tenth of a stage's steps where that is fewer",
    )
    probe_documents: int | None = Field(None, gt=0, description="general documents to probe with; default: all")
    probe_batch_size: int = Field(16, gt=0, description="sequences in a probing batch")
    probe_length: int = Field(128, ge=8, description="tokens in a probing sequence")

    @model_validator(mode="before")
    @classmethod
    def _count_listed_layers(cls, values: Any) -> Any:
        placement = values.get("placement") if isinstance(values, dict) else None
        if isinstance(placement, (list, tuple)) and placement and "layers" not in values:
            return values | {"layers": len(placement)}
        return values

    @field_validator("layers")
    @classmethod
    def _as_many_as_listed(cls, value: int, info: ValidationInfo) -> int:
        placement = info.data.get("placement")
        if isinstance(placement, tuple) and value != len(placement):
            raise ValueError(f"must be {len(placement)}, as many as placement lists, or be left out")
        return value

    @property
    def moves_base_weights(self) -> bool:
        return self.expansion == "none"

    def needs(self) -> tuple[str, ...]:
        return ("expansion",) if self.expansion == "copy" else ()

    def share(self, layers: int) -> tuple[int, int | None]:
        return (self.layers if self.expansion == "copy" else 0), self.layers

    def problem(self, run, base_layers: int | None) -> str:
        return (
            (_missing_layers(self, base_layers) if base_layers is not None else "")
            or (
                "unit_lr: rates by unit are AdamW's; training.optimizer is muon"
                if run.training.optimizer == "muon"
                else ""
            )
            or self._unmeasured(run)
        )

    def _unmeasured(self, run) -> str:
        """Why no unit's importance is measured in one of the run's stages, as far as their steps are known."""
        from adaptbench import registry

        if self.unit_lr not in DECOUPLED or self.expansion == "none":
            return ""
        module = registry.method("curricula", run.curriculum.kind)
        for phase in module.phases(run.curriculum, run.track, run.training):
            # A stage after another begins with copies that have moved, and is measured before its first step.
            if phase.parent is not None or phase.tuner is not None:
                continue
            if hasattr(registry.method("curricula", (phase.curriculum or run.curriculum).kind), "steps"):
                continue  # counted in the stage; it is checked there
            steps = phase.training.get("steps") or (None if phase.training.get("epochs") else run.training.steps)
            if steps is not None and self.every(steps) >= steps:
                return f"refresh_every: {self._too_few(steps, f'the stage {phase.name!r}')}"
        return ""

    def every(self, steps: int) -> int:
        """Steps between measurements in a stage of so many."""
        return self.refresh_every or max(1, min(PAPERS_STEPS, steps // SHARE))

    def _too_few(self, steps: int, stage: str) -> str:
        return (
            f"importance is first measured after {self.every(steps)} steps, and {stage} has {steps}, so that all its rates "
            "would be one; set fewer than it has, or more training.steps"
        )


def _missing_layers(config: Config, layers: int) -> str:
    """Say which of the wanted layers a base of so many does not have, as "<key>: <reason>"; empty if it has all."""
    if isinstance(config.placement, tuple) and config.placement[-1] >= layers:
        return f"placement: layer {config.placement[-1]} is none of the base's {layers}, which are 0 to {layers - 1}"
    return f"layers: must be <= {layers}, the base's layers" if config.layers > layers else ""


# --- stage 1: general-competence guided selective expansion


def preparations(config: Config) -> tuple[Preparation, ...]:
    """The probe is one stage for all runs that probe alike; the expansion depends on the seed only where it is drawn."""
    probe = Preparation(
        "probe", makes_model=False, data=("general",), options=("probe_documents", "probe_batch_size", "probe_length")
    )
    expand = Preparation(
        "expand",
        makes_model=config.expansion == "copy",
        seeded=config.placement == "random",
        options=("layers", "placement", "expansion"),
    )
    return (probe, expand) if config.placement in PROBED else (expand,)


def probe(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> dict[str, Any]:
    """Write importance.json: every layer's importance on the general benchmark's probe corpus."""
    from adaptbench.io.files import write_text
    from adaptbench.model import storage
    from adaptbench.train.cost import forward_flops

    model = storage.load_model(inputs["base"]).to(context.device)
    batches = probe_batches(config, context)
    loss, importance = layer_importance(model, batches)
    write_text(out / "importance.json", json.dumps({"base_loss": loss, "importance": importance}, indent=1) + "\n")
    # Bypassing each of n layers in turn puts a position through about (n + 1) / 2 whole models.
    passes = 1 + (len(importance) + 1) / 2
    tokens = sum(batch["input_ids"].numel() for batch in batches)
    return {"cost": {"tokens": round(tokens * passes), "flops": round(forward_flops(model, tokens) * passes)}}


def probe_batches(config: Config, context: StageContext) -> "list[Mapping[str, torch.Tensor]]":
    """The probe corpus as packed batches; documents do not see each other, padding has no label."""
    from adaptbench.data.packing import Packed, document
    from adaptbench.data.tokenizer import encode_documents
    from adaptbench.io.jsonl import read_jsonl

    path = context.data["general"] / "splits" / "probe.jsonl"
    if not path.exists():
        raise AdaptbenchError("data.general: this benchmark has no probe corpus, which adept measures importance on")
    texts = [record["text"] for record in read_jsonl(path, require=("text",))]
    if config.probe_documents is not None and config.probe_documents > len(texts):
        raise AdaptbenchError(f"tuner.probe_documents: must be <= {len(texts)}, the documents of the probe corpus")
    texts = texts[: config.probe_documents]
    assert context.tokenizer is not None
    examples = [document(ids) for ids in encode_documents(context.tokenizer, texts)]
    packed = Packed(examples, config.probe_length, seed=0, together=context.can("packing"))
    rows = packed.epoch(0)
    size, pad = config.probe_batch_size, context.tokenizer.pad_token_id
    batches = [packed.collate(rows[i : i + size], pad) for i in range(0, len(rows), size)]
    return [{name: tensor.to(context.device) for name, tensor in batch.items()} for batch in batches]


def layer_importance(model, batches: "Sequence[Mapping[str, torch.Tensor]]") -> tuple[float, list[float]]:
    """The probe loss L0 (nats a token), and for every layer l the rise L(l) - L0 when l is bypassed: its output is its input.

    What happens below the bypassed layer is the base's own and is computed once, which halves the cost of bypassing one
    layer after the other.
    """
    import torch

    from adaptbench.model.expansion import decoder_layers
    from adaptbench.train.objectives import causal_lm

    layers = decoder_layers(model)
    totals = torch.zeros(len(layers) + 1, dtype=torch.float64)
    tokens = 0
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            labelled = int((batch["labels"][:, 1:] >= 0).sum())
            bypassed: list[Any] = []
            hooks = [layer.register_forward_hook(_keep_input(bypassed), with_kwargs=True) for layer in layers]
            try:
                losses = [causal_lm(model, batch)]
            finally:
                for hook in hooks:
                    hook.remove()
            for index in range(len(layers)):
                with _Bypass(layers, index, bypassed[index]):
                    losses.append(causal_lm(model, batch))
            totals += torch.stack(losses).double().cpu() * labelled
            tokens += labelled
    base, *bypassed = (totals / tokens).tolist()
    return base, [loss - base for loss in bypassed]


def _keep_input(bypassed: list[Any]):
    """Keeps what a layer would return if it did nothing: its input, beside what else it returns (attention weights, say)."""
    import torch

    def hook(layer, given, named, output) -> None:
        hidden_states = given[0] if given else named["hidden_states"]
        bypassed.append(hidden_states if isinstance(output, torch.Tensor) else (hidden_states, *output[1:]))

    return hook


class _Bypass:
    """Layer `index` returns `bypassed`, which hands on its own input, and the layers below it do nothing."""

    def __init__(self, layers, index: int, bypassed: Any) -> None:
        self.layers, self.bypassed = layers[: index + 1], bypassed

    def __enter__(self) -> None:
        for layer in self.layers:
            layer.forward = lambda *_, **__: self.bypassed

    def __exit__(self, *_: object) -> None:
        for layer in self.layers:
            del layer.forward


def expand(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> dict[str, Any]:
    """Write chosen.json and, unless the chosen layers themselves are trained, the model with their identity copies."""
    from adaptbench.io.files import write_text
    from adaptbench.model import expansion, storage

    base = storage.load_model(inputs["base"])
    importance = None
    if config.placement in PROBED:
        importance = json.loads((inputs["probe"] / "importance.json").read_text())["importance"]
    chosen = chosen_layers(config, len(expansion.decoder_layers(base)), importance, context.seed)
    write_text(out / "chosen.json", json.dumps(chosen) + "\n")
    if config.expansion == "copy":
        expanded = expansion.expand(base, chosen)
        expansion.check_identity(base, expanded)
        storage.save_model(expanded, context.tokenizer, out)
    return {}


def chosen_layers(config: Config, layers: int, importance: Sequence[float] | None, seed: int) -> list[int]:
    """The indices of the layers to copy, ascending.

    Raises:
        AdaptbenchError: layers that the model does not have, or an importance without an order.
    """
    import random

    from adaptbench.model.expansion import evenly_spread

    if problem := _missing_layers(config, layers):
        raise AdaptbenchError(f"tuner.{problem}")
    if isinstance(config.placement, tuple):
        return list(config.placement)
    if config.placement == "uniform":
        return evenly_spread(layers, config.layers)
    if config.placement == "suffix":
        return list(range(layers - config.layers, layers))
    if config.placement == "random":
        return sorted(random.Random(f"{seed}/adept").sample(range(layers), config.layers))
    assert importance is not None
    for layer, value in enumerate(importance):
        if not value > -math.inf:
            raise AdaptbenchError(f"layer {layer} of the base: its importance is {value}, which has no order")
    ordered = sorted(range(layers), key=lambda layer: importance[layer], reverse=config.placement == "highest")
    return sorted(ordered[: config.layers])


# --- stage 2: adaptive unit-wise decoupled tuning


def data(config: Config) -> tuple[str, ...]:
    return ("general",) if config.unit_lr in DECOUPLED else ()


def adapt(config: Config, model, context: StageContext):
    """Only the copies (or the chosen layers) require gradients; below the lowest of them nothing is differentiated."""
    from adaptbench.model.expansion import decoder_layers, expanded_layers

    model.requires_grad_(False)
    if config.expansion == "copy":
        trained = expanded_layers(model)
    else:
        chosen = json.loads((context.prepared["expand"] / "chosen.json").read_text())
        trained = [decoder_layers(model)[index] for index in chosen]
    for layer in trained:
        layer.requires_grad_(True)
    return model


def unit_importance(
    model, batches: "Sequence[Mapping[str, torch.Tensor]]", split: Mapping[str, Units], run: "Run | None" = None
) -> "dict[str, torch.Tensor]":
    """Mean of |w * dL/dw| over each unit, L the probe loss of a batch, averaged over the batches' tokens.

    `run` calls an objective where the model is spread over processes; all of them must come here with the same batches. Leaves no
    gradient, no change of mode and no step of the random generators behind.
    """
    import torch

    from adaptbench.train.distributed import full_tensor
    from adaptbench.train.objectives import causal_lm

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    before = {name: p.grad for name, p in trained.items()}
    for p in trained.values():
        p.grad = None
    totals: dict[str, torch.Tensor] = {}
    tokens = 0
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(), torch.enable_grad():
        for batch in batches:
            labelled = int((batch["labels"][:, 1:] >= 0).sum())
            loss = run(causal_lm, batch) if run else causal_lm(model, batch)
            loss.backward()  # not autograd.grad, of which DDP and FSDP2 hear nothing
            for name, p in trained.items():
                gradient, p.grad = p.grad, None
                if name in split:
                    gradient = torch.zeros_like(p) if gradient is None else gradient
                    mean = split[name].means(full_tensor(p.detach()), full_tensor(gradient)) * labelled
                    totals[name] = totals[name] + mean if name in totals else mean
            tokens += labelled
    for name, p in trained.items():
        p.grad = before[name]
    model.train(was_training)
    return {name: total / tokens for name, total in totals.items()}


def multipliers(
    importance: "Mapping[str, torch.Tensor]", split: Mapping[str, Units], unit_lr: str
) -> "dict[str, torch.Tensor]":
    """Every unit's rate as a multiple of the base rate: 2 * (1 - I'), I' its importance brought to [0, 1].

    decoupled_rank: I' is the unit's place, (rank - 1/2) / n, among all matrices' units, among all norm gains' or among all
    biases', equal importances sharing a place; the mean multiplier of the units of a ranking is 1.
    decoupled_rank_by_name: its place among the units of the parameters of its name.
    decoupled_minmax: (I - min) / (max - min) over all units, as released; where gains outweigh matrices, these have 2.
    decoupled_calibrated: a matrix's over all matrices' units, a gain's or a bias's over all units, as released; but there
    gains without "layernorm" in their name (those of queries and keys) and biases count as matrices.
    Units that are all equally important have 1.
    """
    import torch
    from scipy.stats import rankdata

    flat = {name: values.flatten().double().cpu() for name, values in importance.items()}
    together: dict[str, list[str]] = {}
    for name in importance:
        sort = {"decoupled_minmax": "", "decoupled_rank_by_name": split[name].kind}.get(unit_lr)
        together.setdefault(_sort(name, split[name].kind) if sort is None else sort, []).append(name)
    found = {}
    for sort, names in together.items():
        values = torch.cat([flat[name] for name in names])
        if unit_lr in RANKED:
            place = (torch.from_numpy(rankdata(values.numpy())) - 0.5) / len(values)
        else:
            among = torch.cat([*flat.values()]) if sort in ("norm", "bias") else values
            low, high = among.min(), among.max()
            place = (values - low) / (high - low) if high > low else torch.full_like(values, 0.5)
        for name, part in zip(names, (2 * (1 - place)).split([len(flat[name]) for name in names]), strict=True):
            found[name] = part.reshape(importance[name].shape).to(importance[name])
    return found


def _sort(name: str, kind: str) -> str:
    """Name the ranking that a parameter's units are in. An entry of a gain or a bias acts on a whole channel, so that its
    importance has another scale than that of a matrix's entry.
    """
    return "bias" if name.endswith("bias") else "norm" if "norm" in kind else "matrix"


def optimizer(config: Config, model, training):
    """AdamW with a rate for each unit; weight decay on matrices only, as in every other run."""
    import torch

    from adaptbench.kernels.unitwise_adamw import UnitwiseAdamW
    from adaptbench.model import parameters

    if training.optimizer != "adamw":
        raise AdaptbenchError("tuner.unit_lr: rates by unit are AdamW's; set training.optimizer: adamw")
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = parameters.decay_groups(trained, training.weight_decay)
    made = UnitwiseAdamW(groups, lr=training.learning_rate, betas=training.betas, eps=1e-8, fused=True)
    if config.unit_lr == "uniform_2x":
        made.multipliers = {p: torch.tensor(2.0, device=p.device) for p in trained}
    return made


def callback(config: Config, model, optimizers, context: StageContext):
    return Refresh(config, model, optimizers[0], context) if config.unit_lr in DECOUPLED else None


class Refresh:
    """Measures the units' importance and sets their rates by it: before the first step, unless the copies are still at their
    zero start, and then after every so many steps but the last.

    A unit is a part of a trained layer. What trains besides, rows of new tokens, keeps the base rate.
    """

    def __init__(self, config: Config, model, unitwise, context: StageContext) -> None:
        from adaptbench.model.expansion import decoder_layers

        self.config, self.model, self.unitwise, self.context = config, model, unitwise, context
        layer_of = {id(p): index for index, layer in enumerate(decoder_layers(model)) for p in layer.parameters()}
        self.layers = {name: layer_of[id(p)] for name, p in model.named_parameters() if id(p) in layer_of}
        self.units = {name: one for name, one in units(model, config.unit).items() if name in self.layers}
        self.batches: list[Any] | None = None
        self.current: dict[str, torch.Tensor] = {}
        self.steps: int | None = None

    def start(self, step: int, steps: int, run: "Run") -> dict[str, float]:
        self.steps = steps
        if step:
            return {}  # goes on from a checkpoint, which holds the rates
        if self._measured(step, run, first_batch=True) is None:
            if self.config.every(steps) >= steps:
                raise AdaptbenchError(f"tuner.refresh_every: {self.config._too_few(steps, 'this stage')}")
            return {}
        return {f"start/{name}": value for name, value in self._refresh(step, run).items()}

    def after_step(self, step: int, run: "Run") -> dict[str, float]:
        last = math.inf if self.steps is None else self.steps
        every = self.config.every(self.steps or PAPERS_STEPS * SHARE)
        if step % every or step == last:
            return {}
        logged = self._refresh(step, run)
        if not self.current and step + every >= last:
            raise AdaptbenchError(
                f"tuner.refresh_every: after step {step} of {self.steps} the copies have not moved, and importance is not "
                "measured again; set fewer, or less training.warmup_ratio"
            )
        return logged

    def _refresh(self, step: int, run: "Run") -> dict[str, float]:
        importance = self._measured(step, run)
        if importance is None:
            return {}
        self._set(multipliers(importance, self.units, self.config.unit_lr))
        entries = {name: p.numel() for name, p in self._parameters().items()}
        means = {name: float(values.mean()) for name, values in self.current.items()}
        logged = {f"importance/{name}": float(values.mean()) for name, values in importance.items()}
        logged |= {f"multiplier/{name}": value for name, value in means.items()}
        return logged | {"mean_multiplier": sum(means[name] * entries[name] for name in means) / sum(entries.values())}

    def _measured(self, step: int, run: "Run", *, first_batch: bool = False) -> "dict[str, torch.Tensor] | None":
        """The units' importance; None while a layer has none at all, and so no order: a copy at its zero start.

        Raises:
            AdaptbenchError: an importance is no finite number.
        """
        if self.batches is None:
            self.batches = probe_batches(self.config, self.context)
        importance = unit_importance(self.model, self.batches[:1] if first_batch else self.batches, self.units, run)
        for name, values in importance.items():
            if not values.isfinite().all():
                raise AdaptbenchError(
                    f"step {step}: the importance of {name} on the general corpus is no finite number; lower training.learning_rate"
                )
        moved = {self.layers[name] for name, values in importance.items() if values.any()}
        return importance if moved == {self.layers[name] for name in importance} else None

    def _set(self, by_unit: "dict[str, torch.Tensor]") -> None:
        self.current = by_unit
        self.unitwise.multipliers = {
            p: self.units[name].spread(by_unit[name].to(p.device, p.dtype), p) for name, p in self._parameters().items()
        }

    def _parameters(self) -> "dict[str, torch.nn.Parameter]":
        """As they are now: sharding puts others in their place."""
        return {name: p for name, p in self.model.named_parameters() if name in self.units}

    def state(self) -> dict[str, Any]:
        return {name: values.flatten().tolist() for name, values in self.current.items()}

    def restore(self, state: dict[str, Any]) -> None:
        import torch

        if state:
            shapes = {name: units.shape for name, units in self.units.items()}
            dtypes = {name: p.dtype for name, p in self._parameters().items()}
            self._set({n: torch.tensor(v, dtype=dtypes[n]).reshape(shapes[n]) for n, v in state.items()})


FIGURES = {"layer_importance": adept_figures.layer_importance, "unit_rates": adept_figures.unit_rates}
