"""Sum a preset's time by kind of job: start-up (imports, loading), training, evaluation, and the whole process."""

import json
from collections import defaultdict
from pathlib import Path

from adaptbench.errors import AdaptbenchError

COLUMNS = ("start_up", "compiling", "training", "evaluation", "all")


def summary(root: Path) -> str:
    """Return a table of seconds over all stages and runs of results/<preset>."""
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    stages = {
        path.parent.name: path for place in ("records", "stages") for path in root.glob(f"{place}/*/adaptbench.json")
    }
    for path in sorted([*stages.values(), *root.glob("*/*/seconds.json")]):
        found = json.loads(path.read_text())
        rows[found.get("kind", "data")].append(found.get("seconds", found))
    for path in sorted(root.glob("runs/*/*/*/run.json")):
        seconds = json.loads(path.read_text()).get("seconds")
        if seconds:
            rows["evaluation"].append(seconds)
    if not rows:
        raise AdaptbenchError(f"{root}: no results")
    lines = [f"{'seconds':<14}{'jobs':>6}" + "".join(f"{column.replace('_', '-'):>12}" for column in COLUMNS)]
    whole: list[dict[str, float]] = []
    for kind, jobs in rows.items():
        lines.append(_line(kind, jobs))
        whole += jobs
    return "\n".join([*lines, _line("all", whole)])


def _line(name: str, jobs: list[dict[str, float]]) -> str:
    sums = [sum(job.get(column, 0.0) for job in jobs) for column in COLUMNS]
    return f"{name:<14}{len(jobs):>6}" + "".join(f"{value:>12.1f}" for value in sums)
