"""ADEPT: copy the layers that general ability needs least, then tune the copies unit by unit.

Paper: arXiv 2510.10071 (ICLR 2026). Stage 1 probes every layer on general text and expands the model by identity copies
of the least important ones; stage 2 trains the copies alone, every unit at a rate that falls with its importance for
general text, measured again every few hundred steps.

Differs from the authors' code (PuppyKnightUniversity/ADEPT), which has two parameter groups and so two rates, normalises
over all tensors together, where norm gains outweigh every matrix, and adds the probe's gradients to the next step. Here
every unit has its own rate, importances are ranked within a kind of unit, and probing leaves no trace. What that code
does remains as a choice (`decoupled_minmax`), beside the controls: `uniform`, `uniform_2x`, other placements, and training
the chosen layers themselves.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from adaptbench.contracts import AdaptbenchError, Preparation, StageContext, TunerConfig
from adaptbench.methods.tuners import adept_figures
from adaptbench.units import Units, units

if TYPE_CHECKING:
    import torch

    from adaptbench.training import Run

EXAMPLE = {"layers": 2, "refresh_every": 2, "probe_batch_size": 4, "probe_length": 64}
PROBED = ("lowest", "highest")
DECOUPLED = ("decoupled_rank", "decoupled_minmax")


class Config(TunerConfig):
    kind: Literal["adept"] = "adept"
    layers: int = Field(4, gt=0, description="how many layers are chosen")
    placement: Literal["lowest", "uniform", "suffix", "random", "highest"] = Field(
        "lowest", description="which: of lowest (ADEPT) or highest importance, evenly spread (LLaMA-Pro), the last, any"
    )
    expansion: Literal["copy", "none"] = Field(
        "copy", description="copy: train identity copies of them; none: train them themselves"
    )
    unit_lr: Literal["decoupled_rank", "decoupled_minmax", "uniform", "uniform_2x"] = Field(
        "decoupled_rank", description="rate of a unit: by its importance's rank within its kind, by the importance min-max normalised over all units (as released), or one for all"
    )  # fmt: skip
    unit: Literal["tensor", "row", "head"] = Field("tensor", description="what has a rate of its own")
    refresh_every: int = Field(500, gt=0, description="steps between measurements of the units' importance")
    probe_documents: int | None = Field(None, gt=0, description="general documents to probe with; default: all")
    probe_batch_size: int = Field(16, gt=0, description="sequences in a probing batch")
    probe_length: int = Field(128, ge=8, description="tokens in a probing sequence")

    @property
    def moves_base_weights(self) -> bool:
        return self.expansion == "none"

    def needs(self) -> tuple[str, ...]:
        return ("expansion",) if self.expansion == "copy" else ()

    def share(self, layers: int) -> tuple[int, int | None]:
        return (self.layers if self.expansion == "copy" else 0), self.layers

    def problem(self, run, base_layers: int | None) -> str:
        if base_layers is not None and self.layers > base_layers:
            return f"layers: must be <= {base_layers}, the base's layers"
        return (
            "unit_lr: rates by unit are AdamW's; training.optimizer is muon" if run.training.optimizer == "muon" else ""
        )


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
    from adaptbench import models
    from adaptbench.cost import forward_flops
    from adaptbench.files import write_text

    model = models.load_model(inputs["base"]).to(context.device)
    batches = probe_batches(config, context)
    loss, importance = layer_importance(model, batches)
    write_text(out / "importance.json", json.dumps({"base_loss": loss, "importance": importance}, indent=1) + "\n")
    # Bypassing each of n layers in turn puts a position through about (n + 1) / 2 whole models.
    passes = 1 + (len(importance) + 1) / 2
    tokens = sum(batch["input_ids"].numel() for batch in batches)
    return {"cost": {"tokens": round(tokens * passes), "flops": round(forward_flops(model, tokens) * passes)}}


def probe_batches(config: Config, context: StageContext) -> "list[Mapping[str, torch.Tensor]]":
    """The probe corpus as packed batches; documents do not see each other, padding has no label."""
    from adaptbench.documents import read_jsonl
    from adaptbench.packing import Packed, document
    from adaptbench.tokenizer import encode_documents

    path = context.data["general"] / "splits" / "probe.jsonl"
    if not path.exists():
        raise AdaptbenchError("data.general: this benchmark has no probe corpus, which adept measures importance on")
    texts = [record["text"] for record in read_jsonl(path, require=("text",))][: config.probe_documents]
    if not texts:
        raise AdaptbenchError("data.general: the probe corpus is empty, which adept measures importance on")
    assert context.tokenizer is not None
    examples = [document(ids) for ids in encode_documents(context.tokenizer, texts)]
    packed = Packed(examples, config.probe_length, seed=0, together=context.packs)
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

    from adaptbench.expansion import decoder_layers
    from adaptbench.training import causal_lm

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
    from adaptbench import expansion, models
    from adaptbench.files import write_text

    base = models.load_model(inputs["base"])
    importance = None
    if config.placement in PROBED:
        importance = json.loads((inputs["probe"] / "importance.json").read_text())["importance"]
    chosen = chosen_layers(config, len(expansion.decoder_layers(base)), importance, context.seed)
    write_text(out / "chosen.json", json.dumps(chosen) + "\n")
    if config.expansion == "copy":
        expanded = expansion.expand(base, chosen)
        expansion.check_identity(base, expanded)
        models.save_model(expanded, context.tokenizer, out)
    return {}


def chosen_layers(config: Config, layers: int, importance: Sequence[float] | None, seed: int) -> list[int]:
    """The indices of the layers to copy, ascending.

    Raises:
        AdaptbenchError: more layers than the model has.
    """
    import random

    from adaptbench.expansion import evenly_spread

    if config.layers > layers:
        raise AdaptbenchError(f"tuner.layers: must be <= {layers}, the base's layers")
    if config.placement == "uniform":
        return evenly_spread(layers, config.layers)
    if config.placement == "suffix":
        return list(range(layers - config.layers, layers))
    if config.placement == "random":
        return sorted(random.Random(f"{seed}/adept").sample(range(layers), config.layers))
    assert importance is not None
    ordered = sorted(range(layers), key=lambda layer: importance[layer], reverse=config.placement == "highest")
    return sorted(ordered[: config.layers])


# --- stage 2: adaptive unit-wise decoupled tuning


def data(config: Config) -> tuple[str, ...]:
    return ("general",) if config.unit_lr in DECOUPLED else ()


def adapt(config: Config, model, context: StageContext):
    """Only the copies (or the chosen layers) require gradients; below the lowest of them nothing is differentiated."""
    from adaptbench.expansion import decoder_layers, expanded_layers

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

    from adaptbench.parallel import whole
    from adaptbench.training import causal_lm

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
                    mean = split[name].means(whole(p.detach()), whole(gradient)) * labelled
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

    decoupled_rank: I' is the unit's place among the units of its kind, (rank - 1/2) / n, equal importances sharing a
    place; the mean multiplier of a kind is 1, so that what is measured is the decoupling and not a higher rate.
    decoupled_minmax: (I - min) / (max - min) over all units together, as released; nearly every unit then has 2.
    """
    import torch
    from scipy.stats import rankdata

    together: dict[str, list[str]] = {}
    for name in importance:
        together.setdefault(split[name].kind if unit_lr == "decoupled_rank" else "", []).append(name)
    found = {}
    for names in together.values():
        values = torch.cat([importance[name].flatten() for name in names]).double().cpu()
        if unit_lr == "decoupled_rank":
            place = (torch.from_numpy(rankdata(values.numpy())) - 0.5) / len(values)
        else:
            place = (values - values.min()) / (values.max() - values.min()).clamp_min(torch.finfo(torch.float64).tiny)
        sizes = [importance[name].numel() for name in names]
        for name, part in zip(names, (2 * (1 - place)).split(sizes), strict=True):
            found[name] = part.reshape(importance[name].shape).to(importance[name])
    return found


def optimizer(config: Config, model, training):
    """AdamW with a rate for each unit; weight decay on matrices only, as in every other run."""
    import torch

    from adaptbench import models
    from adaptbench.kernels.unitwise_adamw import UnitwiseAdamW

    if training.optimizer != "adamw":
        raise AdaptbenchError("tuner.unit_lr: rates by unit are AdamW's; set training.optimizer: adamw")
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = models.decay_groups(trained, training.weight_decay)
    made = UnitwiseAdamW(groups, lr=training.learning_rate, betas=training.betas, eps=1e-8, fused=True)
    if config.unit_lr == "uniform_2x":
        made.multipliers = {p: torch.tensor(2.0, device=p.device) for p in trained}
    return made


def callback(config: Config, model, optimizers, context: StageContext):
    return Refresh(config, model, optimizers[0], context) if config.unit_lr in DECOUPLED else None


class Refresh:
    """Measures the units' importance every `refresh_every` steps and sets their rates by it."""

    def __init__(self, config: Config, model, unitwise, context: StageContext) -> None:
        self.config, self.model, self.unitwise, self.context = config, model, unitwise, context
        self.units = units(model, config.unit)
        self.batches: list[Any] | None = None
        self.current: dict[str, torch.Tensor] = {}

    def after_step(self, step: int, run: "Run") -> dict[str, float]:
        if step % self.config.refresh_every:
            return {}
        if self.batches is None:
            self.batches = probe_batches(self.config, self.context)
        importance = unit_importance(self.model, self.batches, self.units, run)
        if any(not values.any() for values in importance.values()):
            return {}  # a copy whose output projections are still zero has no importance yet, and no order
        self._set(multipliers(importance, self.units, self.config.unit_lr))
        logged = {f"importance/{name}": float(values.mean()) for name, values in importance.items()}
        return logged | {f"multiplier/{name}": float(values.mean()) for name, values in self.current.items()}

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
