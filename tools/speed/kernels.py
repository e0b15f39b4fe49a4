"""What the operations of kernels/ and the stacked Muon cost, against what one would write without them; and torch's two
ways to attend.

    python -m tools kernel-speed results/reference/bench

All ways of one operation run in turn in one process, several times each; medians, and how fast memory was read and
written against a copy of the same machine. Peak memory is that of the tensors that the operation makes, as torch counts
them.
"""

import importlib.metadata
import importlib.util
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from adaptbench.jobs import gpus
from tools.speed import tables

REPEATS = 15
Way = Callable[[], Any]
COLUMNS = {
    "operation": "operation", "shape": "shape", "dtype": "dtype", "implementation": "way", "median_milliseconds": "ms", "times_faster": "times faster",
    "share_of_copy": "share of a copy's speed", "peak_megabytes": "peak MB",
}  # fmt: skip


def measure(out: Path) -> None:
    """Write kernels_cpu.csv or kernels_gpu.csv, its Markdown and its figure to the folder `out`."""
    import torch

    device = gpus.device()
    speed = _copy_speed(device)
    measured = {
        "unitwise_adamw": _optimizer(device),
        "latent_fusion": _fusion(device),
        "masked_linear_cross_entropy": _entropy(device),
        "muon": _muon(device),
        "attention": _attention(device),
    }
    rows = []
    for operation, cases in measured.items():
        for shape, dtype, moved, ways in cases:
            rows += _rows(operation, shape, dtype, moved, ways, speed, device)
    caption = (
        f"Medians of {REPEATS} repeats in one process, ways in turn; a copy here reads and writes {speed / 1e9:.1f} GB/s. Peak: tensors made beyond"
        " the operands."
    )
    stem = out / f"kernels_{'gpu' if torch.cuda.is_available() else 'cpu'}"
    tables.keep(rows, stem.with_suffix(".csv"), COLUMNS, caption)
    _draw(rows, stem)


def _draw(rows: list[dict[str, Any]], stem: Path) -> None:
    """One panel an operation: how many times faster than its first way each way is, with the middle three fifths of the repeats."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    from adaptbench.report.figures import layout, palette

    compared = {row["operation"] for row in rows if row["times_faster"] != 1}  # others have one way here
    rows = [row for row in rows if row["operation"] in compared] or rows
    operations = list(dict.fromkeys(row["operation"] for row in rows))
    counts = [sum(row["operation"] == one for row in rows) for one in operations]
    with plt.rc_context(palette.STYLE):
        figure, panels = plt.subplots(
            len(operations),
            1,
            figsize=(8.6, 0.19 * sum(counts) + 0.7 * len(counts)),
            squeeze=False,
            height_ratios=counts,
        )
        for axes, operation in zip(panels[:, 0], operations, strict=True):
            mine = [row for row in rows if row["operation"] == operation]
            cases = list(dict.fromkeys((row["shape"], row["dtype"]) for row in mine))
            first = {case: next(row for row in mine if (row["shape"], row["dtype"]) == case) for case in cases}
            ways = list(dict.fromkeys(row["implementation"] for row in mine))
            for place, row in enumerate(mine):
                base = first[row["shape"], row["dtype"]]["median_milliseconds"]
                median, low, high = (
                    base / max(row[f"{name}_milliseconds"], 1e-6) for name in ("median", "high", "low")
                )
                colour = palette.COLOURS[ways.index(row["implementation"]) % len(palette.COLOURS)]
                axes.barh(
                    place,
                    median,
                    xerr=[[max(median - low, 0)], [max(high - median, 0)]],
                    color=colour,
                    error_kw={"linewidth": 0.8},
                )
            names = [f"{row['shape']}, {row['dtype']}: {row['implementation']}" for row in mine]
            axes.set_yticks(range(len(mine)), names, fontsize=6)
            axes.invert_yaxis()
            axes.axvline(1, color="black", linewidth=0.8)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_title(operation, fontsize=9, loc="left")
            axes.grid(axis="y", visible=False)
        panels[-1, 0].set_xlabel("times faster than the first way of each shape")
        layout.title(figure, "Operations against what they replace")
        palette.save_images(figure, stem)


def _rows(
    operation: str, shape: str, dtype: str, moved: int | None, ways: Mapping[str, Way], speed: float, device: str
) -> list[dict[str, Any]]:
    """A row for each way; `moved` are the bytes that an operation bound by memory reads and writes, None where arithmetic counts."""
    for way in ways.values():
        way()
        way()
    _, seconds = tables.in_turn({name: partial(_finished, way, device) for name, way in ways.items()}, REPEATS)
    first = statistics.median(next(iter(seconds.values())))
    rows = []
    for name, way in ways.items():
        median = statistics.median(seconds[name])
        twentieth, *_, eightieth = statistics.quantiles(seconds[name], n=5)
        rows.append({
            "operation": operation, "implementation": name, "dtype": dtype, "shape": shape,
            "median_milliseconds": round(1e3 * median, 3), "low_milliseconds": round(1e3 * twentieth, 3), "high_milliseconds": round(1e3 * eightieth, 3),
            "times_faster": round(first / median, 2), "bytes": moved, "share_of_copy": None if moved is None else round(moved / median / speed, 2),
            "peak_megabytes": round(peak(way, device) / 1e6, 1), **tables.surroundings(device), **_versions(device),
        })  # fmt: skip
    return rows


def _versions(device: str) -> dict[str, str]:
    """Of what only a GPU needs."""
    if device != "cuda":
        return {}
    names = ("triton", "liger-kernel", "cut-cross-entropy")
    return {name: importlib.metadata.version(name) for name in names if _installed(name.replace("-", "_"))}


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _finished(way: Way, device: str) -> None:
    import torch

    way()
    if device == "cuda":
        torch.cuda.synchronize()


def _copy_speed(device: str) -> float:
    """Bytes a second that a copy of 256 MB reads and writes together."""
    import torch

    source = torch.ones(1 << 26, device=device)
    target = torch.empty_like(source)
    copy = partial(target.copy_, source)
    copy()
    _, seconds = tables.in_turn({"": partial(_finished, copy, device)}, REPEATS)
    return 2 * source.numel() * source.element_size() / statistics.median(seconds[""])


def peak(way: Way, device: str) -> int:
    """Bytes that the operation takes at most beyond what was there before."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _finished(way, device)
        return torch.cuda.max_memory_allocated() - before
    with tables.profiled(profile_memory=True) as seen:
        way()
    recorded = seen.profiler.kineto_results.events() if seen.profiler else []
    taken = sorted((one.start_ns(), one.nbytes()) for one in recorded if one.name() == "[memory]")
    return max(accumulate((count for _, count in taken), initial=0))


