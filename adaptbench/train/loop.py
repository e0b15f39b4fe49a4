"""The training loop: one for every stage of every method.

A stage brings a model whose trained parameters require gradients, an optimizer, batches and an objective; the loop knows
schedules, clipping, accumulation, precision, logging, checkpoints and resuming. Accelerate places the model. Step k's batch depends only on the seed and k, and a checkpoint holds weights, optimizer, schedule and
random state, so that a resumed run ends in the same bits as an uninterrupted one (on CPU).

Objective: `objective(model, batch)` returns the mean over the batch's trained tokens (plus penalties, if any). The loop
weights each micro-batch by its share of the step's trained tokens, so that accumulation over micro-batches or processes
changes nothing but rounding.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adaptbench.config import validate
from adaptbench.config.schema import Devices
from adaptbench.config.training import Training
from adaptbench.data.packing import IGNORED, Example, Packed
from adaptbench.errors import AdaptbenchError, Interrupted
from adaptbench.kernels import implementations
from adaptbench.model import forward
from adaptbench.train import checkpoint, compiling, distributed
from adaptbench.train.attention import choose_attention, precision
from adaptbench.train.cost import peak_bytes
from adaptbench.train.hooks import Callback
from adaptbench.train.log import Log, StopSignal
from adaptbench.train.objectives import Batch, Objective
from adaptbench.train.optimizers import schedule_of, total_steps

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Outcome:
    """What a stage cost.

    `tokens` are positions put through the decoder, padding included; an objective with several passes counts each of
    them. `trained_tokens` had a label. `compiled` is whether the layers were, `compile_seconds` what that took before the first step,
    `attention` transformers' name of how the last pass attended.
    """

    steps: int
    tokens: int
    trained_tokens: int
    train_seconds: float
    peak_bytes: int
    final_loss: float
    compiled: bool = False
    compile_seconds: float = 0.0
    attention: str = ""


class _Positions:
    """Counts the positions that go through the model's decoder, whatever the objective does with it, and sees how it attends."""

    def __init__(self, model: "torch.nn.Module") -> None:
        self.decoder = model.get_decoder()
        self.count = 0
        self.attention = ""

    def __enter__(self) -> None:
        self.hook = self.decoder.register_forward_pre_hook(self._seen, with_kwargs=True)

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def _seen(self, _: Any, positional: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        inputs = named.get("inputs_embeds")
        if inputs is None:
            inputs = named["input_ids"] if "input_ids" in named else positional[0]
        self.count += inputs.shape[0] * inputs.shape[1]
        self.attention = self.decoder.config._attn_implementation

    def take(self) -> int:
        """The positions since the last call."""
        count, self.count = self.count, 0
        return count


def train(
    model: "torch.nn.Module",
    optimizers: "Sequence[torch.optim.Optimizer]",
    data: Packed,
    objective: Objective,
    training: Training,
    *,
    work: Path,
    pad_id: int,
    seed: int,
    checkpoint_seconds: float = 60.0,
    callback: Callback | None = None,
    collate_rows: Callable[..., Batch] | None = None,
    strategy: Literal["ddp", "fsdp"] = "ddp",
    compile_layers: bool = False,
) -> Outcome:
    """Train `model` in place; `work` holds the log and the checkpoint and may hold those of an interrupted run.

    Where this is one of several processes all must call it with the same arguments; the first one writes, and under the
    `strategy` fsdp it alone has the trained model. With `compile_layers` the decoder's layers go through torch.compile if they can, which is for
    objectives that make one pass of rows of one length; compiling for the first of them is no part of `train_seconds`.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the checkpoint is written.
        AdaptbenchError: the loss is not a number; or layers that were compiled before an interruption cannot be now.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    set_seed(seed)
    accelerator = Accelerator(
        mixed_precision="bf16" if precision(training) == "bfloat16" else "no",
        cpu=distributed.in_process_group()
        and not torch.cuda.is_available(),  # else Accelerate takes no heed of other processes there
    )
    devices = Devices(processes=accelerator.num_processes, strategy=strategy)  # as they are, whoever started them
    if problem := validate.training_problem(devices, training):
        raise AdaptbenchError(problem)
    if training.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    steps = total_steps(training, data)
    schedules = [schedule_of(optimizer, training, steps) for optimizer in optimizers]
    prepared = distributed.pass_of(model)
    if devices.sharded:
        empty = distributed.empty_copy(model)
        distributed.shard(prepared, model, optimizers, accelerator.device)
        wrapped = [accelerator.prepare(optimizer) for optimizer in optimizers]
    else:
        prepared, *wrapped = accelerator.prepare(prepared, *optimizers)
    trained = [p for p in prepared.parameters() if p.requires_grad]

    folder = work / "checkpoint"
    passed = _Positions(model)
    counts = {"step": 0, "tokens": 0, "trained_tokens": 0, "seconds": 0.0, "peak_bytes": 0, "loss": math.nan}
    saved = checkpoint.load(folder, model, optimizers)
    if saved is not None:
        counts |= saved["counts"]
        implementations.add(saved.get("kernels", {}))
        for schedule, state in zip(schedules, saved["schedules"], strict=True):
            schedule.load_state_dict(state)
        if callback is not None:
            callback.restore(saved["callback"])
    rows_of_step = data.batches(training.batch_size, first=int(counts["step"]))

    def parts_of(rows: Sequence[Sequence[Example]]) -> list[Batch]:
        size = training.micro_batch_size or len(rows)
        parts = [rows[i : i + size] for i in range(0, len(rows), size)]
        return [collate_rows(p, data.length, pad_id) if collate_rows else data.collate(p, pad_id) for p in parts]

    def placed(part: Batch) -> Batch:
        return {name: tensor.to(accelerator.device) for name, tensor in part.items()}

    def rehearse() -> None:
        """Forward and back once, leaving nothing."""
        nonlocal rows_of_step
        rows = next(rows_of_step)
        rows_of_step = chain([rows], rows_of_step)
        try:
            with torch.random.fork_rng(), accelerator.autocast():
                accelerator.backward(prepared(objective, placed(parts_of(rows)[0])))
        finally:
            prepared.zero_grad(set_to_none=True)

    log = Log(work / "training.jsonl", steps, int(counts["step"])) if accelerator.is_main_process else None
    stop = StopSignal()
    prepared.train()
    seconds_before = counts["seconds"]

    def save() -> None:
        counts["seconds"] = seconds_before + time.monotonic() - started
        counts["peak_bytes"] = max(counts["peak_bytes"], peak_bytes())
        state = {
            "counts": counts,
            "schedules": [schedule.state_dict() for schedule in schedules],
            "callback": callback.state() if callback else None,
            "compiled": compiled,
            "attention": by,
            "kernels": implementations.so_far(),
        }
        checkpoint.save(folder, model, optimizers, state, write=accelerator.is_main_process)

    began = time.monotonic()
    before = saved.get("compiled", False) if saved else None
    layers = compiling.compiled(model, rehearse, before=before) if compile_layers else nullcontext(False)
    rows = training.micro_batch_size or math.ceil(training.batch_size / accelerator.num_processes)
    by = (saved or {}).get("attention") or choose_attention(model, training, rows, accelerator.device)
    alike = (model, *getattr(objective, "forward_only", ()))  # what a loss compares must not differ by how it attends
    with stop, forward.attention_implementation(alike, by), layers as compiled, passed:
        started = last_saved = time.monotonic()
        if compile_layers and not compiled and stop.received:  # it may have ended the compiler, too
            raise Interrupted(f"stopped by {stop.received} before the first step; run again")
        start = getattr(callback, "start", None)
        with compiling.uncompiled() if compiled else nullcontext():
            more = start(int(counts["step"]), steps, prepared) if start else {}
        while counts["step"] < steps:
            parts = parts_of(next(rows_of_step)[accelerator.process_index :: accelerator.num_processes])
            labelled = [int((part["labels"][:, 1:] != IGNORED).sum()) for part in parts]
            step_labelled = int(accelerator.reduce(torch.tensor(sum(labelled), device=accelerator.device), "sum"))
            loss_sum = torch.zeros((), device=accelerator.device)
            for i, (part, count) in enumerate(zip(parts, labelled, strict=True)):
                last = i == len(parts) - 1
                # Sharded gradients are reduced after each part: kept until the last one, they are whole on every device.
                with (
                    nullcontext() if last or devices.sharded else accelerator.no_sync(prepared),
                    accelerator.autocast(),
                ):
                    # Gradients are averaged over processes, so each one's share counts num_processes times.
                    loss = prepared(objective, placed(part)) * (count * accelerator.num_processes / step_labelled)
                    accelerator.backward(loss)
                loss_sum += loss.detach()
            norm = distributed.full_tensor(accelerator.clip_grad_norm_(trained, training.max_grad_norm))
            rate = optimizers[0].param_groups[0]["lr"]
            for optimizer, schedule in zip(wrapped, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)

            with compiling.uncompiled() if compiled else nullcontext():
                more |= callback.after_step(int(counts["step"]) + 1, prepared) if callback else {}
            # Of every process: the loss is scaled so that its mean is the step's, the positions add up; all stop together if one is
            # asked to, and save together when the first one's time has come.
            due = accelerator.is_main_process and time.monotonic() - last_saved >= checkpoint_seconds
            own = [float(passed.take()), float(bool(stop.received)), float(due)]
            over_all = torch.cat([loss_sum[None], loss_sum.new_tensor(own)])
            step_loss, step_tokens, stops, dues = accelerator.reduce(over_all, "sum").tolist()
            counts["step"] += 1
            counts["tokens"] += int(step_tokens)
            counts["trained_tokens"] += step_labelled
            counts["loss"] = step_loss / accelerator.num_processes
            if not math.isfinite(counts["loss"]):
                raise AdaptbenchError(
                    f"step {counts['step']}: the loss is {counts['loss']}; lower training.learning_rate"
                )
            if not math.isfinite(norm):  # clipping has made every gradient zero
                raise AdaptbenchError(
                    f"step {counts['step']}: the norm of the gradient is {float(norm)}; lower training.learning_rate"
                )
            if log:
                log.write(
                    int(counts["step"]),
                    loss=counts["loss"],
                    learning_rate=rate,
                    grad_norm=float(norm),
                    tokens=counts["tokens"],
                    **more,
                )
            more = {}
            if stops and counts["step"] < steps:
                save()
                raise Interrupted(
                    f"stopped by {stop.received or 'a signal'} after step {counts['step']} of {steps}; run again to go on from there"
                )
            if dues and counts["step"] < steps:
                save()
                last_saved = time.monotonic()
    if log:
        log.close()
    if devices.sharded:
        distributed.gather_full_model(model, empty, keep=accelerator.is_main_process)
    return Outcome(
        steps=steps,
        tokens=int(counts["tokens"]),
        trained_tokens=int(counts["trained_tokens"]),
        train_seconds=round(seconds_before + time.monotonic() - started, 3),
        peak_bytes=max(int(counts["peak_bytes"]), peak_bytes()),
        final_loss=counts["loss"],
        compiled=compiled,
        compile_seconds=round(started - began, 3),
        attention=passed.attention,
    )
