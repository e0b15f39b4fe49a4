"""Operations that these methods do and no library has, a file each: a plain-torch reference, a faster way, one public function.

The public function takes the reference, plain torch made for the device, or a Triton kernel, by device and dtype; its
`implementation` argument or ADAPTBENCH_KERNELS=reference decides otherwise. What ran is kept for `used`. This package imports
nothing of adaptbench's.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Implementation = Literal["reference", "torch", "triton"]
VARIABLE = "ADAPTBENCH_KERNELS"

_ran: dict[str, set[str]] = {}


def chosen(
    operation: str, like: "torch.Tensor", wanted: Implementation | None, *, dtypes: "tuple[torch.dtype, ...]"
) -> Implementation:
    """The implementation of `operation` for tensors like this one; the operation says with `ran` what it took in the end.

    Args:
        wanted: what the caller asks for, None for the best there is.
        dtypes: those that the Triton kernel takes; none where there is no such kernel.

    Raises:
        ValueError: no such implementation, or one that this machine, device or dtype cannot have.
    """
    there = triton_there()
    if wanted is None:
        if reference_forced():
            wanted = "reference"
        else:
            wanted = "triton" if like.is_cuda and there and like.dtype in dtypes else "torch"
    elif wanted not in ("reference", "torch", "triton"):
        raise ValueError(f"{operation}: no implementation {wanted!r}; one of reference, torch, triton")
    elif wanted == "triton" and not dtypes:
        raise ValueError(f"{operation}: there is no Triton kernel for it; take implementation='torch'")
    elif wanted == "triton" and not there:
        raise ValueError(f"{operation}: Triton is not installed; take implementation='torch'")
    elif wanted == "triton" and not for_triton(like):
        raise ValueError(f"{operation}: the Triton kernel is for a GPU, not {like.device}; take implementation='torch'")
    elif wanted == "triton" and like.dtype not in dtypes:
        raise ValueError(f"{operation}: the Triton kernel takes no {like.dtype}; take implementation='torch'")
    return wanted


def ran(operation: str, way: Implementation) -> None:
    """Keep for `used` that this implementation of the operation ran."""
    _ran.setdefault(operation, set()).add(way)


def for_triton(tensor: "torch.Tensor") -> bool:
    """Whether Triton's kernels can read the tensor: on a GPU, or on a CPU by the interpreter."""
    return tensor.is_cuda or (tensor.is_cpu and os.environ.get("TRITON_INTERPRET") == "1")


def reference_forced() -> bool:
    """Whether the environment asks for the plain way everywhere.

    Raises:
        ValueError: it asks for something else.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "reference"):
        raise ValueError(f"{VARIABLE}={value!r}: only 'reference' means something; unset it to have the fastest")
    return value == "reference"


@cache
def triton_there() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def used() -> Iterator[dict[str, list[str]]]:
    """What runs inside: by operation the implementations, filled in when the block ends."""
    _ran.clear()
    found: dict[str, list[str]] = {}
    try:
        yield found
    finally:
        found.update(so_far())


def so_far() -> dict[str, list[str]]:
    """What has run since `used` began: by operation the implementations."""
    return {operation: sorted(ways) for operation, ways in sorted(_ran.items())}


def add(before: Mapping[str, Iterable[str]]) -> None:
    """Count what ran in an earlier process whose work this one goes on with."""
    for operation, ways in before.items():
        _ran.setdefault(operation, set()).update(ways)
