"""AdamW with a multiplier of the learning rate for every unit: a tensor, its rows, its attention heads.

torch's AdamW has one rate a parameter group; a group for each unit costs several times the step. But AdamW's step is the
rate times something that does not depend on the rate, weight decay included, so that multiplying the step of one plain
AdamW gives what a group of its own would: w <- w + m * (step of the plain one).

Three ways to the same numbers. `reference`: torch's own step on every tensor, then every step multiplied. `torch`, for a
processor: a block of numbers at a time, small tensors end to end and parts of large ones, so that a call is worth its cost and what
is copied stays in the cache. `triton`: one kernel for all tensors, which reads the multiplier with the weight.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.adamw import adamw

from kernels import Implementation, chosen, triton_there

SMALL = 1 << 16  # numbers; larger tensors are stepped where they lie
TOGETHER = 1 << 17  # numbers at a time: three copies of so many stay in a processor's cache
DTYPES = (torch.float32, torch.float64)
BLOCK = 1024


class UnitwiseAdamW(torch.optim.AdamW):
    """torch's AdamW whose steps are multiplied, parameter by parameter.

    `multipliers` maps parameters to tensors that broadcast over them; a parameter that is not in it moves as it would
    under AdamW. The multipliers are not part of the optimizer's state: who sets them keeps them.

    Raises:
        ValueError: multipliers that do not broadcast over their parameter.
    """

    def __init__(self, params: Any, *, implementation: Implementation | None = None, **options: Any) -> None:
        super().__init__(params, **options)
        self.implementation = implementation
        self._multipliers: Mapping[torch.nn.Parameter, torch.Tensor] = {}
        self._blocks: dict[int, list[_Block]] = {}
        self.taken: dict[Any, float] = {}

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
        self._multipliers = {p: _laid_out_as(p, values) for p, values in by_parameter.items()}
        for blocks in self._blocks.values():
            for block in blocks:
                block.set_multipliers(self._multipliers)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        first = self.param_groups[0]["params"][0]
        way = chosen("unitwise_adamw", first, self.implementation, dtypes=DTYPES)
        # A scaler unscales in torch's own step; sharded tensors are torch's to step.
        if way == "reference" or getattr(self, "grad_scale", None) is not None or isinstance(first, DTensor):
            return self._plain_step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for number, group in enumerate(self.param_groups):
            self._step_group(number, group, way)
        return loss

    def _plain_step(self, closure: Any) -> Any:
        before = {p: p.detach().clone() for p in self.multipliers}
        loss = super().step(closure)
        for p, start in before.items():
            p.copy_(torch.lerp(start, p, self.multipliers[p].to(p)))  # exact where the multiplier is 0 or 1
        return loss

    def _step_group(self, number: int, group: dict[str, Any], way: Implementation) -> None:
        params: list[torch.Tensor] = []
        grads: list[torch.Tensor] = []
        averages: list[torch.Tensor] = []
        squares: list[torch.Tensor] = []
        largest: list[torch.Tensor] = []
        steps: list[torch.Tensor] = []
        self._init_group(
            group, params, grads, averages, squares, largest, steps
        )  # fills the lists, makes missing state
        plain = not group["amsgrad"] and not group["differentiable"]
        fits = [plain and _fits(p, g, way) for p, g in zip(params, grads, strict=True)]
        together = [i for i, one in enumerate(fits) if one]
        if together and way == "triton":
            _triton_step([(params[i], grads[i], averages[i], squares[i], steps[i]) for i in together], self, group)
        else:
            small = [i for i in together if params[i].numel() <= SMALL]
            blocks = self._blocks_of(number, [params[i] for i in small]) if len(small) > 1 else None
            if blocks is None:
                small = []
            else:
                _step_blocks(blocks, [grads[i] for i in small], group)
            large = [i for i in together if params[i].numel() > SMALL]
            for i in large:
                multiplier = self.multipliers.get(params[i])
                _step_large((params[i], grads[i], averages[i], squares[i]), steps[i], multiplier, group)
            together = [*small, *large]
        done = set(together)
        rest = [i for i in range(len(params)) if i not in done]
        before = {i: params[i].clone() for i in rest if params[i] in self.multipliers}
        if rest:
            of_rest = [[of[i] for i in rest] for of in (params, grads, averages, squares, steps)]
            most = [largest[i] for i in rest] if group["amsgrad"] else []
            _adamw(of_rest[0], of_rest[1], of_rest[2], of_rest[3], most, of_rest[4], group)
        for i, start in before.items():
            p: Any = params[i]
            p.copy_(torch.lerp(start, p, self.multipliers[p].to(p)))

    def _blocks_of(self, number: int, params: list[Any]) -> "list[_Block] | None":
        """The blocks in which these parameters are stepped, made anew where they, or their state, are others than those have; None
        where some have been stepped more often than others and so are corrected otherwise.
        """
        blocks = self._blocks.get(number, [])
        if sum(len(block.params) for block in blocks) == len(params):
            same = _split(params, [len(block.params) for block in blocks])
            if all(block.holds(part, self.state) for block, part in zip(blocks, same, strict=True)):
                return blocks
        if len({float(self.state[p]["step"]) for p in params}) > 1:
            return None
        parts: list[list[Any]] = []
        room = 0
        for p in params:
            if p.numel() > room or p.dtype != parts[-1][0].dtype:
                parts.append([])
                room = TOGETHER
            parts[-1].append(p)
            room -= p.numel()
        scratch = {p.dtype: torch.empty(3, TOGETHER, dtype=p.dtype) for p in params}
        blocks = self._blocks[number] = [_Block(part, self.state, scratch[part[0].dtype]) for part in parts]
        for block in blocks:
            block.set_multipliers(self.multipliers)
        return blocks

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._blocks = {}
        self.taken = {}


def _laid_out_as(p: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Multipliers of a sharded parameter, sharded like it; every process has all of them."""
    if not isinstance(p, DTensor) or isinstance(values, DTensor):
        return values
    return distribute_tensor(values.expand(p.shape).contiguous(), p.device_mesh, p.placements, src_data_rank=None)


