"""Write transcripts: the episodes of a few problems, as each run of a table played them, coloured by speaker.

Each table gets one self-contained HTML page. Text that a model wrote is untrusted; the template engine escapes it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench.io import results
from adaptbench.io.files import write_text

if TYPE_CHECKING:
    import pandas as pd

PROBLEMS = 12
FIELDS = ("thought", "decision", "action", "arguments", "observation", "answer")
TEMPLATE = Path(__file__).with_name("transcripts.html")


def write(collected: Path, report: Path, out: Path, only: str | None = None) -> None:
    """Write <table>.html for every table of the plan's `report` with episodes, or for the `only` one of that name."""
    from jinja2 import Environment, StrictUndefined

    samples = results.read_samples(collected / "samples.parquet")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text(encoding="utf-8"))
    for name, table in json.loads(report.read_text())["tables"].items():
        if not table["episodes"] or only not in (None, name):
            continue
        mine = samples[(samples["track"] == table["track"]) & samples["run"].isin(table["runs"])]
        text = page.render(table=name, problems=problems(mine[mine["metric"] == "success"], table["runs"]))
        write_text(out / f"{name}.html", text + "\n")


def problems(samples: "pd.DataFrame", runs: list[str]) -> list[dict[str, Any]]:
    """Return the first PROBLEMS problems, each with the episodes that the runs played under their first seed."""
    chosen = []
    for document in sorted(samples["document"].unique())[:PROBLEMS]:
        rows = samples[samples["document"] == document]
        episodes = []
        for run in runs:
            of_run = rows[rows["run"] == run].sort_values("seed")
            if len(of_run):
                episodes.append({"run": run, **_episode(of_run.iloc[0].to_dict())})
        first = rows.iloc[0]
        listed, _, instruction = first["prompt"].partition("\nTask: ")
        chosen.append(
            {
                "number": int(document) + 1,
                "instruction": instruction.rpartition("\n")[0],
                "tools": listed.removeprefix("Tools:\n").splitlines(),
                "target": first["target"],
                "episodes": episodes,
            }
        )
    return chosen


def _text(value: Any) -> str:
    """Return the value as text that UTF-8 can encode."""
    return str(value).encode("utf-8", "replace").decode()


def _episode(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        played = json.loads(row["prediction"])
        said = [{name: _text(one[name]) for name in FIELDS} for one in played["steps"]]
        steps = [{**one, "failed": one["observation"].startswith("error: ")} for one in said]
        return {
            "seed": int(row["seed"]),
            "right": bool(row["value"]),
            "stopped": _text(played["stopped"]),
            "steps": steps,
        }
    except (ValueError, KeyError, TypeError, RecursionError):
        return {"seed": int(row["seed"]), "right": False, "stopped": "unreadable", "steps": []}
