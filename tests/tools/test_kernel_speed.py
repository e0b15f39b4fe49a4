"""What the measurement of kernels counts: ways in turn, the share of a copy's speed, memory of one operation.

Run: python -m pytest tests/tools/test_kernel_speed.py
"""

import sys
import types

import pandas as pd
import torch

from tools.speed import kernels as kernel_speed
from tools.speed import operations
from tools.speed.operations import Case


def _rows(bytes_moved, ways):
    case = Case("any", "float32", bytes_moved, dict.fromkeys(ways, lambda: None))
    return kernel_speed._rows("sleep", case, copy_speed=1e9, device="cpu")


def test_a_row_says_how_fast_and_what_of_a_copy(monkeypatch):
    taken = {"slow": [0.018, 0.019, 0.02, 0.021, 0.022], "fast": [0.005] * 5}
    monkeypatch.setattr(kernel_speed.tables, "in_turn", lambda ways, repeats: ({}, taken))
    slow, fast = _rows(10**6, taken)
    assert (slow["times_faster"], fast["times_faster"]) == (1.0, 4.0)
    assert slow["low_milliseconds"] < slow["median_milliseconds"] == 20.0 < slow["high_milliseconds"]
    assert (slow["share_of_copy"], fast["share_of_copy"]) == (0.05, 0.2)
    assert fast["bytes"] == 10**6


def test_memory_is_that_of_the_operation_alone():
    held = torch.ones(20_000_000)
    assert kernel_speed.peak(lambda: None, "cpu") == 0
    assert 40e6 <= kernel_speed.peak(lambda: (held[:10_000_000] + 1).sum(), "cpu") < 41e6


def test_a_measurement_is_kept_with_what_it_was_made_on(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_speed, "REPEATS", 2)
    small = Case("small", "float32", 8, {"reference": lambda: None, "torch": lambda: None})
    monkeypatch.setattr(operations, "CASES", {"unitwise_adamw": lambda device: [small], "muon": lambda device: []})
    kernel_speed.measure(tmp_path)
    table = pd.read_csv(tmp_path / "kernels_cpu.csv")
    assert list(table["implementation"]) == ["reference", "torch"]
    assert {"operation", "dtype", "shape", "bytes", "share_of_copy", "device", "torch"} <= set(table)
    assert "unitwise_adamw" in (tmp_path / "kernels_cpu.md").read_text()


def test_both_ways_to_attend_are_timed_on_the_same_work():
    for _, dtype, _, ways in operations._attention("cpu"):
        fused, eager = (way() for way in ways.values())
        close = 1e-4 if dtype == "float32" else 0.1
        for one, other in zip(fused, eager, strict=True):
            torch.testing.assert_close(one, other, rtol=close, atol=close)


def test_both_muons_are_timed_on_the_same_matrices():
    (_, _, moved, ways), (_, _, more, _) = operations._muon("cpu")
    assert moved is more is None
    assert list(ways) == ["torch.optim.Muon", "stacked, in bfloat16", "stacked, in float32"]
    for way in ways.values():
        way()


def test_where_arithmetic_counts_no_share_of_a_copy_is_told(monkeypatch):
    monkeypatch.setattr(kernel_speed.tables, "in_turn", lambda ways, repeats: ({}, {"one": [0.01] * 5}))
    (row,) = _rows(None, ["one"])
    assert row["bytes"] is row["share_of_copy"] is None


def test_units_that_are_tensors_are_held_against_a_group_for_each(monkeypatch):
    monkeypatch.setattr(operations, "_ready", _small(operations._ready))
    cases = operations._optimizer("cpu")
    assert [name.rpartition(", ")[2] for name, *_ in cases] == ["a rate for each tensor", "a rate for each row"] * 3
    for name, _, _, ways in cases:
        assert ("a group for each unit, fused" in ways) == name.endswith("tensor")
        for step in ways.values():
            step()


def _small(ready):
    return lambda kind, shapes, device, **options: ready(kind, shapes[:2], device, **options)


def test_other_libraries_are_asked_on_a_gpu_where_they_are_installed(monkeypatch):
    liger, cut = types.ModuleType("liger_kernel.transformers"), types.ModuleType("cut_cross_entropy")
    liger.LigerFusedLinearCrossEntropyLoss = lambda: lambda head, hidden, labels: ("Liger", head, hidden, labels)
    cut.linear_cross_entropy = lambda hidden, head, labels: ("cut", head, hidden, labels)
    for module in (liger, cut):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "liger_kernel", types.ModuleType("liger_kernel"))
    monkeypatch.setattr(operations, "installed", lambda module: True)
    assert operations._of_other_libraries("cpu") == {}
    told = [function("hidden", "head", "labels") for function in operations._of_other_libraries("cuda").values()]
    assert told == [("Liger", "head", "hidden", "labels"), ("cut", "head", "hidden", "labels")]
    monkeypatch.setattr(operations, "installed", lambda module: False)
    assert operations._of_other_libraries("cuda") == {}
