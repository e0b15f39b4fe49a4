"""Decoder layers through torch.compile while a stage trains, where the machine can.

Layers of one kind share what is compiled, so that a model's depth costs nothing, and only the layers are: the rest of a step is the
loss and the optimizer. Every shape has its own code and what another process compiled is read from torch's cache, so that a
resumed run computes in the same bits as an uninterrupted one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MODULES = ("torch._dynamo", "torch._inductor.compile_fx")
"""What importing takes seconds, for the process that imports it once for all jobs."""


@contextmanager
def compiled(model: "torch.nn.Module", once: Callable[[], None]) -> Iterator[bool]:
    """The model's decoder layers are compiled inside the block. `once`, a pass like those to come, is made first, so that compiling
    is over when the block begins; if it fails (there is no C++ compiler, or no Triton on a GPU), that is said and the block gets False.
    """
    import torch
    import torch._dynamo
    import torch._inductor.config

    layers = list(getattr(model.get_decoder(), "layers", ()))
    done = bool(layers)
    # In this process: other jobs have the other cores.
    with torch._inductor.config.patch(compile_threads=1):
        for layer in layers:
            layer.compile(dynamic=False)
        try:
            try:
                once()
            except Exception as error:  # one of the model's own comes again without
                said = str(error).strip().splitlines() or [type(error).__name__]
                print(f"training.compile: {said[0]}; going on uncompiled", flush=True)
                _undo(layers)
                done = False
            yield done
        finally:
            _undo(layers)


def _undo(layers: "list[torch.nn.Module]") -> None:
    for layer in layers:
        layer._compiled_call_impl = None  # what Module.compile sets; it has no opposite


@contextmanager
def uncompiled() -> Iterator[None]:
    """Layers compute as if they were not compiled: for passes of other shapes than training's."""
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield
