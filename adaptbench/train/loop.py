"""Trains a model: one loop for every stage of every method.

A stage brings a model whose trained parameters require gradients, optimizers, batches and an objective. The loop adds
schedules, clipping, accumulation, precision, logging, checkpoints and resuming. Accelerate places the model. Step k's
batch depends only on the seed and k. A checkpoint holds weights, optimizers, schedules and random state, so that a
resumed run ends in the same bits as an uninterrupted one (on a CPU).

`objective(model, batch)` returns the mean over the batch's trained tokens (plus penalties, if any). The loop weights
each micro-batch by its share of the step's trained tokens, so that accumulation over micro-batches or processes
changes only rounding.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adaptbench.config.training import Training
from adaptbench.data.packing import Packed
from adaptbench.errors import AdaptbenchError, Interrupted
from adaptbench.kernels import implementations
from adaptbench.model import forward
from adaptbench.train import attention, checkpoint, compiling, distributed, setup, step
from adaptbench.train.cost import peak_bytes
from adaptbench.train.hooks import Callback, Collate
from adaptbench.train.log import Log, StopSignal
from adaptbench.train.objectives import Objective
from adaptbench.train.optimizers import total_steps
from adaptbench.train.progress import Outcome, PositionCounter, Progress

if TYPE_CHECKING:
    import torch


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
    collate_rows: Collate | None = None,
    strategy: Literal["ddp", "fsdp"] = "ddp",
    compile_layers: bool = False,
) -> Outcome:
    """Train `model` in place.

    If this is one of several processes, all must call it with the same arguments. The first one writes. Under the
    strategy fsdp only the first one has the trained model afterwards.

    Args:
        work: the folder of log and checkpoint, which may be those of an interrupted training to resume.
        compile_layers: whether to compile the decoder's layers if possible. It is for objectives that make one pass of
            rows of one length.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the checkpoint is written.
        AdaptbenchError: the loss is not finite; or layers that were compiled before an interruption cannot be now.
    """
    from accelerate.utils import set_seed

    set_seed(seed)
    steps = total_steps(training, data)
    ready = setup.prepare(model, optimizers, training, steps, strategy)
    trainer = Trainer(ready, objective, training, steps, callback, folder=work, checkpoint_seconds=checkpoint_seconds)
    trainer.restore()
    trainer.batches = step.Batches(data, training, collate_rows, pad_id=pad_id, first=trainer.progress.step)
    return trainer.run(compile_layers)


class Trainer:
    """Makes the steps of one training and keeps its checkpoint and log. Call `restore`, set `batches`, then `run`."""

    batches: step.Batches

    def __init__(
        self, ready: setup.Setup, objective: Objective, training: Training, steps: int, callback: Callback | None,
        *, folder: Path, checkpoint_seconds: float,
    ) -> None:  # fmt: skip
        self.setup, self.objective, self.training = ready, objective, training
        self.steps, self.callback = steps, callback
        self.folder, self.checkpoint_seconds = folder, checkpoint_seconds
        self.progress = Progress()
        self.positions = PositionCounter(ready.model)
        self.stop = StopSignal()
        self.implementation = ""  # of attention
        self.compiled_before: bool | None = None  # None: this training begins here
        self.compiled = False
        self.log: Log | None = None

    def restore(self) -> None:
        """Go on from the checkpoint, if there is one."""
        saved = checkpoint.load(self.folder / "checkpoint", self.setup.model, self.setup.optimizers)
        if saved is not None:
            self.progress = Progress(**saved["counts"])
            implementations.merge_record(saved.get("kernels", {}))
            for schedule, state in zip(self.setup.schedules, saved["schedules"], strict=True):
                schedule.load_state_dict(state)
            if self.callback is not None:
                self.callback.restore(saved["callback"])
            self.compiled_before = saved.get("compiled", False)
            self.implementation = saved.get("attention") or ""
        self.seconds_before = self.progress.seconds

    def save(self) -> None:
        """Write the checkpoint. All processes must call this."""
        self.progress.seconds = self._seconds()
        self.progress.peak_bytes = max(self.progress.peak_bytes, peak_bytes())
        state = {
            "counts": asdict(self.progress),
            "schedules": [schedule.state_dict() for schedule in self.setup.schedules],
            "callback": self.callback.state() if self.callback else None,
            "compiled": self.compiled,
            "attention": self.implementation,
            "kernels": implementations.recorded(),
        }
        write = self.setup.accelerator.is_main_process
        checkpoint.save(self.folder / "checkpoint", self.setup.model, self.setup.optimizers, state, write=write)

    def run(self, compile_layers: bool) -> Outcome:
        """Make all steps that are left."""
        main = self.setup.accelerator.is_main_process
        self.log = Log(self.folder / "training.jsonl", self.steps, self.progress.step) if main else None
        self.setup.module.train()
        began = time.monotonic()
        with self._ready(compile_layers) as self.compiled:
            self.started = last_saved = time.monotonic()
            if compile_layers and not self.compiled and self.stop.received:  # it may have ended the compiler, too
                raise Interrupted(f"stopped by {self.stop.received} before the first step; run again")
            logged = self._start_callback()
            while self.progress.step < self.steps:
                stopped, save = self._step(logged, last_saved)
                logged = {}
                if self.progress.step == self.steps:
                    break
                if stopped:
                    self.save()
                    raise Interrupted(
                        f"stopped by {self.stop.received or 'a signal'} after step {self.progress.step}"
                        f" of {self.steps}; run again to go on from there"
                    )
                if save:
                    self.save()
                    last_saved = time.monotonic()
        if self.log:
            self.log.close()
        if self.setup.empty is not None:
            distributed.gather_full_model(self.setup.model, self.setup.empty, keep=main)
        return self._outcome(compile_seconds=self.started - began)

    @contextmanager
    def _ready(self, compile_layers: bool) -> Iterator[bool]:
        """Receive signals, choose the attention, compile layers and count positions inside the block.

        Yields:
            Whether the layers are compiled.
        """
        ready = self.setup
        rows_per_device = self.training.micro_batch_size or math.ceil(
            self.training.batch_size / ready.accelerator.num_processes
        )
        self.implementation = self.implementation or attention.choose_attention(
            ready.model, self.training, rows_per_device, ready.accelerator.device
        )
        # The models that a loss compares must not differ in how they attend.
        models = (ready.model, *getattr(self.objective, "forward_only", ()))
        layers: AbstractContextManager[bool] = nullcontext(False)
        if compile_layers:
            layers = compiling.compiled(ready.model, self._warm_up, compiled_before=self.compiled_before)
        with (
            self.stop,
            forward.attention_implementation(models, self.implementation),
            layers as compiled,
            self.positions,
        ):
            yield compiled

    def _warm_up(self) -> None:
        step.warm_up(self.setup, self.objective, self.batches)

    def _start_callback(self) -> dict[str, float]:
        start = getattr(self.callback, "start", None)
        with self._uncompiled():
            return start(self.progress.step, self.steps, self.setup.module) if start else {}

    def _uncompiled(self) -> AbstractContextManager[None]:
        return compiling.uncompiled() if self.compiled else nullcontext()

    def _step(self, logged: dict[str, float], last_saved: float) -> tuple[bool, bool]:
        """Make one step and log it, with the values in `logged`.

        Returns:
            Whether a process was asked to stop, and whether it is time for a checkpoint: the same in all processes.

        Raises:
            AdaptbenchError: the loss or the norm of the gradient is not finite.
        """
        import torch

        accelerator, progress = self.setup.accelerator, self.progress
        batches = self.batches.take(accelerator.process_index, accelerator.num_processes)
        loss_sum, labelled = step.backward(self.setup, self.objective, batches)
        norm, rate = step.update(self.setup, self.training.max_grad_norm)
        with self._uncompiled():
            logged |= self.callback.after_step(progress.step + 1, self.setup.module) if self.callback else {}
        # The loss is scaled so that its mean over processes is the step's. The first process decides about the
        # checkpoint.
        due = accelerator.is_main_process and time.monotonic() - last_saved >= self.checkpoint_seconds
        here = [float(self.positions.take()), float(bool(self.stop.received)), float(due)]
        summed = accelerator.reduce(torch.cat([loss_sum[None], loss_sum.new_tensor(here)]), "sum").tolist()
        progress.step += 1
        progress.tokens += int(summed[1])
        progress.trained_tokens += labelled
        progress.loss = summed[0] / accelerator.num_processes
        for what, value in (("loss", progress.loss), ("norm of the gradient", float(norm))):
            if not math.isfinite(value):  # with such a norm, clipping has made every gradient zero
                raise AdaptbenchError(f"step {progress.step}: the {what} is {value}; lower training.learning_rate")
        if self.log:
            values = {"loss": progress.loss, "learning_rate": rate, "grad_norm": float(norm), "tokens": progress.tokens}
            self.log.write(progress.step, **values, **logged)
        return bool(summed[2]), bool(summed[3])

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def _outcome(self, compile_seconds: float) -> Outcome:
        return Outcome(
            steps=self.steps,
            tokens=self.progress.tokens,
            trained_tokens=self.progress.trained_tokens,
            train_seconds=round(self._seconds(), 3),
            peak_bytes=max(self.progress.peak_bytes, peak_bytes()),
            final_loss=self.progress.loss,
            compiled=self.compiled,
            compile_seconds=round(compile_seconds, 3),
            attention=self.positions.attention,
        )