Cases = list[tuple[str, str, int | None, dict[str, Way]]]


def _ways(device: str) -> list[Any]:
    return ["reference", "torch", *(["triton"] if device == "cuda" else [])]


def _optimizer(device: str) -> Cases:
    import torch

    from adaptbench.kernels.unitwise_adamw import UnitwiseAdamW

    cases: Cases = []
    for count, side in ((300, 64), (22, 64), (12, 1024)):
        shapes = count * [(side, side)]
        for unit, rates in (("tensor", (1, 1)), ("row", (side, 1))):
            ways: dict[str, Way] = {}
            if unit == "tensor":
                ways["a group for each unit, fused"] = _ready(
                    torch.optim.AdamW, shapes, device, split=True, fused=True
                ).step
            ways["one group, one rate, fused"] = _ready(torch.optim.AdamW, shapes, device, fused=True).step
            for way in ["reference", *(["triton"] if device == "cuda" else [])]:  # a CPU has the reference alone
                optimizer = _ready(UnitwiseAdamW, shapes, device, fused=True, implementation=way)
                params = optimizer.param_groups[0]["params"]
                optimizer.multipliers = {p: torch.rand(rates, device=device) for p in params}
                ways[way] = optimizer.step
            name = f"{count} tensors of {side} x {side}, a rate for each {unit}"
            cases.append((name, "float32", 7 * 4 * count * side * side, ways))
    return cases


def _ready(kind: Any, shapes: Sequence[tuple[int, int]], device: str, *, split: bool = False, **options: Any) -> Any:
    """An optimizer of that kind over matrices that have gradients, in a group for each with `split`."""
    import torch

    params = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return kind([{"params": [p]} for p in params] if split else params, lr=1e-3, **options)


def _fusion(device: str) -> Cases:
    import torch

    from adaptbench.kernels.latent_fusion import latent_fusion

    sizes = ((8, 1024, 64), (32, 1024, 64), (32, 32_000, 512), (32, 128_000, 2048))
    cases: Cases = []
    for rows, vocabulary, width in sizes if device == "cuda" else sizes[:3]:
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        hidden = torch.randn(rows, width, device=device).to(dtype).requires_grad_()
        logits = (6 * torch.randn(rows, vocabulary, device=device)).to(dtype).requires_grad_()
        embeddings = torch.randn(vocabulary, width, device=device).to(dtype).requires_grad_()

        def both(way: Any, *tensors: Any) -> None:
            latent_fusion(*tensors, alpha=0.6, excluded=0, implementation=way).sum().backward()
            for one in tensors:
                one.grad = None

        def forward(way: Any, *tensors: Any) -> None:
            with torch.no_grad():
                latent_fusion(*tensors, alpha=0.6, excluded=0, implementation=way)

        shape = f"{rows} rows, vocabulary {vocabulary:,}, width {width}"
        for what, function in (("forward", forward), ("forward and backward", both)):
            ways: dict[str, Way] = {way: partial(function, way, hidden, logits, embeddings) for way in _ways(device)}
            cases.append((f"{shape}, {what}", _name(dtype), None, ways))
    return cases


