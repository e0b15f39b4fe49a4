"""Render the page: everything that the browser needs in one file, with the same bytes for the same results."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.io.files import lock, write_text
from adaptbench.latent.text import LATENT
from adaptbench.report.explorer import columns, documents, embed, parts, rows
from adaptbench.statistics.comparison_table import PLACES

FOLDER = Path(__file__).parent
SCRIPTS = ("text", "marker", "data", "tip", "table", "plot", "answer", "documents", "run", "main")


def write(found_in: Sequence[tuple[Path, Path]], out: Path) -> None:
    """Write the page of the parts in `found_in`, pairs of a collected folder and its report; see `parts.read`.

    Problems of single runs are shown on the page and printed to standard error, a line each. A lock makes jobs of two
    parts write one after the other, so that the last page has both.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_name(f".{out.name}.lock").open("w") as turn:
        lock(turn.fileno(), wait=True)
        found = parts.read(found_in)
        for notice in found.notices:
            print(f"explorer: {notice}", file=sys.stderr)
        write_text(out, render(found))


def render(found: parts.Results) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    chunks = embed.Chunks()
    summary = chunks.add(_content(found, chunks))
    tables, table_style = embed.data_tables()
    plotly = embed.plotly()
    inner = "\n".join((FOLDER / "scripts" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{inner}\n}})();\n'
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=FileSystemLoader(FOLDER))
    return environment.get_template("page.html").render(
        facts=_facts(found),
        notices=found.notices,
        policy=embed.policy((script, tables, plotly)),
        # These four are files of this project and of the two libraries, not results.
        script=script,
        style=table_style + (FOLDER / "page.css").read_text(encoding="utf-8"),
        libraries={"tables": embed.packed_script(tables), "plotly": embed.packed_script(plotly)},
        summary=summary,
        chunks=list(chunks.encoded()),
    )  # fmt: skip


def _content(found: parts.Results, chunks: embed.Chunks) -> dict[str, Any]:
    """Return the content of the page; documents and provenance are referred to by the numbers of their chunks."""
    scores = found.scores
    of_track = {track: columns.of_track(scores[scores["track"] == track]) for track in _tracks(found)}
    tasks, answers = documents.pack(found.samples, found.further, chunks)
    return {
        "tables": found.tables,
        "tracks": {track: [column.key for column in listed] for track, listed in of_track.items()},
        "columns": {key: asdict(column) for key, column in columns.together(of_track.values()).items()},
        "about": {track: _about(found, track) for track in of_track},
        "rows": rows.rows(found),
        "curves": {track: rows.curves(found, track) for track in of_track},
        "tasks": tasks,
        "answers": answers,
        "runs": _details(found, chunks),
        "comparisons": found.comparisons,
        "first": _first(found),
        "latent": LATENT,
    }


def _tracks(found: parts.Results) -> list[str]:
    listed = [table["track"] for table in found.tables.values()] + [key[0] for key in found.runs]
    there = {key[0] for key in found.runs}
    return [track for track in dict.fromkeys(listed) if track in there]


def _first(found: parts.Results) -> dict[str, dict[str, str]]:
    """Return "first" for runs that share a first place and "perhaps" for those that may, by table, run and column."""
    first: dict[str, dict[str, str]] = {}
    for heading, *lines in filter(None, found.comparisons.values()):
        for line in lines:
            row = dict(zip(heading, line, strict=False))
            look = PLACES.get(row.get("verdict", ""))
            if row.get("kind") == "leader" and look:
                place = f"{row.get('run')}/{row.get('task')}/{row.get('metric')}"
                first.setdefault(row.get("table", ""), {})[place] = look
    return first


def _about(found: parts.Results, track: str) -> str:
    """Return the first sentence of the docstring of the track's benchmark, empty if it is not known."""
    if track not in registry.tracks():  # the name is imported as a module, so only existing ones are allowed
        return ""
    for run in found.runs.values():
        try:
            kind = run["provenance"]["data"][track]["options"]["config"]["kind"]
        except (KeyError, TypeError):  # a run that was left out, or of an older version
            continue
        if kind in registry.discover(f"benchmarks.{track}"):
            return (registry.benchmark(track, kind).__doc__ or "").partition("\n")[0]
    return ""


def _details(found: parts.Results, chunks: embed.Chunks) -> dict[str, dict[str, int]]:
    """Return by track and run the chunk with the content of its run.json files and its scores."""
    together: dict[str, dict[str, Any]] = {}
    for (track, name, seed), run in found.runs.items():
        of_run = together.setdefault(track, {}).setdefault(name, {"seeds": {}, "scores": []})
        of_run["seeds"][str(seed)] = _finite(run)
    for record in found.scores.to_dict("records"):
        together[record["track"]][record["run"]]["scores"].append(_finite(record))
    return {track: {name: chunks.add(of) for name, of in runs.items()} for track, runs in together.items()}


def _finite(value: Any) -> Any:
    """Return the value with None for every number that JSON cannot represent."""
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def _facts(found: parts.Results) -> dict[str, Any]:
    """Return the facts of the page's head, all of them read from the runs."""
    done = [run for run in found.runs.values() if run["status"] == "done"]
    base = next((run for run in done if run["provenance"].get("base")), None)
    shape = (base["provenance"]["base"].get("architecture") or {}) if base else {}
    planned = {(run["key"]["track"], run["key"]["run"]) for run in found.order}
    there = {key[:2] for key in found.runs}
    return {
        "preset": next((run["key"].get("preset") for run in done), None) or "results",
        "tracks": _tracks(found),
        "runs": len(there),
        "seeds": len({key[2] for key in found.runs}),
        "answers": len(found.samples),
        "statuses": Counter(run["status"] for run in found.runs.values() if run["status"] != "done"),
        "layers": shape.get("num_hidden_layers"),
        "parameters": _parameters(done),
        "missing_runs": len(planned - there),
        "limit": next((run["evaluation"].get("limit") for run in done if run.get("evaluation")), None),
        "validation": any((run.get("evaluation") or {}).get("split") == "validation" for run in done),
    }


def _parameters(done: Sequence[dict[str, Any]]) -> int | None:
    """Return the number of parameters of the base model, None if no base is done."""
    sizes = (run["model"].get("parameters") for run in done if run["key"]["run"] == "base")
    return next((size["total"] for size in sizes if size), None)