def _fits(p: torch.Tensor, gradient: torch.Tensor, way: Implementation) -> bool:
    # Pieces of a sharded tensor are of a type of their own, their gradients too.
    if p.dtype not in DTYPES or gradient.dtype != p.dtype or type(gradient) is not torch.Tensor or gradient.is_sparse:
        return False
    if way == "triton":
        return p.is_contiguous() and gradient.is_contiguous()
    return p.is_cpu and p.is_contiguous() and (p.numel() <= SMALL or gradient.is_contiguous())


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


def _adamw_of_one(tensors: Sequence[torch.Tensor], step: torch.Tensor, group: Mapping[str, Any], rate: float) -> None:
    """torch's step of a weight with its gradient and averages; with `fused`, what torch's function calls, without its looking around."""
    p, g, average, square = tensors
    if not group["fused"]:
        _adamw([p], [g], [average], [square], [], [step], {**group, "lr": rate})
        return
    beta1, beta2 = group["betas"]
    step += 1
    torch._fused_adamw_(
        [p], [g], [average], [square], [], [step], lr=rate, beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
        amsgrad=False, maximize=group["maximize"],
    )  # fmt: skip


class _Block:
    """Small parameters of a group end to end, their averages kept there, weights and gradients brought into `scratch` for each step."""

    def __init__(self, params: Sequence[Any], state: Mapping[Any, dict[str, Any]], scratch: torch.Tensor) -> None:
        self.params = list(params)
        self.sizes = [p.numel() for p in params]
        self.weights, self.before, self.gradients = scratch[:, : sum(self.sizes)]
        self.views = [view.view(p.shape) for view, p in zip(self.weights.split(self.sizes), params, strict=True)]
        tails = {p.shape[1:] for p in params}
        self.tail = tails.pop() if len(tails) == 1 else None
        self.kept: dict[str, list[torch.Tensor]] = {}
        self.flat: dict[str, torch.Tensor] = {}
        for key in ("exp_avg", "exp_avg_sq"):
            self.flat[key] = torch.cat([state[p][key].reshape(-1) for p in params])
            pieces = self.flat[key].split(self.sizes)
            self.kept[key] = [piece.view(p.shape) for piece, p in zip(pieces, params, strict=True)]
        self.steps = torch.stack([state[p]["step"] for p in params])
        self.kept["step"] = list(self.steps.unbind())
        for key, views in self.kept.items():
            for p, view in zip(params, views, strict=True):
                state[p][key] = view
        self.multipliers: torch.Tensor | None = None

    def holds(self, params: Sequence[Any], state: Mapping[Any, dict[str, Any]]) -> bool:
        """Whether these are the parameters, and nobody has put another state in the place of theirs."""
        for p, mine, average, square, step in zip(params, self.params, *self.kept.values(), strict=True):
            of_p = state[p]
            if (
                p is not mine
                or of_p["exp_avg"] is not average
                or of_p["exp_avg_sq"] is not square
                or of_p["step"] is not step
            ):
                return False
        return True

    def set_multipliers(self, by_parameter: Mapping[Any, torch.Tensor]) -> None:
        self.multipliers = None
        if any(p in by_parameter for p in self.params):
            one = self.flat["exp_avg"].new_ones(())
            spread = (by_parameter.get(p, one).to(p).expand(p.shape).reshape(-1) for p in self.params)
            self.multipliers = torch.cat(list(spread))

    def bring(self, tensors: list[torch.Tensor], into: torch.Tensor) -> None:
        """Copy these, shaped as the parameters, end to end."""
        if self.tail:
            torch.cat(tensors, out=into.view(-1, *self.tail))
        else:
            torch.cat([one.reshape(-1) for one in tensors], out=into)


