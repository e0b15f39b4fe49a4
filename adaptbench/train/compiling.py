"""Compiles decoder layers with torch.compile while a stage trains, where the machine can.

Layers of one kind share compiled code, so that a model's depth costs nothing. Only layers are compiled: the rest of a
step is the loss and the optimizer. Every shape is compiled separately, in whatever order shapes come, and training
never falls back silently to uncompiled layers once it has begun: a resumed run computes the same bits as an
uninterrupted one.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from adaptbench.errors import AdaptbenchError
from adaptbench.model.expansion import decoder_layers
from adaptbench.train.cost import forget_peak

if TYPE_CHECKING:
    from transformers import PreTrainedModel


RECOMPILE_LIMIT = 64
"""torch's default of 8 is too low when some layers are frozen."""


@contextmanager
def compiled(model: "PreTrainedModel", warm_up: Callable[[], None], *, compiled_before: bool | None) -> Iterator[bool]:
    """Compile the model's decoder layers inside the block; yield whether they are compiled.

    If compiling fails (there is no C++ compiler, or no Triton on a GPU), a message says so and the block runs
    uncompiled.

    Args:
        warm_up: makes a pass like those of the block, so that most compiling is over when the block begins.
        compiled_before: whether layers were compiled in the earlier part of this training; None if there is none.

    Raises:
        AdaptbenchError: layers were compiled before and cannot be now, or a later shape cannot be compiled.
    """
    import torch._dynamo
    import torch._inductor.config

    if compiled_before is False:
        yield False
        return
    with ExitStack() as undo:
        # Compile in this process: other jobs use the other cores.
        undo.enter_context(torch._inductor.config.patch(compile_threads=1))
        undo.enter_context(torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT))
        done = True
        try:
            if torch._dynamo.config.disable:
                raise AdaptbenchError("TORCH_COMPILE_DISABLE or TORCHDYNAMO_DISABLE is set")
            for layer in decoder_layers(model):
                undo.callback(setattr, layer, "_compiled_call_impl", None)  # what `compile` sets; it has no opposite
                layer.compile(dynamic=False, fullgraph=True)
            warm_up()
            forget_peak()
        except Exception as error:  # an error of the model itself occurs again without compiling
            done = False
            undo.close()
            problem = f"training.compile: {_first_line(error)}"
            if compiled_before:
                raise AdaptbenchError(
                    f"{problem}; this training began with compiled layers and goes on with them alone"
                ) from error
            print(f"{problem}; going on uncompiled", file=sys.stderr, flush=True)
        try:
            yield done
        except torch._dynamo.exc.TorchDynamoException as error:
            raise AdaptbenchError(f"training.compile: {_first_line(error)}; set it to false") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]  # after "backend='inductor' raised:"


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run layers uncompiled inside the block: for passes of other shapes than training's."""
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield
