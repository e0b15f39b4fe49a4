"""Time live episodes in a batch against one at a time, with the same answers.

    python -m tools live-speed results/tiny/runs/agent/glpft/seed0 results/reference/bench/live.csv

Both ways play the same problems with the same models in one process, in turn, several times. Medians are compared.
"""

import json
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from adaptbench.errors import AdaptbenchError
from adaptbench.io import model_folder
from tools.speed import tables

REPEATS = 3
TASK = "agent_live"


def measure(run: Path, out: Path) -> None:
    """Write a CSV and its Markdown with the seconds of both ways on all problems, given the directory of a run.

    Raises:
        AdaptbenchError: the answers differ; nothing is written.
    """
    from lm_eval.tasks import TaskManager

    from adaptbench.agent.language_model import language_model

    done = json.loads((run / "run.json").read_text())
    directory = Path(done["model"]["directory"])
    plan = directory.parent.parent / "plan" / f"run-{'-'.join(run.parts[-3:])}.json"
    planned = json.loads(plan.read_text())
    tasks = {name: Path(path) for name, path in planned["task_directories"].items()}
    side_by_side = planned["options"]["batch_size"]
    answering = language_model(
        directory, batch_size=side_by_side, tasks=tasks, **model_folder.decode_options(directory)
    )
    manager = TaskManager(include_path=[str(path / "tasks") for path in tasks.values()], include_defaults=False)
    task = manager.load([TASK])["tasks"][TASK]
    task.build_all_requests()
    requests = task.instances
    answering.generate_until(requests[:2])  # the first use is slower
    ways = {"side by side": [requests], "one at a time": [[one] for one in requests]}
    answers, seconds = tables.in_turn(
        {way: partial(_answers, answering, batches) for way, batches in ways.items()}, REPEATS
    )
    differing = sum(one != other for one, other in zip(*answers.values(), strict=True))
    if differing:
        raise AdaptbenchError(f"{run}: {differing} of {len(requests)} episodes differ side by side and one at a time")
    slow = statistics.median(seconds["one at a time"])
    rows = [
        {
            "way": way,
            "problems": len(requests),
            "batch_size": side_by_side if way == "side by side" else 1,
            **tables.spread(times),
            "times_faster": round(slow / statistics.median(times), 2),
            "run": "/".join(run.parts[-3:]),
            **tables.surroundings(answering.device),
        }
        for way, times in seconds.items()
    ]
    shown = {"way": "episodes", "batch_size": "in a batch", "median_seconds": "seconds", "times_faster": "times faster"}
    caption = f"All {len(requests)} episodes, same answers; medians of {REPEATS} repeats in one process."
    tables.keep(rows, out, shown, caption)


def _answers(answering: Any, batches: Sequence[Sequence[Any]]) -> list[str]:
    answering.forget()
    return [answer for batch in batches for answer in answering.generate_until(list(batch))]
