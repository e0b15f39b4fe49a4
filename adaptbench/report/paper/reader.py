"""Read papers' files and check the names in them."""

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
        AdaptbenchError: the file is not YAML, not valid, or has a name that neither the paper's numbers nor the project
        know.
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
    """Return the track and the file of every paper."""
    folder = (root or registry.project_root()) / "benchmarks"
    return [(track, path) for track in registry.tracks() for path in sorted(folder.glob(f"{track}/papers/*.yaml"))]
