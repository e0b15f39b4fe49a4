"""The sum of |weight x gradient| over each unit of a parameter: a tensor, its rows, its heads (ADEPT, arXiv 2510.10071, section 3.3).

Eager torch reads both, writes the product, reads it, writes its absolute value and reads that again. The Triton kernel reads weight and
gradient once and writes one number a block. For a processor there is no faster way here than the plain one.
"""

import torch

from adaptbench.kernels.implementations import Implementation, chosen, ran, triton_there

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def unit_importance(
    weight: torch.Tensor,
    gradient: torch.Tensor,
    units: tuple[int, int, int],
    *,
    implementation: Implementation | None = None,
) -> torch.Tensor:
    """Sums of |weight * gradient| by unit.

    Args:
        weight: a parameter of any shape.
        gradient: its gradient, of the same shape and dtype.
        units: the shape (outer, units, inner) in which the parameter is seen; a unit is what lies along the first and the last
            dimension. (1, 1, n) is the whole tensor, (1, rows, columns) its rows, (rows, heads, width) heads in the columns.

    Returns:
        (units,), in float32, or in float64 where the weight is.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit together, or numbers that are not floating point.
    """
    if weight.shape != gradient.shape or weight.dtype != gradient.dtype or weight.device != gradient.device:
        raise ValueError(
            f"unit_importance: weight {tuple(weight.shape)} {weight.dtype} on {weight.device} and gradient"
            f" {tuple(gradient.shape)} {gradient.dtype} on {gradient.device} must be alike"
        )
    if not weight.dtype.is_floating_point:
        raise ValueError(f"unit_importance: {weight.dtype} has no gradient")
    if len(units) != 3:
        raise ValueError(f"unit_importance: units {units} must be three: outer, units, inner")
    outer, count, inner = units
    if min(units) < 0 or outer * count * inner != weight.numel():
        raise ValueError(f"unit_importance: units {units} are not the {weight.numel()} numbers of the weight")
    way = chosen("unit_importance", weight, implementation, dtypes=DTYPES)
    if way == "triton" and weight.numel():
        ran("unit_importance", "triton")
        return _triton(weight.detach().contiguous(), gradient.contiguous(), units)
    ran("unit_importance", "reference")
    return reference(weight, gradient, units)  # on a CPU nothing tried was faster: torch's 1-norm takes twice as long


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def reference(weight: torch.Tensor, gradient: torch.Tensor, units: tuple[int, int, int]) -> torch.Tensor:
    """Product, absolute value and sum, one after another."""
    wide = _wide(weight.dtype)
    return (weight.detach().to(wide) * gradient.to(wide)).abs().reshape(units).sum((0, 2))


BLOCK = 4096  # numbers that a program reads at once
PROGRAMS = 4096  # at least so many read, where there is enough to read


def _triton(weight: torch.Tensor, gradient: torch.Tensor, units: tuple[int, int, int]) -> torch.Tensor:
    outer, count, inner = units
    size = outer * inner
    block = min(BLOCK, max(16, 1 << (size - 1).bit_length()))
    parts = max(1, min(-(-size // block), -(-PROGRAMS // max(count, 1))))
    found = torch.empty((count, parts), dtype=_wide(weight.dtype), device=weight.device)
    _KERNELS["sum"][(count, parts)](weight, gradient, found, size, count, inner, parts, BLOCK=block)
    return found.sum(1)


_KERNELS = {}
if triton_there():
    import triton
    import triton.language as tl

    @triton.jit
    def _sum_of_blocks(weight, gradient, found, size, count, inner, parts, BLOCK: tl.constexpr):
        unit = tl.program_id(0).to(tl.int64)
        part = tl.program_id(1)
        total = tl.zeros([BLOCK], dtype=found.dtype.element_ty)
        for start in range(part * BLOCK, size, parts * BLOCK):
            place = start + tl.arange(0, BLOCK).to(tl.int64)
            inside = place < size
            at = (place // inner * count + unit) * inner + place % inner
            w = tl.load(weight + at, mask=inside, other=0.0).to(found.dtype.element_ty)
            g = tl.load(gradient + at, mask=inside, other=0.0).to(found.dtype.element_ty)
            total += tl.abs(w * g)
        tl.store(found + unit * parts + part, tl.sum(total, 0))

    _KERNELS["sum"] = _sum_of_blocks
