"""Measure whether a model can decode from embeddings and with latents, by some twenty short forward passes.

They are compared with the plain model, which reads tokens, one row at a time, without a cache. If a formula is wrong,
the results differ by far; if it is right, by rounding. So weights are in float32: in 16 bits, rounding alone may make a
router choose another expert.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from adaptbench.data.padding import padded
from adaptbench.errors import AdaptbenchError
from adaptbench.latent import passes
from adaptbench.latent.cached import Cached
from adaptbench.latent.embeddings import run_decoder
from adaptbench.latent.fusion import Fusion
from adaptbench.model.temporary import evaluated

if TYPE_CHECKING:
    import torch

LENGTHS = (17, 10, 13)  # tokens of the rows; a small model's window is shorter
LATENTS = ((3, 4), (), (6,))  # where rows have latents
STEPS = (
    (1, "with its cache it makes other logits than without"),
    (2, "of two tokens at once it makes other logits than of one after another"),
    (1, "it makes other logits after a row has left its cache"),
)
TOLERANCE = 3e-4  # relative to the largest number; ten times the rounding error of small models


def measure(model: Any, names: Sequence[str] = ("embeddings", "latents", "wavefront")) -> dict[str, str]:
    """Return why the model lacks each capability (see adaptbench/model/capabilities.py); empty if it has it."""
    import torch

    with _in_float32(model), torch.no_grad():
        measured = _Measured(model)
        return {name: _why(getattr(measured, name)) for name in names}


@contextmanager
def _in_float32(model: Any) -> Iterator[None]:
    """Put the model in evaluation mode with float32 weights; restore it exactly at the end."""
    tensors = [one for one in (*model.parameters(), *model.buffers()) if one.is_floating_point()]
    short = [(one, one.dtype) for one in tensors if one.element_size() < 4]
    for tensor, _ in short:
        tensor.data = tensor.data.float()
    try:
        with evaluated(model):
            yield
    finally:
        for tensor, dtype in short:
            tensor.data = tensor.data.to(dtype)


def check_supported(model: Any, needed: Sequence[str], wanted: Sequence[str] = ()) -> dict[str, str]:
    """Return which of the `wanted` capabilities the model lacks, and why.

    Raises:
        AdaptbenchError: it lacks one of the `needed`.
    """
    lacking = {name: why for name, why in measure(model, (*needed, *wanted)).items() if why}
    for name in needed:
        if why := lacking.get(name):
            raise AdaptbenchError(f"base.model: {type(model).__name__} lacks {name}, which this method needs: {why}")
    return lacking


class _LacksError(Exception):
    """A missing capability; the message says why in a short clause."""


def _why(check: Callable[[], None]) -> str:
    try:
        check()
    except _LacksError as lack:
        return str(lack)
    except Exception as error:  # an architecture's code may raise anything for inputs it does not expect
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    return ""


class _Measured:
    """A model, and the reference results that several checks share."""

    def __init__(self, model: Any) -> None:
        self.model = model
        many = model.config.get_text_config().vocab_size - 3
        self.tokens = [[3 + (5 * row + 7 * place) % many for place in range(size)] for row, size in enumerate(LENGTHS)]

    def embeddings(self) -> None:
        """Check that rows read from embeddings, as a batch and with a cache, give the plain model's logits."""
        import torch

        self._check_reading()
        rows = list(range(len(LENGTHS)))
        places = [size - sum(count for count, _ in STEPS) for size in LENGTHS]  # how many have been read
        beginnings = [tokens[:place] for tokens, place in zip(self.tokens, places, strict=True)]
        cached = Cached(self.model, beginnings, pad_id=0)
        self._check_last(cached, rows, places, "rows padded on the left make other logits than alone")
        for count, lack in STEPS:
            if lack == STEPS[-1][1] and cached.keep(rows[1:]):
                rows = rows[1:]
            for size in [count] if cached.takes_several else [1] * count:
                following = [self.tokens[row][places[row] : places[row] + size] for row in rows]
                cached.read(self._embedded(torch.tensor(following)))
                places = [place + size for place in places]
            self._check_last(cached, rows, places, lack)

    def latents(self) -> None:
        """Check that latents follow their definition, and that all ways through rows with latents agree."""
        self._check_reading()
        likeliest = self.logits[0][:, 1:].argmax(-1) + 1
        mixed = passes.latents_after(self.model, self.states, 0, Fusion(alpha=0.0, nucleus="top_k", top_k=1))
        _check(mixed, self._embedded(likeliest), "it embeds a prediction in a way that is not known")
        _check(
            self._pass(passes.jacobi), self.exact, "latents depend on the rows beside them, or on what is after them"
        )
        hidden = self._pass(passes.jacobi, [()] * len(LENGTHS))
        for row, logits in zip(hidden, self.logits, strict=True):
            ours = passes.logits_of(self.model, row[: len(logits)])
            _check(ours, logits, "rows padded on the right make other logits than alone")

    def wavefront(self) -> None:
        """Check that pieces of rows, run one after another, give the states of whole rows."""
        try:
            found = self._pass(passes.wavefront)
        except AdaptbenchError:
            raise _LacksError("it attends in a way that pieces cannot") from None
        except Exception as error:
            raise _LacksError(f"{type(error).__name__} in its layers") from None
        _check(found, self.exact, "its layers cannot go on from pieces")

    @cached_property
    def logits(self) -> "list[torch.Tensor]":
        """Return the plain model's logits of each row (tokens, vocabulary)."""
        import torch

        rows = (torch.tensor([tokens], device=self.model.device) for tokens in self.tokens)
        return [self.model(input_ids=ids, use_cache=False).logits[0] for ids in rows]

    @cached_property
    def states(self) -> "torch.Tensor":
        """Return the first row's states after the final norm (tokens, width), read from embeddings."""
        import torch

        states: torch.Tensor = run_decoder(self.model, self._embedded(torch.tensor(self.tokens[:1])), use_cache=False)[
            0
        ][0]
        return states

    @cached_property
    def exact(self) -> "torch.Tensor":
        """Return the states of rows with latents (rows, longest, width), computed one row and one latent at a time."""
        return self._pass(passes.naive)

    def _embedded(self, ids: "torch.Tensor") -> "torch.Tensor":
        vectors: torch.Tensor = self.model.get_input_embeddings()(ids.to(self.model.device))
        return vectors

    def _pass(self, way: passes.Way, latents: Sequence[Sequence[int]] = LATENTS) -> "torch.Tensor":
        """Return the states of the rows with latents at these places.

        The latents are made of states alone (alpha 1): by rounding, a nucleus may hold another token.
        """
        import torch

        rows = [
            [1 if i in its else token for i, token in enumerate(row)]
            for row, its in zip(self.tokens, latents, strict=True)
        ]
        ids, lengths = padded(rows, 0).to(self.model.device), torch.tensor(LENGTHS, device=self.model.device)
        return way(self.model, ids, lengths, 1, Fusion(alpha=1.0)).hidden

    def _check_reading(self) -> None:
        logits = passes.logits_of(self.model, self.states)
        _check(logits, self.logits[0], "it makes other logits of embeddings than of their tokens")

    def _check_last(self, cached: Cached, rows: Sequence[int], places: Sequence[int], lack: str) -> None:
        import torch

        wanted = torch.stack([self.logits[row][places[row] - 1] for row in rows])
        _check(passes.logits_of(self.model, cached.hidden), wanted, lack)


def _check(ours: "torch.Tensor", theirs: "torch.Tensor", lack: str) -> None:
    """Check that two tensors agree.

    Raises:
        _LacksError: they differ by more than rounding, or are not finite.
    """
    ours, theirs = ours.double(), theirs.double()
    if not bool((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()):
        raise _LacksError(lack)