def _step_blocks(blocks: "Sequence[_Block]", grads: list[torch.Tensor], group: Mapping[str, Any]) -> None:
    rate = float(group["lr"])
    for block, of_block in zip(blocks, _split(grads, [len(block.params) for block in blocks]), strict=True):
        block.bring(of_block, block.gradients)
        block.bring(block.params, block.before)
        block.weights.copy_(block.before)
        averages, squares = block.flat.values()
        _adamw_of_one([block.weights, block.gradients, averages, squares], block.steps[0].clone(), group, rate)
        if block.multipliers is not None:
            torch.lerp(block.before, block.weights, block.multipliers, out=block.weights)
        torch._foreach_copy_(block.params, block.views)
        block.steps += 1


def _step_large(
    tensors: Sequence[Any], step: torch.Tensor, multiplier: torch.Tensor | None, group: Mapping[str, Any]
) -> None:
    """Weights, gradient and averages of one parameter, rows at a time where each has a multiplier of its own."""
    weights = tensors[0]
    if multiplier is None or multiplier.numel() == 1:  # a rate of the parameter's own
        rate = float(group["lr"]) * (1.0 if multiplier is None else float(multiplier))
        _adamw_of_one(tensors, step, group, rate)
        return
    spread = multiplier.to(weights).expand(weights.shape)
    rows = max(1, TOGETHER * len(weights) // weights.numel())
    scratch = torch.empty_like(weights[:rows])
    for start in range(0, len(weights), rows):
        here = slice(start, start + rows)
        before = scratch[: len(weights[here])].copy_(weights[here])
        _adamw_of_one([one[here] for one in tensors], step.clone(), group, float(group["lr"]))
        torch.lerp(before, weights[here], spread[here], out=weights[here])
    step += 1


def _split(values: list[Any], counts: Sequence[int]) -> list[list[Any]]:
    ends = list(itertools.accumulate(counts))
    return [values[end - count : end] for end, count in zip(ends, counts, strict=True)]


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
        taken = optimizer.taken[p] + 1 if p in optimizer.taken else float(step)  # read from the device once
        optimizer.taken[p] = taken
        correction = torch.tensor([1 - beta1**taken, (1 - beta2**taken) ** 0.5], dtype=torch.float64)
        rows.append([
            p.data_ptr(), gradient.data_ptr(), average.data_ptr(), square.data_ptr(), here, p.numel(), columns, across, along,
            *correction.view(torch.int64).tolist(),
        ])  # fmt: skip
    options = torch.tensor(
        [float(group["lr"]), *group["betas"], group["eps"], group["weight_decay"], -1.0 if group["maximize"] else 1.0],
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
        beta1 = tl.load(options + 1).to(kind)
        beta2 = tl.load(options + 2).to(kind)
        epsilon = tl.load(options + 3).to(kind)
        decay = tl.load(options + 4).to(kind)
        sign = tl.load(options + 5).to(kind)

        place = start + tl.arange(0, BLOCK).to(tl.int64)
        inside = place < size
        w = tl.load(weights + place, mask=inside, other=0.0)
        g = tl.load(gradients + place, mask=inside, other=0.0) * sign
        m = tl.load(averages + place, mask=inside, other=0.0)
        v = tl.load(squares + place, mask=inside, other=0.0)
        unit = tl.load(multipliers + place // columns * across + place % columns * along, mask=place < known, other=1.0)
        m = m + (1 - beta1) * (g - m)
        v = beta2 * v + (1 - beta2) * g * g
        change = decay * w + (m / first) / (tl.sqrt(v) / second + epsilon)
        tl.store(weights + place, w - unit * rate * change, mask=inside)
        tl.store(averages + place, m, mask=inside)
        tl.store(squares + place, v, mask=inside)

    _KERNELS["step"] = _step_of_blocks
