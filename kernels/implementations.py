"""Chooses between implementations of an operation, and records which ones ran.

This package has operations that methods need and no library has, one file each: a plain-torch reference and faster
implementations. The public function of a file chooses by device and dtype between the reference, plain torch made for
the device, and a Triton kernel. Its argument `implementation` or ADAPTBENCH_KERNELS=reference overrides that. The
record is part of a run's provenance. This package imports nothing else of adaptbench.
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

_record: dict[str, set[str]] = {}  # operation -> implementations that ran in this process


def choose(
    operation: str, like: "torch.Tensor", wanted: Implementation | None, *, dtypes: "tuple[torch.dtype, ...]"
) -> Implementation:
    """Return the implementation of `operation` for tensors like this one. The operation records which one it ran.

    Args:
        wanted: the caller's choice, None for the fastest.
        dtypes: those that the Triton kernel accepts, none where there is no such kernel.

    Raises:
        ValueError: there is no such implementation, or it cannot run on this machine, device or dtype.
    """
    installed = triton_installed()
    if wanted is None:
        if reference_forced():
            return "reference"
        return "triton" if like.is_cuda and installed and like.dtype in dtypes else "torch"
    if wanted not in ("reference", "torch", "triton"):
        raise ValueError(f"{operation}: no implementation {wanted!r}; one of reference, torch, triton")
    if wanted == "triton":
        instead = "take implementation='torch'"
        if not dtypes:
            raise ValueError(f"{operation}: there is no Triton kernel for it; {instead}")
        if not installed:
            raise ValueError(f"{operation}: Triton is not installed; {instead}")
        if not triton_can_read(like):
            raise ValueError(f"{operation}: the Triton kernel is for a GPU, not {like.device}; {instead}")
        if like.dtype not in dtypes:
            raise ValueError(f"{operation}: the Triton kernel takes no {like.dtype}; {instead}")
    return wanted


def triton_can_read(tensor: "torch.Tensor") -> bool:
    """Return whether Triton's kernels can read the tensor: on a GPU, or on a CPU with Triton's interpreter."""
    return tensor.is_cuda or (tensor.is_cpu and os.environ.get("TRITON_INTERPRET") == "1")


def reference_forced() -> bool:
    """Return whether the environment asks for the reference of every operation.

    Raises:
        ValueError: the variable has another value.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "reference"):
        raise ValueError(f"{VARIABLE}={value!r}: only 'reference' means something; unset it to have the fastest")
    return value == "reference"


@cache
def triton_installed() -> bool:
    """Return whether Triton can be imported."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def record(operation: str, implementation: Implementation) -> None:
    """Record that this implementation of the operation ran."""
    _record.setdefault(operation, set()).add(implementation)


@contextmanager
def recording() -> Iterator[dict[str, list[str]]]:
    """Clear the record, and fill the yielded dict from it when the block ends."""
    _record.clear()
    found: dict[str, list[str]] = {}
    try:
        yield found
    finally:
        found.update(recorded())


def recorded() -> dict[str, list[str]]:
    """Return the implementations that have run since `recording` began, sorted, by operation."""
    return {operation: sorted(ran) for operation, ran in sorted(_record.items())}


def merge_record(before: Mapping[str, Iterable[str]]) -> None:
    """Add the record of an earlier process whose work this one resumes."""
    for operation, ran in before.items():
        _record.setdefault(operation, set()).update(ran)
