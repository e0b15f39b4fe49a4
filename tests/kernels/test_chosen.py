"""Which implementation runs: by device and dtype, by the caller, by the environment; and that a run can say which.

Run: python -m pytest tests/kernels/test_chosen.py
"""

import pytest
import torch

from adaptbench.kernels import implementations
from adaptbench.kernels.implementations import chosen, ran, used

X = torch.zeros(3)


def test_a_cpu_has_plain_torch_and_a_gpu_triton(monkeypatch):
    monkeypatch.delenv(implementations.VARIABLE, raising=False)
    assert chosen("x", X, None, dtypes=(torch.float32,)) == "torch"
    on_gpu = type("OnGpu", (), {"is_cuda": True, "dtype": torch.float32})()
    assert chosen("x", on_gpu, None, dtypes=(torch.float32,)) == "triton"
    assert chosen("x", on_gpu, None, dtypes=(torch.float64,)) == "torch"
    monkeypatch.setattr(implementations, "triton_there", lambda: False)
    assert chosen("x", on_gpu, None, dtypes=(torch.float32,)) == "torch"
    with pytest.raises(ValueError, match="Triton is not installed"):
        chosen("x", X, "triton", dtypes=(torch.float32,))


def test_the_environment_forces_the_reference_and_the_caller_decides_over_it(monkeypatch):
    monkeypatch.setenv(implementations.VARIABLE, "reference")
    assert chosen("x", X, None, dtypes=()) == "reference"
    assert chosen("x", X, "torch", dtypes=()) == "torch"
    monkeypatch.setenv(implementations.VARIABLE, "fast")
    with pytest.raises(ValueError, match="ADAPTBENCH_KERNELS='fast'"):
        chosen("x", X, None, dtypes=())


def test_an_implementation_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no implementation 'cuda'"):
        chosen("x", X, "cuda", dtypes=())
    with pytest.raises(ValueError, match=r"takes no torch\.float32"):
        chosen("x", X, "triton", dtypes=(torch.float64,))
    with pytest.raises(ValueError, match="there is no Triton kernel for it"):
        chosen("x", X, "triton", dtypes=())


def test_triton_is_refused_where_nothing_can_run_it(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="is for a GPU, not cpu; take implementation='torch'"):
        chosen("x", X, "triton", dtypes=(torch.float32,))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert chosen("x", X, "triton", dtypes=(torch.float32,)) == "triton"
    with pytest.raises(ValueError, match="is for a GPU, not meta"):
        chosen("x", X.to("meta"), "triton", dtypes=(torch.float32,))


def test_what_ran_is_told(monkeypatch):
    monkeypatch.delenv(implementations.VARIABLE, raising=False)
    with used() as found:
        chosen("c", X, None, dtypes=())  # no more than chosen
        ran("b", "torch")
        ran("a", "reference")
        ran("b", "reference")
        assert found == {}
    assert found == {"a": ["reference"], "b": ["reference", "torch"]}
    with used() as again:
        pass
    assert again == {}
