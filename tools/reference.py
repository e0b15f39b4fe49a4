"""Keep a preset's tables and figures in the repository with their provenance, and insert them into documents.

The kept files are generated and small: tables, figures as SVG and PNG, transcripts, and provenance.json. A document has
a table between two markers, which is always generated.
"""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptbench.errors import AdaptbenchError
from adaptbench.io.files import write_text

KEPT = ("tables", "figures", "transcripts")
MARKED = re.compile(r"(<!-- table: (\S+?)(?:: ([^:\n]+): ([^:\n]+))? -->\n).*?(<!-- end -->)", re.DOTALL)
"""`<!-- table: path -->`, or `<!-- table: path: rows: columns -->` to show only these, separated by commas."""


def keep(results: Path, out: Path) -> None:
    """Copy the tables, figures and transcripts of results/<preset>, with those of a finished ablation, to `out`.

    Raises:
        AdaptbenchError: the preset has not run, or its stages and runs do not all come from one clean commit.
    """
    path = results / "collected" / "runs.json"
    if not path.exists():
        raise AdaptbenchError(f"{path}: missing; run the preset first")
    collected = [path, *results.glob("collected-*/runs.json")]
    runs = [run for part in collected for run in json.loads(part.read_text()) if run["status"] == "done"]
    states = [run["provenance"]["git"] for run in runs]
    states += [stage["git"] for run in runs for stage in run["cost"]["stages"].values()]
    commits = {state["commit"] for state in states}
    if len(commits) != 1 or any(state["dirty"] for state in states):
        raise AdaptbenchError(
            f"{results}: not made by one clean commit as a whole; commit, delete the folder, run again"
        )
    shutil.rmtree(out, ignore_errors=True)
    for source in sorted(path for kind in KEPT for path in (results / kind).glob("*")):
        if source.suffix != ".pdf":
            target = out / source.parent.name / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    known = runs[0]["provenance"]
    provenance = {"preset": runs[0]["key"]["preset"], **known}
    provenance["finished"] = max(run["provenance"]["finished"] for run in runs)
    provenance["runs"] = {run_path(run["key"]): run["hash"] for run in runs}
    write_text(out / "provenance.json", json.dumps(provenance, indent=1) + "\n")


def update(results: Path, out: Path, documents: Sequence[Path]) -> None:
    """Keep the tables and figures, and show the kept ones in the documents.

    Raises:
        AdaptbenchError: as `keep` and `show`.
    """
    keep(results, out)
    for document in documents:
        show(document)


def run_path(key: Mapping[str, Any]) -> str:
    """Return the name of a run in provenance.json."""
    return f"{key['track']}/{key['run']}/seed{key['seed']}"


def show(document: Path) -> None:
    """Insert the tables that a document's markers name, by paths relative to the document, between these markers.

    Raises:
        AdaptbenchError: no such table, row or column.
    """
    text = document.read_text()

    def table(match: re.Match[str]) -> str:
        path = document.parent / match[2]
        if not path.is_file():
            raise AdaptbenchError(f"{document}: no table {match[2]}; make it first")
        shown = path.read_text()
        if match[3]:
            try:
                shown = _part(shown, match[3].split(", "), match[4].split(", "))
            except LookupError as error:
                raise AdaptbenchError(f"{document}: {match[2]} has no {error.args[0]}") from None
        return f"{match[1]}{shown}{match[5]}"

    write_text(document, MARKED.sub(table, text))


def _part(text: str, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Select rows (by first cell) and columns (by the beginning of the name) of a text's first Markdown table."""
    table = [line.strip("|").split("|") for line in text.partition("\n\n")[0].splitlines()]
    table = [[cell.strip() for cell in line] for line in table]
    places = []
    for name in columns:
        place = next((place for place, cell in enumerate(table[0]) if cell.startswith(name)), None)
        if place is None:
            raise LookupError(f"column {name!r}")
        places.append(place)
    by_name = {line[0]: line for line in table[2:]}
    if missing := [name for name in rows if name not in by_name]:
        raise LookupError(f"row {missing[0]!r}")
    chosen = [*table[:2], *(by_name[name] for name in rows)]
    return "".join(f"| {' | '.join(line[place] for place in places)} |\n" for line in chosen)
