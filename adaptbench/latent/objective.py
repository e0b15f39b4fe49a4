"""The training loss of a batch with latents."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from adaptbench.contracts import StrictModel
from adaptbench.data.packing import IGNORED
from adaptbench.latent import passes
from adaptbench.latent.fusion import Fusion

if TYPE_CHECKING:
    import torch


class Forward(StrictModel):
    """Options of forward passes through latents in training; see adaptbench/latent/passes.py for the ways."""

    way: Literal["wavefront", "jacobi", "naive"] = Field("wavefront", description="naive is the slow reference")
    iterations: int | None = Field(
        None, ge=1, description="of jacobi; default: the most latents of a sample in the batch, which is exact"
    )
    approximate: bool = Field(
        False, description="allow fewer iterations than a sample may have latents; later latents are then not exact"
    )

    @model_validator(mode="after")
    def _of_jacobi(self) -> "Forward":
        if self.iterations is not None and self.way != "jacobi":
            raise ValueError(f"iterations are of way: jacobi; {self.way} needs none")
        if self.approximate and self.iterations is None:
            raise ValueError("approximate: set iterations of way: jacobi besides; without them it is exact")
        return self

    def problem(self, latents: int) -> str:
        """Return why this is not exact for samples of up to `latents` latents; empty if it is, or need not be."""
        if self.approximate or self.iterations is None or self.iterations >= latents:
            return ""
        return (
            f"forward.iterations: must be >= {latents}, the latents that a sample may have; leave it out, or set "
            "forward.approximate: true"
        )

    def passes(self, batch_size: int, longest: float, lacks: Collection[str]) -> tuple[float, float]:
        """Return the sequential passes of a step, and how often all its tokens are processed, for estimates.

        A wavefront runs pieces that together are the step's tokens. Jacobi runs all tokens in each iteration, and the
        naive way all of each sample. See CurriculumConfig.forward_passes for the arguments.
        """
        if self.way == "jacobi" or (self.way == "wavefront" and "wavefront" in lacks):
            whole = self.iterations + 1.0 if self.iterations else longest
            return whole, whole
        return (batch_size * longest, longest) if self.way == "naive" else (longest, 1.0)


def latent_loss(forward: Forward, fusion: Fusion, latent_id: int):
    """Return an objective: the mean next-token cross-entropy (nats) over labelled tokens, one sample in a row.

    It leaves the model in evaluation mode, so that there is no dropout in passes through latents.
    """

    def loss(model, batch) -> "torch.Tensor":
        import torch

        passes.without_dropout(model)
        options = {"iterations": forward.iterations} if forward.way == "jacobi" else {}
        way: passes.Way = getattr(passes, forward.way)
        passed = way(model, batch["input_ids"], batch["lengths"], latent_id, fusion, **options)
        targets = batch["labels"][:, 1:]
        trained = targets != IGNORED
        logits = passes.logits_of(model, passed.hidden[:, :-1][trained])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return torch.nn.functional.cross_entropy(logits, targets[trained])

    return loss
