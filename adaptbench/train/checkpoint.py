"""Writes and reads checkpoints of a training: safetensors and JSON, never pickle, atomic, exact to the bit.

Parameters and optimizer state are keyed by parameter name (torch's distributed state-dict API). Frozen parameters are
not stored: they are the parent model's. The random state is torch's; a method that uses other generators while it
trains keeps their state in its callback.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError
from adaptbench.io.files import restore, whole_directory
from adaptbench.train import distributed

if TYPE_CHECKING:
    import torch

STATE = "state.json"
TENSORS = "tensors.safetensors"


def save(
    folder: Path,
    model: "torch.nn.Module",
    optimizers: "Sequence[torch.optim.Optimizer]",
    state: dict[str, Any],
    *,
    write: bool = True,
) -> None:
    """Write a checkpoint to `folder`, replacing an earlier one. `state` is plain JSON (counts, schedules, ...).

    All processes that share the model must call this; the one with `write` writes.
    """
    import torch
    from safetensors.torch import save_file
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_optimizer_state_dict

    options = StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, flatten_optimizer_state_dict=True
    )
    parts = {
        "model": get_model_state_dict(model, options=options),
        "optimizer": get_optimizer_state_dict(model, list(optimizers), options=options),
        "rng": _random_state(),
    }
    if not write:
        return
    tensors: dict[str, torch.Tensor] = {}
    taken: set[int] = set()
    scalars: dict[str, Any] = {}
    for prefix, values in parts.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                value = value.detach().contiguous()
                place = value.untyped_storage().data_ptr()
                # safetensors refuses two tensors in one storage, as tied weights are.
                tensors[f"{prefix}/{name}"] = value.clone() if place in taken else value
                taken.add(place)
            else:
                scalars[f"{prefix}/{name}"] = value
    with whole_directory(folder) as temporary:
        save_file(tensors, temporary / TENSORS)
        (temporary / STATE).write_text(json.dumps({"state": state, "scalars": scalars}))


def load(
    folder: Path, model: "torch.nn.Module", optimizers: "Sequence[torch.optim.Optimizer]"
) -> dict[str, Any] | None:
    """Put a checkpoint's values into model, optimizer and random generators.

    Returns:
        The `state` that was saved, or None if there is no checkpoint.

    Raises:
        AdaptbenchError: the checkpoint is damaged.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict, set_optimizer_state_dict

    if distributed.is_main():
        restore(folder)
    distributed.barrier()
    if not folder.exists():
        return None
    try:
        tensors = load_file(folder / TENSORS)
        saved = json.loads((folder / STATE).read_text())
    except (OSError, ValueError, SafetensorError):
        raise AdaptbenchError(f"{folder}: damaged; delete it and run again") from None

    def part(prefix: str) -> dict[str, Any]:
        everything = {**tensors, **saved["scalars"]}
        return {
            name.removeprefix(f"{prefix}/"): value
            for name, value in everything.items()
            if name.startswith(f"{prefix}/")
        }

    by_name = dict(model.named_parameters(remove_duplicate=False))  # tied weights are stored under both names
    for name, value in tensors.items():
        prefix, _, rest = name.partition("/")
        of = by_name.get(rest) if prefix == "model" else _parameter_of(rest, by_name)
        tensors[name] = value if of is None else distributed.as_stored(value, of)
    # Not full_state_dict: with flattened state torch 2.13 raises KeyError 'param_groups.0.params.0' on loading.
    options = StateDictOptions(ignore_frozen_params=True, flatten_optimizer_state_dict=True, strict=False)
    set_model_state_dict(model, part("model"), options=options)
    set_optimizer_state_dict(model, list(optimizers), part("optimizer"), options=options)
    random_state = part("rng")
    torch.set_rng_state(random_state["cpu"])
    if "cuda" in random_state and torch.cuda.is_available():
        torch.cuda.set_rng_state(random_state["cuda"])
    return saved["state"]


def _parameter_of(entry: str, by_name: "Mapping[str, torch.Tensor]") -> "torch.Tensor | None":
    """Return the parameter of an optimizer state that is stored as `state.<parameter>.<moment>`."""
    return by_name.get(entry.removeprefix("state.").rpartition(".")[0]) if entry.startswith("state.") else None


def _random_state() -> "dict[str, torch.Tensor]":
    import torch

    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state
