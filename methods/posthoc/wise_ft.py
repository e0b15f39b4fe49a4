"""WiSE-FT: interpolate linearly between a model's weights before and after tuning.

Paper: arXiv 2109.01903, equation 1: (1 - alpha) * before + alpha * after. It needs no training, so that several alphas
give a curve of learning against forgetting. With LLaMA-Pro the line starts at the expanded model, whose outputs are the
base's.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from adaptbench.contracts import PosthocConfig, Real
from adaptbench.errors import AdaptbenchError

if TYPE_CHECKING:
    import torch


class Config(PosthocConfig):
    kind: Literal["wise_ft"] = "wise_ft"
    alpha: Real = Field(0.5, ge=0, le=1, description="0: the model before tuning; 1: the tuned model")


def apply(config: Config, start: Path, end: Path, out: Path) -> None:
    """Write the interpolated model.

    Raises:
        AdaptbenchError: the two models do not have the same weights.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    before: dict[str, torch.Tensor] = {}
    for file in sorted(start.glob("*.safetensors")):
        before |= load_file(file)
    names: set[str] = set()
    shutil.copytree(end, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors", "training.jsonl"))
    for file in sorted(end.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            metadata = opened.metadata()
        after = load_file(file)
        if apart := after.keys() - before.keys():
            before |= {name: tensor for name, tensor in _tied(start, before).items() if name in apart}
        for name, tensor in after.items():
            if name not in before or before[name].shape != tensor.shape:
                raise AdaptbenchError(f"wise_ft: {name} is not the same weight before and after tuning")
            if tensor.is_floating_point():
                after[name] = _on_the_line(before[name], tensor, config.alpha)
        names |= after.keys()
        save_file(after, out / file.name, metadata=metadata)
    if before.keys() - names:
        raise AdaptbenchError(f"wise_ft: {min(before.keys() - names)} is not the same weight before and after tuning")


def _tied(start: Path, before: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Return weights of the start that its files omit because they are tied to others.

    The end has them as separate weights if it was trained by adapters.
    """
    from adaptbench.model import storage

    names: dict[int, list[str]] = {}
    for name, p in storage.load_model(start).named_parameters(remove_duplicate=False):
        names.setdefault(id(p), []).append(name)
    return {other: before[name] for alike in names.values() for name in alike if name in before for other in alike}


def _on_the_line(before, after, alpha: float):
    """Interpolate in float64 and round once; at alpha 0 and 1 return the end as it is, signed zeros included."""
    if alpha in (0, 1):
        return (after if alpha else before).to(after.dtype)
    return ((1 - alpha) * before.double() + alpha * after.double()).to(after.dtype)
