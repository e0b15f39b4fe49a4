"""Decoder layers through torch.compile while a stage trains, where the machine can.

Layers of one kind share what is compiled, so that a model's depth costs nothing, and only the layers are: the rest of a step is the
loss and the optimizer. Every shape has code of its own, whichever came first, and there is no silent way back to uncompiled layers
once training has begun: a resumed run computes in the same bits as an uninterrupted one.
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
"""Of layers and their inputs, that torch may keep code for; 8, its own limit, are few where some layers are frozen."""


@contextmanager
def compiled(model: "PreTrainedModel", rehearse: Callable[[], None], *, before: bool | None) -> Iterator[bool]:
    """The model's decoder layers are compiled inside the block. `rehearse`, a pass like those to come, is made first, so that most
    compiling is over when the block begins; if it fails (there is no C++ compiler, or no Triton on a GPU), that is said and the
    block gets False.

    Args:
        before: whether they were compiled in the earlier part of this training; None if there is none.

    Raises:
        AdaptbenchError: they were compiled before and cannot be now, or something that has to be compiled later cannot.
    """
    import torch._dynamo
    import torch._inductor.config

    if before is False:
        yield False
        return
    with ExitStack() as undo:
        # In this process: other jobs have the other cores.
        undo.enter_context(torch._inductor.config.patch(compile_threads=1))
        undo.enter_context(torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT))
        done = True
        try:
            if torch._dynamo.config.disable:
                raise AdaptbenchError("TORCH_COMPILE_DISABLE or TORCHDYNAMO_DISABLE is set")
            for layer in decoder_layers(model):
                undo.callback(setattr, layer, "_compiled_call_impl", None)  # what `compile` sets; it has no opposite
                layer.compile(dynamic=False, fullgraph=True)
            rehearse()
            forget_peak()
        except Exception as error:  # one of the model's own comes again without
            done = False
            undo.close()
            problem = f"training.compile: {_first_line(error)}"
            if before:
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
    """Layers compute as if they were not compiled: for passes of other shapes than training's."""
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield
