"""ADEPT: copy the layers that general ability needs least, then tune the copies unit by unit.

Paper: arXiv 2510.10071 (ICLR 2026). Stage 1 (adept_layers.py) measures every layer's importance on general text and
expands the model by identity copies of the least important layers. Stage 2 (adept_units.py) trains the copies alone.
Every unit has a learning rate that falls with its importance for general text, measured again every few hundred steps.

Differs from the authors' code (PuppyKnightUniversity/ADEPT) in three points. That code has two parameter groups, hence
two rates; here every unit has its own rate. It normalises importances over all tensors together, where norm gains
outweigh every matrix; here matrices are ranked among matrices and norm gains among norm gains. It adds the probe's
gradients to the next step; here a measurement leaves nothing behind. The released rules for rates remain as choices
(`decoupled_minmax`, `decoupled_calibrated`). Controls: `uniform` and `uniform_2x` rates, other placements, and training
the chosen layers themselves.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from adaptbench.contracts import Preparation, StageContext, TunerConfig
from adaptbench.errors import AdaptbenchError
from adaptbench.methods.tuners import adept_figures, adept_layers, adept_units

EXAMPLE = {"layers": 2, "refresh_every": 2, "probe_batch_size": 4, "probe_length": 64}
PAPERS_STEPS = 500  # between two measurements
SHARE = 10  # a stage too short for that is measured this often

Rule = Literal["lowest", "uniform", "suffix", "random", "highest"]


def _placement(value: Any) -> Any:
    """Return a rule's name as it is, layers' indices in ascending order.

    Raises:
        ValueError: the value is neither.
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
        description="layers that are chosen: those of lowest (ADEPT) or highest importance, evenly spread ones "
        "(LLaMA-Pro), the last ones, random ones; or a list of their indices, from 0",
    )
    layers: int = Field(4, gt=0, description="number of chosen layers; default where placement lists them: as many")
    expansion: Literal["copy", "none"] = Field(
        "copy", description="copy: train identity copies of the chosen layers; none: train the chosen layers themselves"
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
        description="learning rate of a unit: by the rank of its importance among all matrices, norm gains or biases "
        "of the trained layers, or among the parameters of its name; by its min-max normalised importance, with "
        "matrices apart (calibrated) or over all units (both as released); or one rate for all units",
    )
    unit: Literal["tensor", "row", "head"] = Field("tensor", description="part of a parameter that has its own rate")
    refresh_every: int | None = Field(
        None,
        gt=0,
        description=f"steps between two measurements of the units' importance; default: {PAPERS_STEPS}, or a tenth of "
        "a stage's steps if that is fewer",
    )
    probe_documents: int | None = Field(None, gt=0, description="general documents to measure on; default: all")
    probe_batch_size: int = Field(16, gt=0, description="sequences in a batch of the probe corpus")
    probe_length: int = Field(128, ge=8, description="tokens in a sequence of the probe corpus")

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

    @property
    def ranks_layers(self) -> bool:
        """Return whether the choice of layers needs their importance."""
        return self.placement in ("lowest", "highest")

    @property
    def decouples_units(self) -> bool:
        """Return whether the rates of units follow their importance."""
        return self.unit_lr.startswith("decoupled")

    def problem(self, run, base_layers: int | None) -> str:
        if base_layers is not None and (missing := self.missing_layers(base_layers)):
            return missing
        if run.training.optimizer == "muon":
            return "unit_lr: rates by unit are AdamW's; training.optimizer is muon"
        return self._unmeasured(run)

    def missing_layers(self, layers: int) -> str:
        """Return which chosen layers a base of so many layers lacks, as "<key>: <reason>"; empty if it has all."""
        if isinstance(self.placement, tuple) and self.placement[-1] >= layers:
            return f"placement: layer {self.placement[-1]} is none of the base's {layers}, which are 0 to {layers - 1}"
        return f"layers: must be <= {layers}, the base's layers" if self.layers > layers else ""

    def _unmeasured(self, run) -> str:
        """Return why a stage of the run ends before its first measurement, where its steps are known; else empty."""
        from adaptbench import registry

        if not self.decouples_units or self.expansion == "none":
            return ""
        module = registry.method("curricula", run.curriculum.kind)
        for phase in module.phases(run.curriculum, run.track, run.training):
            # A stage after another begins with copies that have moved, and is measured before its first step.
            if phase.parent is not None or phase.tuner is not None:
                continue
            if hasattr(registry.method("curricula", (phase.curriculum or run.curriculum).kind), "steps"):
                continue  # the stage counts its steps, and checks them then
            steps = phase.training.get("steps") or (None if phase.training.get("epochs") else run.training.steps)
            if steps is not None and self.steps_between_refreshes(steps) >= steps:
                return f"refresh_every: {self.too_few_steps(steps, f'the stage {phase.name!r}')}"
        return ""

    def steps_between_refreshes(self, steps: int) -> int:
        """Return the steps between two measurements in a stage of `steps` steps."""
        return self.refresh_every or max(1, min(PAPERS_STEPS, steps // SHARE))

    def too_few_steps(self, steps: int, stage: str) -> str:
        """Return why a stage of `steps` steps would keep all rates at one, for a message."""
        return (
            f"importance is first measured after {self.steps_between_refreshes(steps)} steps, and {stage} has {steps}, "
            "so that all its rates would be one; set fewer than it has, or more training.steps"
        )


# --- stage 1: general-competence guided selective expansion


def preparations(config: Config) -> tuple[Preparation, ...]:
    """Return the stages before training: the probe, which runs with the same options share, and the expansion.

    The expansion depends on the seed only where layers are chosen at random.
    """
    probe = Preparation(
        "probe", makes_model=False, data=("general",), options=("probe_documents", "probe_batch_size", "probe_length")
    )
    expand = Preparation(
        "expand",
        makes_model=config.expansion == "copy",
        seeded=config.placement == "random",
        options=("layers", "placement", "expansion"),
    )
    return (probe, expand) if config.ranks_layers else (expand,)


def probe(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> dict[str, Any]:
    """Write importance.json: every layer's importance on the general benchmark's probe corpus."""
    from adaptbench.io.files import write_text
    from adaptbench.model import storage
    from adaptbench.train.cost import forward_flops

    model = storage.load_model(inputs["base"]).to(context.device)
    batches = adept_layers.probe_batches(config, context)
    loss, importance = adept_layers.layer_importance(model, batches)
    write_text(out / "importance.json", json.dumps({"base_loss": loss, "importance": importance}, indent=1) + "\n")
    # Bypassing each of n layers in turn puts a position through about (n + 1) / 2 whole models.
    passes = 1 + (len(importance) + 1) / 2
    tokens = sum(batch["input_ids"].numel() for batch in batches)
    return {"cost": {"tokens": round(tokens * passes), "flops": round(forward_flops(model, tokens) * passes)}}


def expand(config: Config, inputs: Mapping[str, Path], out: Path, context: StageContext) -> dict[str, Any]:
    """Write chosen.json and, unless the chosen layers themselves are trained, the model with their identity copies."""
    from adaptbench.io.files import write_text
    from adaptbench.model import expansion, storage

    base = storage.load_model(inputs["base"])
    importance = None
    if config.ranks_layers:
        importance = json.loads((inputs["probe"] / "importance.json").read_text())["importance"]
    chosen = adept_layers.choose_layers(config, len(expansion.decoder_layers(base)), importance, context.seed)
    write_text(out / "chosen.json", json.dumps(chosen) + "\n")
    if config.expansion == "copy":
        expanded = expansion.expand(base, chosen)
        expansion.check_identity(base, expanded)
        storage.save_model(expanded, context.tokenizer, out)
    return {}


# --- stage 2: adaptive unit-wise decoupled tuning


def data(config: Config) -> tuple[str, ...]:
    return ("general",) if config.decouples_units else ()


def adapt(config: Config, model, context: StageContext):
    """Let only the copies (or the chosen layers) require gradients; the backward pass ends at the lowest of them."""
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


def optimizer(config: Config, model, training):
    """Return AdamW with a rate for each unit; weight decay acts on matrices only, as in every other run."""
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
    return adept_units.Refresh(config, model, optimizers[0], context) if config.decouples_units else None


FIGURES = {"layer_importance": adept_figures.layer_importance, "unit_rates": adept_figures.unit_rates}
