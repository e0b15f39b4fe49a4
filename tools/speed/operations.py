"""Operations that are timed, each in several shapes and with every way to compute it, on random operands."""

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

Way = Callable[[], Any]


class Case(NamedTuple):
    """One shape and dtype of an operation, with the ways to compute it, the plain one first.

    `bytes_moved` are the bytes that a memory-bound operation reads and writes, None if arithmetic dominates.
    """

    shape: str
    dtype: str
    bytes_moved: int | None
    ways: dict[str, Way]


Cases = list[Case]


def installed(module: str) -> bool:
    """Return True if the module can be imported."""
    return importlib.util.find_spec(module) is not None


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
            cases.append(Case(name, "float32", 7 * 4 * count * side * side, ways))
    return cases


def _ready(kind: Any, shapes: Sequence[tuple[int, int]], device: str, *, split: bool = False, **options: Any) -> Any:
    """Return an optimizer over matrices with gradients, with `split` in a separate group for each."""
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
            cases.append(Case(f"{shape}, {what}", _name(dtype), None, ways))
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
            functions["torch's linear_cross_entropy, chunked"] = _linear_cross_entropy_of_torch
        functions |= _of_other_libraries(device)
        functions["masked and chunked"] = partial(masked_linear_cross_entropy, implementation="torch")
        ways: dict[str, Way] = {
            name: partial(both, function, hidden, head, labels) for name, function in functions.items()
        }
        shape = f"{positions} positions, 70 % masked, width {width}, vocabulary {vocabulary:,}"
        cases.append(Case(shape, _name(dtype), None, ways))
    return cases


def _of_other_libraries(device: str) -> dict[str, Callable[..., Any]]:
    """Return the same loss by other libraries that are installed; both libraries need a GPU."""
    found: dict[str, Callable[..., Any]] = {}
    if device != "cuda":
        return found
    if installed("liger_kernel"):
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        fused = LigerFusedLinearCrossEntropyLoss()
        found["Liger's fused linear cross-entropy"] = lambda hidden, head, labels: fused(head, hidden, labels)
    if installed("cut_cross_entropy"):
        from cut_cross_entropy import linear_cross_entropy

        found["cut cross-entropy"] = linear_cross_entropy
    return found


def _linear_cross_entropy_of_torch(hidden: Any, head: Any, labels: Any) -> Any:
    import torch

    options = torch.nn.LinearCrossEntropyOptions()
    return torch.nn.functional.linear_cross_entropy(hidden, head, labels, options=options)


def _muon(device: str) -> Cases:
    """Return steps of all matrices of a Qwen3 model, as wide as the default preset's and four times as wide."""
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
        cases.append(Case(f"{len(shapes)} matrices of a model {width} wide", "float32", None, ways))
    return cases


def _attention(device: str) -> Cases:
    """Return causal attention, fused and eager, forward and backward; `training.attention` chooses one."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.models.qwen3.modeling_qwen3 import eager_attention_forward

    cases: Cases = []
    for rows, length, heads, width in ((8, 128, 2, 32), (8, 256, 2, 32), (1, 1024, 8, 64)):
        for dtype in (torch.float32, torch.bfloat16):
            made = (torch.randn(rows, length, heads, width, dtype=dtype, device=device) for _ in range(3))
            taken = [one.transpose(1, 2).requires_grad_() for one in made]  # the memory layout of a layer's projections
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
            cases.append(Case(shape, _name(dtype), None, {"fused (sdpa)": fused, "eager": eager}))
    return cases


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


CASES: dict[str, Callable[[str], Cases]] = {
    "unitwise_adamw": _optimizer,
    "latent_fusion": _fusion,
    "masked_linear_cross_entropy": _entropy,
    "muon": _muon,
    "attention": _attention,
}
"""The cases of each operation, given the device."""
