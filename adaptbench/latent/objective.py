"""The loss of a batch that holds latents, by one of the ways through it."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from adaptbench.contracts import StrictModel
from adaptbench.latent import passes
from adaptbench.latent.fusion import Fusion
from adaptbench.packing import IGNORED

if TYPE_CHECKING:
    import torch


class Forward(StrictModel):
    """How training goes through latents: exactly, or nearly and all at once."""

    way: Literal["wavefront", "jacobi", "naive"] = Field("wavefront", description="naive is the slow reference")
    iterations: int = Field(2, ge=1, description="of jacobi: exact for the first so many latents of a sample")


def latent_loss(forward: Forward, fusion: Fusion, latent_id: int):
    """An objective: mean next-token cross-entropy (nats) over the labelled tokens of samples that lie one in a row."""

    def loss(model, batch) -> "torch.Tensor":
        import torch

        options = {"iterations": forward.iterations} if forward.way == "jacobi" else {}
        way: passes.Way = getattr(passes, forward.way)
        passed = way(model, batch["input_ids"], batch["lengths"], latent_id, fusion, **options)
        targets = batch["labels"][:, 1:]
        trained = targets != IGNORED
        logits = passes.logits_of(model, passed.hidden[:, :-1][trained])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return torch.nn.functional.cross_entropy(logits, targets[trained])

    return loss