def _entropy(device: str) -> Cases:
    import torch

    from adaptbench.kernels.masked_linear_cross_entropy import IGNORED, masked_linear_cross_entropy, reference

    sizes = ((1024, 64, 1024), (1024, 256, 16_000), (4096, 2048, 128_000) if device == "cuda" else (256, 64, 128_000))
    cases: Cases = []
    for positions, width, vocabulary in sizes:
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        hidden = torch.randn(positions, width, device=device).to(dtype).requires_grad_()
        head = (torch.randn(vocabulary, width, device=device) / width**0.5).to(dtype).requires_grad_()
        labels = torch.randint(vocabulary, (positions,), device=device)
        labels[torch.rand(positions, device=device) < 0.7] = IGNORED

        def kept_only(hidden: Any, head: Any, labels: Any) -> Any:
            kept = labels != IGNORED
            return reference(hidden[kept], head, labels[kept])

        def both(function: Callable[..., Any], *tensors: Any) -> None:
            function(*tensors).backward()
            for one in tensors[:2]:
                one.grad = None

        functions: dict[str, Callable[..., Any]] = {"all logits": reference, "logits of labelled positions": kept_only}
        if hasattr(torch.nn.functional, "linear_cross_entropy"):
            functions["torch's linear_cross_entropy, chunked"] = _torchs
        functions |= _of_others(device)
        functions["masked and chunked"] = partial(masked_linear_cross_entropy, implementation="torch")
        ways: dict[str, Way] = {
            name: partial(both, function, hidden, head, labels) for name, function in functions.items()
        }
        shape = f"{positions} positions, 70 % masked, width {width}, vocabulary {vocabulary:,}"
        cases.append((shape, _name(dtype), None, ways))
    return cases


def _of_others(device: str) -> dict[str, Callable[..., Any]]:
    """Other libraries' ways to the same loss, where they are installed; both are for GPUs alone."""
    found: dict[str, Callable[..., Any]] = {}
    if device != "cuda":
        return found
    if _installed("liger_kernel"):
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        fused = LigerFusedLinearCrossEntropyLoss()
        found["Liger's fused linear cross-entropy"] = lambda hidden, head, labels: fused(head, hidden, labels)
    if _installed("cut_cross_entropy"):
        from cut_cross_entropy import linear_cross_entropy

        found["cut cross-entropy"] = linear_cross_entropy
    return found


def _torchs(hidden: Any, head: Any, labels: Any) -> Any:
    import torch

    options = torch.nn.LinearCrossEntropyOptions()
    return torch.nn.functional.linear_cross_entropy(hidden, head, labels, options=options)


def _muon(device: str) -> Cases:
    """A step of all matrices of a Qwen3 model: as deep and wide as the default preset's, and four times as wide."""
    import torch

    from adaptbench.train.muon import Muon

    cases: Cases = []
    for layers, width in ((6, 64), (6, 256)):
        shapes = layers * [*[(width, width)] * 4, *[(3 * width, width)] * 2, (width, 3 * width)]
        ways: dict[str, Way] = {
            "torch.optim.Muon": _ready(torch.optim.Muon, shapes, device).step,
            "stacked, in bfloat16": _ready(Muon, shapes, device, dtype=torch.bfloat16).step,
            "stacked, in float32": _ready(Muon, shapes, device).step,
        }
        cases.append((f"{len(shapes)} matrices of a model {width} wide", "float32", None, ways))
    return cases


def _attention(device: str) -> Cases:
    """Forward and backward of causal attention, fused and eager: what `training.attention: auto` chooses between on a processor."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.models.qwen3.modeling_qwen3 import eager_attention_forward

    cases: Cases = []
    for rows, length, heads, width in ((8, 128, 2, 32), (8, 256, 2, 32), (1, 1024, 8, 64)):
        for dtype in (torch.float32, torch.bfloat16):
            made = (torch.randn(rows, length, heads, width, dtype=dtype, device=device) for _ in range(3))
            taken = [one.transpose(1, 2).requires_grad_() for one in made]  # as a layer's projections lie in memory
            seen = torch.ones(rows, 1, length, length, dtype=torch.bool, device=device).tril()
            mask = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, torch.finfo(dtype).min)
            layer = SimpleNamespace(num_key_value_groups=1, training=True)

            def fused(taken: Any = taken, seen: Any = seen) -> Any:
                query, key, value = taken
                made = scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2)
                return torch.autograd.grad(made.sum(), taken)

            def eager(taken: Any = taken, mask: Any = mask, layer: Any = layer, scale: float = width**-0.5) -> Any:
                made, _ = eager_attention_forward(layer, *taken, mask, scaling=scale)
                return torch.autograd.grad(made.sum(), taken)

            shape = f"{rows} x {length} tokens, {heads} heads of {width}, forward and backward"
            cases.append((shape, _name(dtype), None, {"fused (sdpa)": fused, "eager": eager}))
    return cases


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
