"""Reads papers' files and checks what they name."""

from pathlib import Path

from pydantic import ValidationError

from adaptbench import registry
from adaptbench.config import yaml_text
from adaptbench.errors import AdaptbenchError, reason
from adaptbench.report.paper import names
from adaptbench.report.paper.source import Paper


def load(path: Path, track: str) -> Paper:
    """Read and check one file.

    Raises:
        AdaptbenchError: not YAML, not valid, or it names what neither the paper's numbers nor the project have.
    """
    try:
        paper = Paper.model_validate(yaml_text.read(path))
    except ValidationError as error:
        raise AdaptbenchError(f"{path}: {reason(error)}") from None
    problem = names.problem(paper, track)
    if problem:
        raise AdaptbenchError(f"{path}: {problem}")
    return paper


def files(root: Path | None = None) -> list[tuple[str, Path]]:
    """All papers' tracks and files."""
    folder = (root or registry.project_root()) / "benchmarks"
    return [(track, path) for track in registry.tracks() for path in sorted(folder.glob(f"{track}/papers/*.yaml"))]
