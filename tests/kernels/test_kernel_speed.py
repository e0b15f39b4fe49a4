"""What the measurement of kernels counts: ways in turn, the share of a copy's speed, memory of one operation.

Run: python -m pytest tests/kernels/test_kernel_speed.py
"""

import pandas as pd
import torch

from adaptbench import kernel_speed


def test_a_row_says_how_fast_and_what_of_a_copy(monkeypatch):
    taken = {"slow": [0.018, 0.019, 0.02, 0.021, 0.022], "fast": [0.005] * 5}
    monkeypatch.setattr(kernel_speed.speed_tables, "in_turn", lambda ways, repeats: ({}, taken))
    slow, fast = kernel_speed._rows("sleep", "any", "float32", 10**6, dict.fromkeys(taken, lambda: None), 1e9, "cpu")
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
    for name in ("_importance", "_fusion", "_entropy", "_muon"):
        monkeypatch.setattr(kernel_speed, name, lambda device: [])
    monkeypatch.setattr(
        kernel_speed,
        "_optimizer",
        lambda device: [("small", "float32", 8, {"reference": lambda: None, "torch": lambda: None})],
    )
    kernel_speed.measure(tmp_path)
    table = pd.read_csv(tmp_path / "kernels_cpu.csv")
    assert list(table["implementation"]) == ["reference", "torch"]
    assert {"operation", "dtype", "shape", "bytes", "share_of_copy", "device", "torch"} <= set(table)
    assert "unitwise_adamw" in (tmp_path / "kernels_cpu.md").read_text()


def test_both_muons_are_timed_on_the_same_matrices():
    (_, _, moved, ways), (_, _, more, _) = kernel_speed._muon("cpu")
    assert list(ways) == ["torch.optim.Muon", "stacked, in bfloat16", "stacked, in float32"]
    assert more == 16 * moved
    for way in ways.values():
        way()
