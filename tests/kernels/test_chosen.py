"""Which implementation runs: by device and dtype, by the caller, by the environment; and that a run can say which.

Run: python -m pytest tests/kernels/test_chosen.py
"""

import pytest
import torch

from adaptbench.kernels import implementations
from adaptbench.kernels.implementations import choose, record, recording

X = torch.zeros(3)


def test_a_cpu_has_plain_torch_and_a_gpu_triton(monkeypatch):
    monkeypatch.delenv(implementations.VARIABLE, raising=False)
    assert choose("x", X, None, dtypes=(torch.float32,)) == "torch"
    on_gpu = type("OnGpu", (), {"is_cuda": True, "dtype": torch.float32})()
    assert choose("x", on_gpu, None, dtypes=(torch.float32,)) == "triton"
    assert choose("x", on_gpu, None, dtypes=(torch.float64,)) == "torch"
    monkeypatch.setattr(implementations, "triton_installed", lambda: False)
    assert choose("x", on_gpu, None, dtypes=(torch.float32,)) == "torch"
    with pytest.raises(ValueError, match="Triton is not installed"):
        choose("x", X, "triton", dtypes=(torch.float32,))


def test_the_environment_forces_the_reference_and_the_caller_decides_over_it(monkeypatch):
    monkeypatch.setenv(implementations.VARIABLE, "reference")
    assert choose("x", X, None, dtypes=()) == "reference"
    assert choose("x", X, "torch", dtypes=()) == "torch"
    monkeypatch.setenv(implementations.VARIABLE, "fast")
    with pytest.raises(ValueError, match="ADAPTBENCH_KERNELS='fast'"):
        choose("x", X, None, dtypes=())


def test_an_implementation_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no implementation 'cuda'"):
        choose("x", X, "cuda", dtypes=())
    with pytest.raises(ValueError, match=r"takes no torch\.float32"):
        choose("x", X, "triton", dtypes=(torch.float64,))
    with pytest.raises(ValueError, match="there is no Triton kernel for it"):
        choose("x", X, "triton", dtypes=())


def test_triton_is_refused_where_nothing_can_run_it(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match="is for a GPU, not cpu; take implementation='torch'"):
        choose("x", X, "triton", dtypes=(torch.float32,))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert choose("x", X, "triton", dtypes=(torch.float32,)) == "triton"
    with pytest.raises(ValueError, match="is for a GPU, not meta"):
        choose("x", X.to("meta"), "triton", dtypes=(torch.float32,))


def test_what_ran_is_told(monkeypatch):
    monkeypatch.delenv(implementations.VARIABLE, raising=False)
    with recording() as found:
        choose("c", X, None, dtypes=())  # chosen, but not run
        record("b", "torch")
        record("a", "reference")
        record("b", "reference")
        assert found == {}
    assert found == {"a": ["reference"], "b": ["reference", "torch"]}
    with recording() as again:
        pass
    assert again == {}
