"""ADEPT's stage 2: a learning rate for every unit, which falls with the unit's importance for general text.

Paper: arXiv 2510.10071, adaptive unit-wise decoupled tuning. A unit's importance is the mean of |w * dL/dw| over its
weights w, L the loss on the probe corpus. The rate is 2 * (1 - I') times the scheduled one, I' the importance brought
to [0, 1]. A unit is a part of a trained layer; rows of new tokens keep the scheduled rate.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptbench.contracts import StageContext
from adaptbench.errors import AdaptbenchError
from adaptbench.methods.tuners.adept_layers import probe_batches
from adaptbench.model.units import Units, units

if TYPE_CHECKING:
    import torch

    from adaptbench.train.hooks import Run

BY_RANK = ("decoupled_rank", "decoupled_rank_by_name")


def unit_importance(
    model, batches: "Sequence[Mapping[str, torch.Tensor]]", split: Mapping[str, Units], run: "Run | None" = None
) -> "dict[str, torch.Tensor]":
    """Return the mean of |w * dL/dw| over each unit, L the probe loss of a batch, averaged over the batches' tokens.

    Leaves no gradient, no change of mode and no step of the random generators behind.

    Args:
        split: the units of each parameter, by its name.
        run: calls an objective where the model is spread over processes. All processes must then call this function
            with the same batches.
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
            loss.backward()  # not autograd.grad, which the hooks of DDP and FSDP2 do not see
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
    """Return every unit's rate as a multiple of the base rate: 2 * (1 - I'), I' its importance brought to [0, 1].

    decoupled_rank: I' is (rank - 1/2) / n among the units of all matrices, of all norm gains or of all biases. Equal
    importances share a rank. The mean multiplier over the units of a ranking is 1.
    decoupled_rank_by_name: the same among the units of the parameters of its name.
    decoupled_minmax: I' is (I - min) / (max - min) over all units, as released. Where gains outweigh matrices, matrices
    have multipliers near 2.
    decoupled_calibrated: the same over the units of all matrices for a matrix, and over all units for a gain or a bias,
    as released. The released code takes gains without "layernorm" in their name (of queries and keys) and biases for
    matrices.
    Where all units are equally important, all multipliers are 1.
    """
    import torch
    from scipy.stats import rankdata

    flat = {name: values.flatten().double().cpu() for name, values in importance.items()}
    rankings: dict[str, list[str]] = {}
    for name in importance:
        ranking = {"decoupled_minmax": "", "decoupled_rank_by_name": split[name].kind}.get(unit_lr)
        rankings.setdefault(_ranking(name, split[name].kind) if ranking is None else ranking, []).append(name)
    found = {}
    for ranking, names in rankings.items():
        values = torch.cat([flat[name] for name in names])
        if unit_lr in BY_RANK:
            place = (torch.from_numpy(rankdata(values.numpy())) - 0.5) / len(values)
        else:
            among = torch.cat([*flat.values()]) if ranking in ("norm", "bias") else values
            low, high = among.min(), among.max()
            place = (values - low) / (high - low) if high > low else torch.full_like(values, 0.5)
        for name, part in zip(names, (2 * (1 - place)).split([len(flat[name]) for name in names]), strict=True):
            found[name] = part.reshape(importance[name].shape).to(importance[name])
    return found


def _ranking(name: str, kind: str) -> str:
    """Return the name of the ranking that a parameter's units belong to.

    An entry of a gain or a bias acts on a whole channel. So its importance has another scale than a matrix entry's.
    """
    return "bias" if name.endswith("bias") else "norm" if "norm" in kind else "matrix"


