"""AdamW with a multiplier of the learning rate for every unit: a tensor, its rows, its attention heads.

torch's AdamW has one rate a parameter group; a group for each unit costs several times the step. But AdamW's step is the
rate times something that does not depend on the rate, weight decay included, so that multiplying the step of one plain
AdamW gives what a group of its own would: w <- w + m * (step of the plain one).

Three ways to the same numbers. `reference`: torch's own step on every tensor, then every step multiplied. `torch`, for a
processor: torch's fused step of weights that are zero, which is the step alone, then w + m * step; a block of numbers at a time, many small
tensors or part of a large one, so that a call is worth its cost and steps never leave the cache. `triton`: one kernel for all tensors,
which reads the multiplier with the weight.
"""

import operator
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.adamw import adamw

from adaptbench.kernels.implementations import Implementation, chosen, for_triton, ran, triton_there

SMALL = 1 << 16  # numbers; a larger tensor with one multiplier is stepped by a call of its own
TOGETHER = 1 << 17  # numbers at a time: steps of so many stay in a processor's cache
DTYPES = (torch.float32, torch.float64)
BLOCK = 1024


class UnitwiseAdamW(torch.optim.AdamW):
    """torch's AdamW whose steps are multiplied, parameter by parameter.

    `multipliers` maps parameters to tensors that broadcast over them; a parameter that is not in it moves as it would
    under AdamW. They are copied when they are set, and no part of the optimizer's state: who sets them keeps them.

    Gradients that lie otherwise in memory than their parameter are copied too, where torch's step is the fused one, which reads them as
    if they did not.

    Raises:
        ValueError: multipliers that do not broadcast over their parameter, or are negative or no finite numbers.
    """

    def __init__(self, params: Any, *, implementation: Implementation | None = None, **options: Any) -> None:
        super().__init__(params, **options)
        self.implementation = implementation
        self._multipliers: Mapping[torch.nn.Parameter, torch.Tensor] = {}
        self._plans: dict[int, _Plan] = {}
        self.taken: dict[Any, tuple[torch.Tensor, int, float]] = {}

    @property
    def multipliers(self) -> Mapping[torch.nn.Parameter, torch.Tensor]:
        return self._multipliers

    @multipliers.setter
    def multipliers(self, by_parameter: Mapping[torch.nn.Parameter, torch.Tensor]) -> None:
        for p, values in by_parameter.items():
            try:
                fits = torch.broadcast_shapes(p.shape, values.shape) == p.shape
            except RuntimeError:
                fits = False
            if not fits:
                raise ValueError(f"multipliers of shape {tuple(values.shape)} do not broadcast over {tuple(p.shape)}")
            here = values.to_local() if isinstance(values, DTensor) else values
            if values.is_complex() or not ((here >= 0) & (here < torch.inf)).all():
                raise ValueError("multipliers must be finite numbers that are not negative")
        self._multipliers = {p: _laid_out_as(p, values) for p, values in by_parameter.items()}
        self._plans = {}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        first = self.param_groups[0]["params"][0]
        way = chosen("unitwise_adamw", first, self.implementation, dtypes=DTYPES)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # A scaler unscales in torch's own step; sharded tensors are torch's to step.
        if way == "reference" or getattr(self, "grad_scale", None) is not None or isinstance(first, DTensor):
            ran("unitwise_adamw", "reference")
            self._plain_step()
            return loss
        for number, group in enumerate(self.param_groups):
            self._step_group(number, group, way)
        return loss

    def _plain_step(self) -> None:
        for group in self.param_groups:
            for p in group["params"] if group["fused"] else ():
                if p.grad is not None:
                    p.grad = _lying_as(p, p.grad)
        before = {p: p.detach().clone() for p in self.multipliers}
        _torchs_step()(self)
        for p, start in before.items():
            p.copy_(torch.lerp(start, p, self.multipliers[p].to(p)))  # exact where the multiplier is 0 or 1

    def _step_group(self, number: int, group: dict[str, Any], way: Implementation) -> None:
        usual = not group["amsgrad"] and not group["differentiable"]
        if way == "torch" and usual:
            ran("unitwise_adamw", "torch")
            params, gradients = group["params"], [p.grad for p in group["params"]]
            if any(g is None for g in gradients):
                params = [p for p, g in zip(params, gradients, strict=True) if g is not None]
                gradients = [g for g in gradients if g is not None]
            plan = self._plans.get(number)
            if plan is None or not plan.holds(params, gradients, self.state, group):
                self._init_group(group, [], [], [], [], [], [])  # makes missing state
                plan = self._plans[number] = _Plan(params, gradients, self.state, self.multipliers, group)
            plan.step(gradients, group)
            return
        lists: list[list[Any]] = [[] for _ in range(6)]
        self._init_group(group, *lists)  # fills the lists
        params, grads, averages, squares, largest, steps = lists
        known = [
            way == "triton" and usual and _plain(p, g) and for_triton(p) and p.is_contiguous() and g.is_contiguous()
            for p, g in zip(params, grads, strict=True)
        ]  # fmt: skip
        rest = [i for i, one in enumerate(known) if not one]
        by_device: dict[torch.device, list[int]] = {}
        for i, one in enumerate(known):
            if one:
                by_device.setdefault(params[i].device, []).append(i)
        for together in by_device.values():
            ran("unitwise_adamw", "triton")
            _triton_step([(params[i], grads[i], averages[i], squares[i], steps[i]) for i in together], self, group)
        if rest:
            ran("unitwise_adamw", "torch")
        of_rest = [[of[i] for i in rest] for of in (params, grads, averages, squares, steps)]
        _step_then_multiply(of_rest, [largest[i] for i in rest] if group["amsgrad"] else [], self.multipliers, group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plans = {}
        self.taken = {}


def _torchs_step() -> Any:
    """AdamW's step without the hooks that torch puts around it once an AdamW has been made: ours has them already."""
    step = torch.optim.AdamW.step
    return step.__wrapped__ if getattr(step, "hooked", False) else step


def _lying_as(p: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """A gradient in the memory order of its parameter."""
    if type(gradient) is not torch.Tensor or gradient.is_sparse or gradient.stride() == p.stride():
        return gradient
    return torch.empty_like(p, dtype=gradient.dtype).copy_(gradient)


def _laid_out_as(p: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """A copy of the multipliers; those of a sharded parameter are sharded like it, where every process has all of them."""
    values = values.detach().clone()
    if not isinstance(p, DTensor) or isinstance(values, DTensor):
        return values
    return distribute_tensor(values.expand(p.shape).contiguous(), p.device_mesh, p.placements, src_data_rank=None)


def _plain(p: torch.Tensor, gradient: torch.Tensor) -> bool:
    # Pieces of a sharded tensor are of a type of their own, their gradients too.
    return p.dtype in DTYPES and gradient.dtype == p.dtype and type(gradient) is torch.Tensor and not gradient.is_sparse


def _steppable(params: Sequence[Any], gradients: Sequence[torch.Tensor]) -> list[bool]:
    """Which parameters lie so that blocks and calls of their own can step them."""
    return [_plain(p, g) and p.is_cpu and p.is_contiguous() for p, g in zip(params, gradients, strict=True)]


def _step_then_multiply(
    lists: Sequence[list[Any]], largest: list[Any], multipliers: Mapping[Any, torch.Tensor], group: Mapping[str, Any]
) -> None:
    """torch's step of the weights, gradients, averages, squares and counts of steps in `lists`, then the steps of those with multipliers
    multiplied: exact where these are zero or one.
    """
    params, grads, averages, squares, steps = lists
    if params:
        if group["fused"]:
            grads = [_lying_as(p, g) for p, g in zip(params, grads, strict=True)]
        before = {p: p.clone() for p in params if p in multipliers}
        _adamw(params, grads, averages, squares, largest, steps, group)
        for p, start in before.items():
            p.copy_(torch.lerp(start, p, multipliers[p].to(p)))


def _adamw(
    params: Any, grads: Any, averages: Any, squares: Any, largest: Any, steps: Any, group: Mapping[str, Any]
) -> None:
    """torch's step with a group's options."""
    beta1, beta2 = group["betas"]
    adamw(
        params, grads, averages, squares, largest, steps, foreach=group["foreach"], capturable=group["capturable"],
        differentiable=group["differentiable"], fused=group["fused"], amsgrad=group["amsgrad"], beta1=beta1, beta2=beta2,
        lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"], maximize=group["maximize"],
    )  # fmt: skip


class _Plan:
    """How a group is stepped on a processor: by blocks, by calls of their own, or by torch's step and a multiplication.

    It holds for the parameters that have gradients, while nobody puts another state in the place of theirs. The counts of steps of
    those in blocks lie in one tensor, since a call for each takes as long as its step; for the same reason everything that stays as it
    is from step to step is listed once.
    """

    def __init__(
        self, params: Sequence[Any], gradients: Sequence[torch.Tensor], state: Mapping[Any, dict[str, Any]],
        multipliers: Mapping[Any, torch.Tensor], group: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.params = list(params)
        self.fused = bool(group["fused"])
        self.plain = _steppable(params, gradients)
        self.dtypes = [p.dtype for p in params]
        # A rate of one everywhere is torch's step, to the bit.
        self.multipliers = {p: values for p, values in multipliers.items() if not (values == 1).all()}
        self.own: list[tuple[int, float]] = []
        self.rest: list[int] = []
        together: list[int] = []
        for i, p in enumerate(params):
            multiplier = self.multipliers.get(p)
            if multiplier is None or not self.plain[i]:
                self.rest.append(i)
            elif multiplier.numel() == 1 and p.numel() > SMALL:
                self.own.append((i, float(multiplier)))
            else:
                (together if self.fused else self.rest).append(i)
        self.counts = torch.stack([state[params[i]]["step"] for i in together]) if together else torch.empty(0)
        for i, count in zip(together, self.counts.unbind(), strict=True):
            state[params[i]]["step"] = count
        mine = [state[p] for p in params]
        self.averages, self.squares, self.steps = (
            [of[key] for of in mine] for key in ("exp_avg", "exp_avg_sq", "step")
        )
        self.of_all, self.mine, self.kept = list(state.values()), mine, _flat(mine)
        self.blocks = list(_blocks(params, together, multipliers, self.averages, self.squares, self.steps))

    def holds(
        self, params: Sequence[Any], gradients: Sequence[torch.Tensor], state: Mapping[Any, dict[str, Any]],
        group: Mapping[str, Any],
    ) -> bool:  # fmt: skip
        if (
            self.fused != bool(group["fused"])
            or not _same(params, self.params)
            or not _same(state.values(), self.of_all)
        ):
            return False
        if not _same(_flat(self.mine), self.kept):
            return False
        if not all(self.plain):
            return _steppable(params, gradients) == self.plain
        # `_steppable`, without what torch itself would refuse.
        for p, g, dtype in zip(params, gradients, self.dtypes, strict=True):
            if g.dtype is not dtype or type(g) is not torch.Tensor or not p.is_contiguous():
                return False
        return True

    def step(self, gradients: list[torch.Tensor], group: Mapping[str, Any]) -> None:
        for i, multiplier in self.own:
            options = {**group, "lr": float(group["lr"]) * multiplier}
            _adamw(
                [self.params[i]], [gradients[i].contiguous()], [self.averages[i]], [self.squares[i]], [], [self.steps[i]], options
            )  # fmt: skip
        if self.rest:
            lists = (self.params, gradients, self.averages, self.squares, self.steps)
            _step_then_multiply([[of[i] for i in self.rest] for of in lists], [], self.multipliers, group)
        self.counts += 1
        for block in self.blocks:
            block.step(self.params, gradients, group)


def _flat(states: Sequence[Mapping[str, Any]]) -> list[Any]:
    return list(chain.from_iterable(of.values() for of in states))


def _same(ones: Collection[Any], others: Collection[Any]) -> bool:
    """Whether both hold the same objects in the same order."""
    return len(ones) == len(others) and all(map(operator.is_, ones, others))


@dataclass
class _Block:
    """Tensors, or rows of a large one, that are stepped by one call.

    `pieces` are which tensor and, of a large one, which rows; `steps` their places end to end in `scratch`, which all blocks
    share; `multipliers` broadcast over them; `averages`, `squares` and `counts` are the state of theirs.
    """

    pieces: list[tuple[int, slice | None]]
    scratch: torch.Tensor
    steps: list[torch.Tensor]
    multipliers: list[torch.Tensor]
    averages: list[torch.Tensor]
    squares: list[torch.Tensor]
    counts: list[torch.Tensor]

    def step(self, params: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor], group: Mapping[str, Any]) -> None:
        """torch's fused step of zeros, whose counts have been raised, and of the weights as many times that as their multipliers say."""
        weights, mine = _pieces(params, self.pieces), _pieces(gradients, self.pieces)
        rate, (beta1, beta2) = float(group["lr"]), group["betas"]
        self.scratch.zero_()
        torch._fused_adamw_(
            self.steps, [g.contiguous() for g in mine], self.averages, self.squares, [], self.counts, lr=rate,
            beta1=beta1, beta2=beta2, weight_decay=0.0, eps=group["eps"], amsgrad=False, maximize=group["maximize"],
        )  # fmt: skip
        if group["weight_decay"]:
            torch._foreach_add_(self.steps, weights, alpha=-rate * group["weight_decay"])
        torch._foreach_addcmul_(weights, self.steps, self.multipliers)


def _pieces(tensors: Sequence[torch.Tensor], pieces: Sequence[tuple[int, slice | None]]) -> list[torch.Tensor]:
    """The pieces' own parts of tensors that are in the order of the parameters."""
    return [tensors[i] if rows is None else tensors[i][rows] for i, rows in pieces]


def _blocks(
    params: Sequence[Any], which: Sequence[int], multipliers: Mapping[Any, torch.Tensor], averages: Sequence[torch.Tensor],
    squares: Sequence[torch.Tensor], counts: Sequence[torch.Tensor],
) -> Iterator[_Block]:  # fmt: skip
    pieces: list[list[tuple[int, slice | None]]] = []
    dtype, room = None, 0
    for i in which:
        p = params[i]
        parts: list[slice | None] = [None]
        if p.numel() > TOGETHER:
            rows = max(1, TOGETHER * len(p) // p.numel())
            parts = [slice(start, start + rows) for start in range(0, len(p), rows)]
        for part in parts:
            size = p.numel() if part is None else p[part].numel()
            if size > room or p.dtype != dtype:
                pieces.append([])
                dtype, room = p.dtype, TOGETHER
            pieces[-1].append((i, part))
            room -= size
    scratch: dict[torch.dtype, torch.Tensor] = {}
    for block in pieces:
        shaped = [params[i].detach() if part is None else params[i].detach()[part] for i, part in block]
        spread = [multipliers[params[i]].to(params[i]).expand(params[i].shape) for i, _ in block]
        sizes = [one.numel() for one in shaped]
        dtype = shaped[0].dtype
        if dtype not in scratch or len(scratch[dtype]) < sum(sizes):  # a row may be larger than a block
            scratch[dtype] = torch.empty(max(sum(sizes), TOGETHER), dtype=dtype)
        place = scratch[dtype][: sum(sizes)]
        yield _Block(
            block,
            place,
            [view.view(one.shape) for view, one in zip(place.split(sizes), shaped, strict=True)],
            [one if part is None else one[part] for one, (_, part) in zip(spread, block, strict=True)],
            _pieces(averages, block),
            _pieces(squares, block),
            [counts[i] for i, _ in block],
        )


def _triton_step(
    tensors: Sequence[tuple[torch.Tensor, ...]], optimizer: UnitwiseAdamW, group: Mapping[str, Any]
) -> None:
    """One kernel over weights, gradients, averages, squares and steps, which it finds by a table of their addresses."""
    device = tensors[0][0].device
    rows, keep = [], []
    torch._foreach_add_([step for *_, step in tensors], 1)
    for p, gradient, average, square, step in tensors:
        multiplier = optimizer.multipliers.get(p)
        spread = None if multiplier is None else multiplier.to(p).expand(p.shape)
        columns = p.shape[-1] if p.ndim > 1 else max(p.numel(), 1)
        if spread is not None:
            spread = spread[None] if spread.ndim == 1 else spread if spread.ndim == 2 else spread.reshape(-1, columns)
        keep.append(spread)  # until the kernel has been started
        across, along = (0, 0) if spread is None else _strides(spread)
        here = 0 if spread is None else spread.data_ptr()
        beta1, beta2 = group["betas"]
        # Read from the device once, and again when somebody else has written it.
        known, version, taken = optimizer.taken.get(p, (None, 0, 0.0))
        taken = taken + 1 if known is step and version + 1 == step._version else float(step)
        optimizer.taken[p] = step, step._version, taken
        correction = torch.tensor([1 - beta1**taken, (1 - beta2**taken) ** 0.5], dtype=torch.float64)
        rows.append([
            p.data_ptr(), gradient.data_ptr(), average.data_ptr(), square.data_ptr(), here, p.numel(), columns, across, along,
            *correction.view(torch.int64).tolist(),
        ])  # fmt: skip
    options = torch.tensor(
        [
            float(group["lr"]),
            *(1 - beta for beta in group["betas"]),
            group["betas"][1],
            group["eps"],
            group["weight_decay"],
            -1.0 if group["maximize"] else 1.0,
        ],
        dtype=torch.float64,
        device=device,
    )
    by_dtype: dict[torch.dtype, list[int]] = {}
    for i, (p, *_) in enumerate(tensors):
        by_dtype.setdefault(p.dtype, []).append(i)
    for dtype, members in by_dtype.items():
        table = torch.tensor([rows[i] for i in members], dtype=torch.int64)
        blocks = torch.tensor(
            [(k, start) for k, i in enumerate(members) for start in range(0, tensors[i][0].numel(), BLOCK)],
            dtype=torch.int64,
        ).reshape(-1, 2)
        if len(blocks):
            _KERNELS["step"][(len(blocks),)](
                table.to(device),
                blocks.to(device),
                options,
                COLUMNS=table.shape[1],
                WIDE=dtype == torch.float64,
                BLOCK=BLOCK,
            )


def _strides(spread: torch.Tensor) -> tuple[int, int]:
    across, along = spread.stride()
    return (0 if spread.shape[0] == 1 else across, 0 if spread.shape[1] == 1 else along)


_KERNELS: dict[str, Any] = {}
if triton_there():
    import triton
    import triton.language as tl

    @triton.jit
    def _step_of_blocks(table, blocks, options, COLUMNS: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr):
        tensor = tl.load(blocks + 2 * tl.program_id(0))
        start = tl.load(blocks + 2 * tl.program_id(0) + 1)
        row = table + tensor * COLUMNS
        kind: tl.constexpr = tl.float64 if WIDE else tl.float32
        pointer: tl.constexpr = tl.pointer_type(kind)
        weights = tl.load(row).to(pointer)
        gradients = tl.load(row + 1).to(pointer)
        averages = tl.load(row + 2).to(pointer)
        squares = tl.load(row + 3).to(pointer)
        multipliers = tl.load(row + 4).to(pointer)
        size = tl.load(row + 5)
        known = tl.where(tl.load(row + 4) != 0, size, 0)  # no address: no multipliers
        columns = tl.load(row + 6)
        across = tl.load(row + 7)
        along = tl.load(row + 8)
        first = tl.load(row + 9).to(tl.float64, bitcast=True).to(kind)
        second = tl.load(row + 10).to(tl.float64, bitcast=True).to(kind)
        rate = tl.load(options).to(kind)
        fresh1 = tl.load(options + 1).to(kind)  # 1 - beta, which float32 would round
        fresh2 = tl.load(options + 2).to(kind)
        beta2 = tl.load(options + 3).to(kind)
        epsilon = tl.load(options + 4).to(kind)
        decay = tl.load(options + 5).to(kind)
        sign = tl.load(options + 6).to(kind)

        place = start + tl.arange(0, BLOCK).to(tl.int64)
        inside = place < size
        w = tl.load(weights + place, mask=inside, other=0.0)
        g = tl.load(gradients + place, mask=inside, other=0.0) * sign
        m = tl.load(averages + place, mask=inside, other=0.0)
        v = tl.load(squares + place, mask=inside, other=0.0)
        unit = tl.load(multipliers + place // columns * across + place % columns * along, mask=place < known, other=1.0)
        m = m + fresh1 * (g - m)
        v = beta2 * v + fresh2 * g * g
        change = decay * w + (m / first) / (tl.sqrt(v) / second + epsilon)
        tl.store(weights + place, w - unit * rate * change, mask=inside)
        tl.store(averages + place, m, mask=inside)
        tl.store(squares + place, v, mask=inside)

    _KERNELS["step"] = _step_of_blocks
