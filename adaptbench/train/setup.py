"""Places a model and its optimizers on the devices of a stage, before the first step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptbench.config import problems
from adaptbench.config.schema import Devices
from adaptbench.config.training import Training
from adaptbench.errors import AdaptbenchError
from adaptbench.train import attention, distributed
from adaptbench.train.optimizers import schedule_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Setup:
    """A model ready to train.

    Attributes:
        module: runs an objective as its forward pass, wrapped for DDP or sharded by FSDP2 if there are several
            processes.
        optimizers: those of the method; their parameters are sharded if the model is.
        wrapped: the same as Accelerate steps them.
        trained: the parameters of `module` that require gradients.
        empty: the model's modules without its numbers, for gathering a sharded model; else None.
    """

    accelerator: Any
    devices: Devices
    model: "torch.nn.Module"
    module: "torch.nn.Module"
    optimizers: "Sequence[torch.optim.Optimizer]"
    wrapped: Sequence[Any]
    schedules: "Sequence[torch.optim.lr_scheduler.LRScheduler]"
    trained: "Sequence[torch.nn.Parameter]"
    empty: "torch.nn.Module | None"


def prepare(
    model: "torch.nn.Module",
    optimizers: "Sequence[torch.optim.Optimizer]",
    training: Training,
    steps: int,
    strategy: Literal["ddp", "fsdp"],
) -> Setup:
    """Set up the accelerator, schedules of `steps` steps, and the wrapped or sharded model.

    Raises:
        AdaptbenchError: these processes cannot share such a training.
    """
    import torch
    from accelerate import Accelerator

    from adaptbench.train.objective_module import ObjectiveModule

    accelerator = Accelerator(
        mixed_precision="bf16" if attention.precision(training) == "bfloat16" else "no",
        # Without this Accelerate ignores the other processes on a machine without GPUs.
        cpu=distributed.in_process_group() and not torch.cuda.is_available(),
    )
    devices = Devices(processes=accelerator.num_processes, strategy=strategy)  # as they are, whoever started them
    if problem := problems.training_problem(devices, training):
        raise AdaptbenchError(problem)
    if training.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    schedules = [schedule_of(optimizer, training, steps) for optimizer in optimizers]
    module: torch.nn.Module = ObjectiveModule(model)
    empty = None
    if devices.sharded:
        empty = distributed.empty_copy(model)
        distributed.shard(module, model, optimizers, accelerator.device)
        wrapped = [accelerator.prepare(optimizer) for optimizer in optimizers]
    else:
        module, *wrapped = accelerator.prepare(module, *optimizers)
    trained = [p for p in module.parameters() if p.requires_grad]
    return Setup(accelerator, devices, model, module, optimizers, wrapped, schedules, trained, empty)