class Refresh:
    """A callback that measures the units' importance and sets their rates by it.

    It measures before the first step, unless a copy is still at its zero start, and then after every so many steps
    except the last.
    """

    def __init__(self, config: Any, model, unitwise, context: StageContext) -> None:
        """Find the units of the trained layers.

        Args:
            config: ADEPT's.
            unitwise: the optimizer, a kernels.unitwise_adamw.UnitwiseAdamW.
        """
        from adaptbench.model.expansion import decoder_layers

        self.config, self.model, self.unitwise, self.context = config, model, unitwise, context
        layer_of = {id(p): index for index, layer in enumerate(decoder_layers(model)) for p in layer.parameters()}
        self.layers = {name: layer_of[id(p)] for name, p in model.named_parameters() if id(p) in layer_of}
        self.units = {name: one for name, one in units(model, config.unit).items() if name in self.layers}
        self.batches: list[Any] | None = None
        self.current: dict[str, torch.Tensor] = {}
        self.steps = 0  # of the stage; known from `start` on

    def start(self, step: int, steps: int, run: "Run") -> dict[str, float]:
        """Measure before the first step where the copies have moved; return what to log.

        Raises:
            AdaptbenchError: the copies have not moved, and the stage ends before the first measurement.
        """
        self.steps = steps
        if step:
            return {}  # resumed from a checkpoint, which holds the rates
        if self._measure(step, run, first_batch=True) is None:
            if self.config.steps_between_refreshes(steps) >= steps:
                raise AdaptbenchError(f"tuner.refresh_every: {self.config.too_few_steps(steps, 'this stage')}")
            return {}
        return {f"start/{name}": value for name, value in self._refresh(step, run).items()}

    def after_step(self, step: int, run: "Run") -> dict[str, float]:
        """Measure if it is time; return what to log.

        Raises:
            AdaptbenchError: the copies have not moved, and no measurement follows.
        """
        every = self.config.steps_between_refreshes(self.steps)
        if step % every or step == self.steps:
            return {}
        logged = self._refresh(step, run)
        if not self.current and step + every >= self.steps:
            raise AdaptbenchError(
                f"tuner.refresh_every: after step {step} of {self.steps} the copies have not moved, and importance is "
                "not measured again; set fewer, or less training.warmup_ratio"
            )
        return logged

    def state(self) -> dict[str, Any]:
        """Return the multipliers, for a checkpoint."""
        return {name: values.flatten().tolist() for name, values in self.current.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Set the multipliers that a checkpoint holds."""
        import torch

        if state:
            shapes = {name: units.shape for name, units in self.units.items()}
            dtypes = {name: p.dtype for name, p in self._parameters().items()}
            self._set({n: torch.tensor(v, dtype=dtypes[n]).reshape(shapes[n]) for n, v in state.items()})

    def _refresh(self, step: int, run: "Run") -> dict[str, float]:
        importance = self._measure(step, run)
        if importance is None:
            return {}
        self._set(multipliers(importance, self.units, self.config.unit_lr))
        entries = {name: p.numel() for name, p in self._parameters().items()}
        means = {name: float(values.mean()) for name, values in self.current.items()}
        logged = {f"importance/{name}": float(values.mean()) for name, values in importance.items()}
        logged |= {f"multiplier/{name}": value for name, value in means.items()}
        return logged | {"mean_multiplier": sum(means[name] * entries[name] for name in means) / sum(entries.values())}

    def _measure(self, step: int, run: "Run", *, first_batch: bool = False) -> "dict[str, torch.Tensor] | None":
        """Return the units' importance; None while a layer has none, as a copy at its zero start.

        Raises:
            AdaptbenchError: an importance is no finite number.
        """
        if self.batches is None:
            self.batches = probe_batches(self.config, self.context)
        importance = unit_importance(self.model, self.batches[:1] if first_batch else self.batches, self.units, run)
        for name, values in importance.items():
            if not values.isfinite().all():
                raise AdaptbenchError(
                    f"step {step}: the importance of {name} on the general corpus is no finite number; "
                    "lower training.learning_rate"
                )
        moved = {self.layers[name] for name, values in importance.items() if values.any()}
        return importance if moved == {self.layers[name] for name in importance} else None

    def _set(self, by_unit: "dict[str, torch.Tensor]") -> None:
        self.current = by_unit
        self.unitwise.multipliers = {
            p: self.units[name].spread(by_unit[name].to(p.device, p.dtype), p) for name, p in self._parameters().items()
        }

    def _parameters(self) -> "dict[str, torch.nn.Parameter]":
        """Return the parameters that have units, looked up at each call: sharding replaces them."""
        return {name: p for name, p in self.model.named_parameters() if name in self.units}
