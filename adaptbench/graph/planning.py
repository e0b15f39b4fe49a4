"""What can be said of presets before anything runs: what is wrong with them, and what they will take."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from adaptbench.config import overrides
from adaptbench.graph import estimate_text, model_size, nodes, surroundings, unfolding


def check(presets: Sequence[Path], config: Sequence[str]) -> str:
    """Return a line a preset, with `config` as on Snakemake's command line.

    Raises:
        AdaptbenchError: what is wrong with the first that is wrong.
    """
    return "\n".join(
        f"{preset}: a preset of {len(unfolded.evaluations)} runs in {len(unfolded.nodes)} stages"
        for preset, unfolded in zip(presets, _unfolded(presets, config), strict=True)
    )


def estimates(presets: Sequence[Path], config: Sequence[str], **assumed: Any) -> str:
    """Return what `make plan` prints of the presets; `assumed` are fields of `estimate.Assumptions`.

    Raises:
        AdaptbenchError: as `check`, or nothing says how large a base is.
    """
    assumptions = model_size.Assumptions(**assumed)
    return "\n".join(estimate_text.report(unfolded, assumptions) for unfolded in _unfolded(presets, config))


def add_assumptions(parser: argparse.ArgumentParser) -> None:
    """Add an option for each assumption of an estimate."""
    for one in fields(model_size.Assumptions):
        name, kind = f"--{one.name.replace('_', '-')}", int if isinstance(one.default, int) else float
        parser.add_argument(name, type=_positive(kind), default=one.default, help="default: %(default)g")


def _unfolded(presets: Sequence[Path], config: Sequence[str]) -> Iterator[nodes.Graph]:
    changes = overrides.of_entries(config)
    for preset in presets:
        yield unfolding.unfold(surroundings.preset(changes, [preset]))


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a {'whole ' * (kind is int)}number, not {text!r}") from None
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError("must be > 0")
        return value

    return read
