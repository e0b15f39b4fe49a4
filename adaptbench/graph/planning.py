"""Commands on presets before anything runs: check them, and estimate what they need."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from adaptbench.config import overrides
from adaptbench.graph import estimate_text, model_size, nodes, surroundings, unfolding


def check(presets: Sequence[Path], config: Sequence[str]) -> str:
    """Return one line for each preset, with `config` as on Snakemake's command line.

    Raises:
        AdaptbenchError: a preset is invalid.
    """
    return "\n".join(
        f"{preset}: a preset of {len(graph.evaluations)} runs in {len(graph.nodes)} stages"
        for preset, graph in zip(presets, _graphs(presets, config), strict=True)
    )


def estimates(presets: Sequence[Path], config: Sequence[str], **assumed: Any) -> str:
    """Return what `make plan` prints of the presets; `assumed` are fields of `estimate.Assumptions`.

    Raises:
        AdaptbenchError: a preset is invalid, or the size of a base is unknown.
    """
    assumptions = model_size.Assumptions(**assumed)
    return "\n".join(estimate_text.report(graph, assumptions) for graph in _graphs(presets, config))


def add_assumptions(parser: argparse.ArgumentParser) -> None:
    """Add an option for each assumption of an estimate."""
    for one in fields(model_size.Assumptions):
        name, kind = f"--{one.name.replace('_', '-')}", int if isinstance(one.default, int) else float
        parser.add_argument(name, type=_positive(kind), default=one.default, help="default: %(default)g")


def _graphs(presets: Sequence[Path], config: Sequence[str]) -> Iterator[nodes.Graph]:
    changes = overrides.of_entries(config)
    for preset in presets:
        yield unfolding.unfold(surroundings.load_preset(changes, [preset]))


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """Return a parser of positive numbers for argparse."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a {'whole ' * (kind is int)}number, not {text!r}") from None
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError("must be > 0")
        return value

    return read
