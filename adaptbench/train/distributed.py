"""Runs one training stage in several processes: DDP or FSDP2 synchronises them, torch's elastic launcher starts them.

`accelerate launch --multi_gpu` calls the same launcher; a stage that was started by it, or by torchrun, uses those
processes. Accelerate wraps a model for DDP. It shards only on accelerators, so FSDP2 is torch's `fully_shard`, the same
on all devices.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptbench.config.schema import Devices
from adaptbench.errors import AdaptbenchError, user_message

if TYPE_CHECKING:
    import torch

SECONDS_TO_SAVE = 120  # from a signal to SIGKILL
LAUNCHED = "ADAPTBENCH_LAUNCHED"


def in_process_group() -> bool:
    """Return whether this is one of several processes already."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launched_by_us() -> bool:
    """Return whether `launch` started this process, not torchrun or the like."""
    return LAUNCHED in os.environ


def is_main() -> bool:
    """Return whether this process writes files and messages: the first one, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def barrier() -> None:
    """Wait for all processes."""
    import torch

    if in_process_group():
        torch.distributed.barrier()


def set_device() -> None:
    """Use this process's accelerator, or its share of the processor's threads."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ["LOCAL_WORLD_SIZE"])))


def launch(devices: Devices, function: Callable[..., None], *arguments: Any) -> None:
    """Call `function` in each of `devices.processes` forks of this process, and wait for all.

    Raises:
        AdaptbenchError: one of them failed; this is its message.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from adaptbench.errors import Interrupted

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices.processes,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        start_method="fork",
        logs_specs=DefaultLogsSpecs(),
        shutdown_timeout=SECONDS_TO_SAVE,
    )
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the error is reported below, once
    try:
        elastic_launch(config, _work)(function, *arguments)
    except SignalException as error:
        raise Interrupted(f"stopped by {error.sigval.name}; run again to go on from the last checkpoint") from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        said = failure.message
        if isinstance(said, Mapping):
            name, _, text = said["message"].partition(": ")
            if name == AdaptbenchError.__name__:
                raise AdaptbenchError(text) from None
            print(said["extraInfo"]["py_callstack"], file=sys.stderr)
            said = said["message"]
        raise AdaptbenchError(f"process {rank} of {devices.processes} failed: {said}") from None


def _work(function: Callable[..., None], *arguments: Any) -> None:
    """Run the function in one of the processes, and record an error for the launcher."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    os.environ[LAUNCHED] = "1"
    try:
        function(*arguments)
    except Exception as error:
        said = user_message(error, arguments[-1])
        get_error_handler().record_exception(AdaptbenchError(said) if said else error)
        os._exit(1)


def shard(whole: "torch.nn.Module", model: Any, optimizers: "Sequence[torch.optim.Optimizer]", device: Any) -> None:
    """Shard `whole`, the ObjectiveModule of `model`, over all processes (FSDP2).

    Each decoder layer is one group, the rest another. The optimizers then hold the sharded parameters.

    Raises:
        AdaptbenchError: only some rows of a parameter train, which shards do not know.
    """
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from adaptbench.model.expansion import decoder_layers

    if any(hasattr(p, "trained_rows") for p in model.parameters()):
        raise AdaptbenchError("devices.strategy: must be ddp where new tokens' rows of frozen embeddings train")
    before = {id(p): name for name, p in whole.named_parameters()}
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(whole, mesh=mesh)
    after = dict(whole.named_parameters())
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [after[before[id(p)]] for p in group["params"]]
        if hasattr(optimizer, "multipliers"):  # values by parameter that are not in param_groups
            optimizer.multipliers = {after[before[id(p)]]: values for p, values in optimizer.multipliers.items()}


def empty_copy(model: "torch.nn.Module") -> "torch.nn.Module":
    """Copy the model without its numbers, for `gather_full_model`."""
    import copy

    import torch

    empty = {id(p): torch.nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, empty)


def gather_full_model(model: "torch.nn.Module", empty: "torch.nn.Module", *, keep: bool) -> None:
    """Make the sharded `model` whole again with the modules of `empty`, in host memory: a device may not hold it.

    All processes must call this. Those without `keep` only send their shards.
    """
    import torch

    sharded = dict(model.named_parameters())
    for name, p in empty.named_parameters():
        values = full_tensor(sharded[name])
        if keep:
            torch.utils.swap_tensors(p, torch.nn.Parameter(values.detach().cpu(), p.requires_grad))
    if keep:
        vars(model).update(vars(empty))


def full_tensor(value: "torch.Tensor") -> "torch.Tensor":
    """Return the whole tensor, in every process."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def as_stored(value: "torch.Tensor", parameter: "torch.Tensor") -> "torch.Tensor":
    """Return `value` sharded like the parameter, if that is sharded."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    mesh = parameter.device_mesh
    return distribute_tensor(value.to(mesh.device_type), mesh, parameter.placements, src_data_rank=None)
