"""Measure the size of a preset's files, and remove those that nothing needs any more.

Snakemake does not repeat a missing stage unless a job that must run reads it.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adaptbench.errors import AdaptbenchError
from adaptbench.io import records

MB = 1e6
KINDS: Mapping[str, tuple[str, ...]] = {
    "data and tasks": ("data", "tasks"),
    "records of stages": ("records",),
    "runs: run.json, samples": ("runs",),
    "scores of all runs": ("collected", "collected-ablation"),
    "tables, figures, transcripts": ("tables", "figures", "transcripts"),
    "pages": ("index.html", "report.html", "report-ablation.html"),
    "plan and logs": ("plan", "logs"),
    "checkpoints of unfinished stages": ("work",),
}
"""The contents of results/<preset> besides the stages, by kind."""


def clean(root: Path, *, force: bool = False) -> str:
    """Remove intermediate models and work folders of finished stages from results/<preset>; return a summary.

    Intermediate models are those that no run is evaluated on and no unfinished run needs. With `force`, models of
    stages that the preset no longer has and checkpoints of unfinished stages are removed too.

    Raises:
        AdaptbenchError: no preset has run there, or Snakemake is running here.
    """
    if any(Path(".snakemake/locks").glob("*")):
        raise AdaptbenchError(
            "Snakemake is running in this folder; wait for its end (or `snakemake --unlock` if it was killed)"
        )
    runs = _planned_runs(root)
    planned = {node for run in runs for node in run["lineage"]}
    needed = {node for run in runs if not _is_done(root, run) for node in run["lineage"]}
    models = [model for model in _models(root) if model.name not in _scored(runs) | needed]
    removed_models = [model for model in models if model.name in planned or force]
    work = [path for path in (root / "work").glob("*") if path.is_dir()]
    finished = {path.name for path in (root / "stages").glob("*")} | (planned - needed)
    removed_work = [path for path in work if path.name.rpartition("-")[0] in finished or force]
    kept = [path for path in (*models, *work) if path not in (*removed_models, *removed_work)]
    summary = (
        f"removed: {_counted(removed_models, 'model')} between finished runs, {_counted(removed_work, 'work folder')}"
    )
    if kept:
        summary += f"\nleft: {_counted(kept, 'folder')} of unfinished stages or other options; FORCE=1 removes them"
    for model in removed_models:
        records.keep(model, root / "records" / model.name)
    for path in (*removed_models, *removed_work):
        shutil.rmtree(path)
    return summary


def usage(root: Path) -> str:
    """Return a Markdown table of the contents of results/<preset> in megabytes, and of what remains with `keep:
    scored`.

    Raises:
        AdaptbenchError: no preset has run there.
    """
    between = set(json.loads((root / "plan" / "between.json").read_text())) if _planned_runs(root) else set()
    stages = [path for path in (root / "stages").glob("*") if path.is_dir()]
    rows = [
        (
            "models that stay: scored, or shared with the ablation",
            [path for path in stages if path.name not in between],
            True,
        ),
        ("models between", [path for path in stages if path.name in between], False),
        *((name, [root / part for part in parts], True) for name, parts in KINDS.items()),
    ]
    sizes = [(name, _bytes(paths) / MB, stays) for name, paths, stays in rows]
    lines = ["| what | MB | with `keep: scored` |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {size:.1f} | {size * stays:.1f} |" for name, size, stays in sizes]
    total, remaining = sum(size for _, size, _ in sizes), sum(size * stays for _, size, stays in sizes)
    lines.append(f"| all | {total:.1f} | {remaining:.1f} |")
    return "\n".join(lines)


def _planned_runs(root: Path) -> list[dict[str, Any]]:
    planned = root / "plan" / "runs.json"
    if not planned.exists():
        raise AdaptbenchError(f"{root}: no preset has run here")
    return [json.loads((root / "plan" / name).read_text()) for name in json.loads(planned.read_text())]


def _is_done(root: Path, run: Mapping[str, Any]) -> bool:
    """Return True if the run has a result with the options of the current plan."""
    path = root / "runs" / run["track"] / run["run"] / f"seed{run['seed']}" / "run.json"
    try:
        return json.loads(path.read_text())["hash"] == run["hash"]
    except (OSError, ValueError, KeyError):
        return False


def _scored(runs: Iterable[Mapping[str, Any]]) -> set[str]:
    return {Path(run["model_directory"]).name for run in runs if run["model_directory"]}


def _models(root: Path) -> list[Path]:
    stages = (path for path in sorted((root / "stages").glob("*")) if not path.name.startswith("."))
    return [path for path in stages if any(path.rglob("*.safetensors"))]


def _counted(paths: list[Path], what: str) -> str:
    return f"{len(paths)} {what}{'' if len(paths) == 1 else 's'} ({_bytes(paths) / MB:.1f} MB)"


def _bytes(paths: Iterable[Path]) -> int:
    files = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file())
