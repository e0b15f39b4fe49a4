"""AdamW with a multiplier of the learning rate for every unit: a tensor, its rows, its attention heads.

torch's AdamW has one rate per parameter group, and a group for each unit costs several times the step. But AdamW's step
is the rate times something that does not depend on the rate, weight decay included. So one plain step, multiplied,
equals a group for each unit: w <- w + multiplier * (step of the plain AdamW).

`reference`: torch's step of zeros, which is the change alone, then weights plus multiplied changes. `triton`: one
kernel for all tensors, which reads the multiplier with the weight. On a CPU nothing faster pays: a step of ADEPT spends
1 to 2 % of its time here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim.adamw import adamw

from adaptbench.kernels.implementations import Implementation, choose, record, triton_can_read, triton_installed

LARGE = 1 << 16  # numbers; a larger tensor with one multiplier is stepped at that rate in place, without a copy
DTYPES = (torch.float32, torch.float64)
BLOCK = 1024

Multipliers = Mapping[torch.nn.Parameter, torch.Tensor]
Tensors = Sequence[Sequence[torch.Tensor]]
"""For each parameter: weights, gradient, average, average square, steps, and with amsgrad the largest square."""


class UnitwiseAdamW(torch.optim.AdamW):
    """torch's AdamW whose steps are multiplied, parameter by parameter.

    `multipliers` maps parameters to tensors that broadcast over them. A parameter without multipliers moves as under
    AdamW. Multipliers are copied when they are set. They are not part of the optimizer's state: the caller saves and
    sets them.

    torch's fused step reads a gradient as if it had its parameter's memory order, so gradients in another order are
    copied.

    Raises:
        ValueError: multipliers that do not broadcast over their parameter, or that are negative or not finite.
    """

    def __init__(self, params: Any, *, implementation: Implementation | None = None, **options: Any) -> None:
        super().__init__(params, **options)
        self._step_supports_amp_scaling = False  # a GradScaler then unscales, and skips steps, itself
        self.implementation = implementation
        self._multipliers: Multipliers = {}
        self._unequal: Multipliers = {}

    @property
    def multipliers(self) -> Multipliers:
        return self._multipliers

    @multipliers.setter
    def multipliers(self, by_parameter: Multipliers) -> None:
        for p, values in by_parameter.items():
            _check(p, values)
        self._multipliers = {p: _copy_for(p, values) for p, values in by_parameter.items()}
        # A multiplier of one everywhere is torch's step, to the bit.
        self._unequal = {p: m for p, m in self._multipliers.items() if isinstance(m, DTensor) or not (m == 1).all()}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        first = self.param_groups[0]["params"][0]
        implementation = choose("unitwise_adamw", first, self.implementation, dtypes=DTYPES)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lists: list[list[Any]] = [[] for _ in range(6)]
            self._init_group(group, *lists)  # makes missing state, and leaves out parameters without a gradient
            params, gradients, averages, squares, largest, counts = lists
            if group["fused"]:
                gradients = [_in_order_of(p, g) for p, g in zip(params, gradients, strict=True)]
            tensors = list(
                zip(params, gradients, averages, squares, counts, *([largest] if largest else []), strict=True)
            )
            if not tensors:
                continue
            if implementation == "triton" and _triton_can_step(tensors, group):
                record("unitwise_adamw", "triton")
                _triton_step(tensors, self._unequal, group)
            else:
                record("unitwise_adamw", "reference")
                _reference_step(tensors, self._unequal, group)
        return loss


def _check(p: torch.Tensor, values: torch.Tensor) -> None:
    try:
        fits = torch.broadcast_shapes(p.shape, values.shape) == p.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"multipliers of shape {tuple(values.shape)} do not broadcast over {tuple(p.shape)}")
    here = values.to_local() if isinstance(values, DTensor) else values
    if values.is_complex() or not ((here >= 0) & (here < torch.inf)).all():
        raise ValueError("multipliers must be finite numbers that are not negative")


def _copy_for(p: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Copy multipliers. Those of a sharded parameter are sharded like it if every process holds all of them."""
    values = values.detach().clone()
    if not isinstance(p, DTensor) or isinstance(values, DTensor):
        return values
    return distribute_tensor(values.expand(p.shape).contiguous(), p.device_mesh, p.placements, src_data_rank=None)


