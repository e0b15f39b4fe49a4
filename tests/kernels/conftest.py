"""Without a GPU Triton's kernels run in its interpreter, which must be asked for before a kernel is defined."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def device():
    """Where the kernels are tested: on a GPU if there is one, else on the CPU, Triton's in its interpreter."""
    return "cuda" if torch.cuda.is_available() else "cpu"