def _in_order_of(p: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the gradient in the memory order of its parameter."""
    if type(gradient) is not torch.Tensor or gradient.is_sparse or gradient.stride() == p.stride():
        return gradient
    return torch.empty_like(p, dtype=gradient.dtype).copy_(gradient)


def _reference_step(tensors: Tensors, multipliers: Multipliers, group: Mapping[str, Any]) -> None:
    """Step one group by torch's step alone, whatever the device, dtype and sharding."""
    plain: list[Any] = []
    multiplied: list[Any] = []
    rate = float(group["lr"])
    for one in tensors:
        multiplier = multipliers.get(one[0])
        if multiplier is None:
            plain.append(one)
        elif multiplier.numel() == 1 and one[0].numel() > LARGE:
            _adamw([one], group, lr=rate * float(multiplier))
        else:
            multiplied.append(one)
    if plain:
        _adamw(plain, group)
    if multiplied:
        weights = [weight for weight, *_ in multiplied]
        changes = [torch.zeros_like(weight) for weight in weights]
        _adamw(
            [(change, *rest) for change, (_, *rest) in zip(changes, multiplied, strict=True)],
            group,
            lr=rate,
            weight_decay=0.0,
        )
        if group["weight_decay"]:
            torch._foreach_add_(changes, weights, alpha=-rate * group["weight_decay"])
        torch._foreach_addcmul_(
            weights, changes, [multipliers[weight].to(weight).expand(weight.shape) for weight in weights]
        )


def _adamw(tensors: Tensors, group: Mapping[str, Any], **changed: float) -> None:
    """Make torch's step with a group's options, some of them changed."""
    names = ("foreach", "capturable", "differentiable", "fused", "amsgrad", "lr", "weight_decay", "eps", "maximize")
    options = {name: group[name] for name in names} | changed
    params, gradients, averages, squares, counts, *largest = map(list, zip(*tensors, strict=True))
    beta1, beta2 = group["betas"]
    adamw(
        params, gradients, averages, squares, largest[0] if largest else [], counts, beta1=beta1, beta2=beta2, **options
    )


def _triton_can_step(tensors: Tensors, group: Mapping[str, Any]) -> bool:
    """Return whether the kernel can step these tensors: usual options; whole, dense, contiguous, on one device."""
    usual = not group["amsgrad"] and not group["differentiable"]
    return usual and len({one[0].device for one in tensors}) == 1 and all(
        p.dtype in DTYPES and g.dtype == p.dtype and type(g) is torch.Tensor and not g.is_sparse
        and triton_can_read(p) and p.is_contiguous() and g.is_contiguous()
        for p, g, *_ in tensors
    )  # fmt: skip


def _triton_step(tensors: Tensors, multipliers: Multipliers, group: Mapping[str, Any]) -> None:
    """Step one group by one kernel for each dtype, which finds all tensors by a table of their addresses."""
    device = tensors[0][0].device
    counts = [one[4] for one in tensors]
    torch._foreach_add_(counts, 1)
    beta1, beta2 = group["betas"]
    spread: list[torch.Tensor | None] = []  # kept until the kernels have been started
    by_dtype: dict[torch.dtype, list[tuple[int, list[int]]]] = {}
    for tensor, count in zip(tensors, torch.stack(counts).tolist(), strict=True):
        weight = tensor[0]
        columns = weight.shape[-1] if weight.ndim > 1 else max(weight.numel(), 1)
        multiplier = multipliers.get(weight)
        spread.append(None if multiplier is None else _as_matrix(multiplier.to(weight).expand(weight.shape), columns))
        correction = torch.tensor([1 - beta1**count, (1 - beta2**count) ** 0.5], dtype=torch.float64)
        row = [*(one.data_ptr() for one in tensor[:4]), *_layout(spread[-1], weight.numel(), columns)]
        by_dtype.setdefault(weight.dtype, []).append((weight.numel(), row + correction.view(torch.int64).tolist()))
    sign = -1.0 if group["maximize"] else 1.0
    numbers = [float(group["lr"]), 1 - beta1, 1 - beta2, beta2, group["eps"], group["weight_decay"], sign]
    options = torch.tensor(numbers, dtype=torch.float64, device=device)
    for dtype, members in by_dtype.items():
        table = torch.tensor([row for _, row in members], device=device)
        blocks = [(i, start) for i, (size, _) in enumerate(members) for start in range(0, size, BLOCK)]
        if blocks:
            _KERNELS["step"][(len(blocks),)](
                table, torch.tensor(blocks, device=device), options,
                COLUMNS=table.shape[1], WIDE=dtype == torch.float64, BLOCK=BLOCK,
            )  # fmt: skip


def _as_matrix(spread: torch.Tensor, columns: int) -> torch.Tensor:
    """Return multipliers as (rows, columns), a view where they have one or two dimensions."""
    return spread[None] if spread.ndim == 1 else spread if spread.ndim == 2 else spread.reshape(-1, columns)


def _layout(spread: torch.Tensor | None, size: int, columns: int) -> list[int]:
    """Return the table's entries from the multipliers' address on: address, size, columns, both strides."""
    if spread is None:
        return [0, size, columns, 0, 0]
    across, along = (0 if length == 1 else stride for length, stride in zip(spread.shape, spread.stride(), strict=True))
    return [spread.data_ptr(), size, columns, across, along]


_KERNELS: dict[str, Any] = {}
if triton_installed():
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
