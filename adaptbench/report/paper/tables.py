"""Write tables/paper.csv (every row), .md and .tex: for each paper its claims, then its numbers.

A number has a separate line only if we measured the same; the others are counted by reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from adaptbench.io.files import write_text
from adaptbench.report import latex
from adaptbench.report.paper import claims, numbers, ours, reader
from adaptbench.report.paper.source import Paper
from adaptbench.report.table_text import Block, detectable, markdown, p_value, with_interval

CLAIM_COLUMNS = ("claim", "paper, points", "same way", "our runs", "measured", "ours", "p", "detectable", "verdict")
NUMBER_COLUMNS = ("number", "paper, %", "our run", "ours, %", "difference, points", "verdict")
REST_COLUMNS = ("numbers", "how many", "not run")
ALIGNMENT = {
    CLAIM_COLUMNS: "L{46mm}rrL{30mm}L{32mm}L{30mm}rrL{29mm}",
    NUMBER_COLUMNS: "L{55mm}rL{25mm}L{30mm}rL{30mm}",
    REST_COLUMNS: "L{80mm}rL{85mm}",
}


def write(plan: Path, collected: Sequence[Path], out: Path) -> None:
    """Write `out`.csv, .md and .tex from the plan's paper.json and the `collected` parts."""
    papers = {f"{track}/{path.stem}": (track, reader.load(path, track)) for track, path in reader.files()}
    made = ours.read(plan, collected)
    claimed, counted = claims.rows(papers, made), numbers.rows(papers, made)
    write_text(out.with_suffix(".csv"), full(papers, claimed, counted))
    blocks = [
        (paper, _blocks([row for row in claimed if row.paper == key], [row for row in counted if row.paper == key]))
        for key, (_, paper) in papers.items()
    ]
    caption = _caption(claimed)
    shown = [f"**{_title(paper)}**\n\n{markdown(its, ' '.join(_notes(paper)))}" for paper, its in blocks]
    write_text(out.with_suffix(".md"), "\n".join([*shown, f"{caption}\n"]))
    pages = [_longtables(paper, its) for paper, its in blocks]
    needs = (
        "% Needs the packages array, booktabs and longtable; as wide as a page on its side with margins of 15 mm.\n"
        r"\newcolumntype{L}[1]{>{\raggedright\arraybackslash}p{#1}}"
        "\n"
        r"\begingroup\footnotesize\setlength{\tabcolsep}{4pt}\renewcommand{\arraystretch}{1.2}"
        "\n"
    )
    write_text(
        out.with_suffix(".tex"), "\n".join([needs, *pages, f"\\noindent {latex.escape(caption)}\\par\n\\endgroup\n"])
    )


def full(papers: Mapping[str, tuple[str, Paper]], claimed: Sequence[claims.Row], counted: Sequence[numbers.Row]) -> str:
    """Return every claim and every number as CSV, with the source of the paper's side."""
    import pandas as pd

    rows = [{"kind": "claim"} | asdict(row) for row in claimed] + [{"kind": "number"} | asdict(row) for row in counted]
    for row in rows:
        paper = papers[row["paper"]][1]
        table = paper.tables[row["table"]]
        row |= {"paper": paper.name, "arxiv": paper.arxiv, "source": table.source, "reliability": table.reliability}
    return pd.DataFrame(rows).convert_dtypes().to_csv(index=False)


def _title(paper: Paper) -> str:
    return f"{paper.name} (arXiv {paper.arxiv})"


def _notes(paper: Paper) -> list[str]:
    read = [
        f"Source of {table.title}: {table.source}; reliability: {table.reliability}." for table in paper.tables.values()
    ]
    return [*read, *paper.notes]


def _blocks(claimed: Sequence[claims.Row], counted: Sequence[numbers.Row]) -> list[Block]:
    beside = [row for row in counted if row.verdict != "not run"]
    blocks = [
        (list(CLAIM_COLUMNS), [_claim(row) for row in claimed]),
        (list(NUMBER_COLUMNS), [_number(row) for row in beside]),
        (list(REST_COLUMNS), _rest(counted)),
    ]
    return [block for block in blocks if block[1]]


def _claim(row: claims.Row) -> list[str]:
    place = ", ".join(filter(None, (row.model, row.setting)))
    sign = "above" if row.paper_value > 0 else "below"
    claim = f"{row.metric} ({place}): {row.method} {sign} {row.against}" + (f"; {row.stand_in}" if row.stand_in else "")
    said = [claim, f"{row.paper_value:+.2f}", f"{row.same_way} of {row.places}"]
    runs = f"{row.run} - {row.against_run}" if row.against_run else ""
    measured = f"{row.task}: {row.unit}" if row.task else ""
    verdict = f"{row.verdict}: {row.why}" if row.why else row.verdict
    if (
        row.ours is None
        or row.low is None
        or row.high is None
        or row.p_holm is None
        or row.detectable is None
        or row.relevant is None
    ):
        return [*said, runs, measured, "", "", "", verdict]
    effect = with_interval(row.ours, row.low, row.high, sign=True)
    return [*said, runs, measured, effect, p_value(row.p_holm), detectable(row.detectable, row.relevant), verdict]


def _number(row: numbers.Row) -> list[str]:
    what = ", ".join(filter(None, (row.model, row.setting, row.method, row.metric)))
    cell = f"{row.ours:.1f}" if row.low is None else f"{row.ours:.1f} [{row.low:.1f}, {row.high:.1f}]"
    note = f" ({row.note})" if row.note else ""
    return [what + note, f"{row.paper_value:.2f}", row.run, cell, f"{row.difference:+.1f}", row.verdict]


def _rest(counted: Sequence[numbers.Row]) -> list[list[str]]:
    """Count the numbers that we did not measure, by table and reason."""
    groups: dict[tuple[str, str], list[numbers.Row]] = {}
    for row in counted:
        if row.verdict == "not run":
            groups.setdefault((row.table, row.why), []).append(row)
    return [
        [f"{table}: {', '.join(dict.fromkeys(row.metric for row in rows))}", str(len(rows)), why]
        for (table, why), rows in groups.items()
    ]


def _caption(claimed: Sequence[claims.Row]) -> str:
    seeds = [row.seeds for row in claimed if row.seeds is not None]
    of_models = " With one seed this is about these models, not about the methods." if set(seeds) == {1} else ""
    found = ", ".join(f"{number} {verdict}" for verdict, number in _ordered(claims.counts(claimed)))
    return (
        f"{len(claimed)} claims: {found}. A paper's differences and numbers are in points and per cent, as printed;"
        " same way: how many of its own differences (other models, settings, metrics) have that sign. Ours:"
        " difference of the two runs in the unit of our own task, with 95 % interval, paired by document and seed;"
        " other models and other data than the paper's, so only the signs are compared. p after Holm over the"
        f" {len(seeds)} tested claims; detectable: the difference found four times in five. Direction reproduced:"
        " significant, the paper's sign; opposite: significant, the other sign; tie: the interval holds no difference"
        " of a tenth; untestable: none of these, or one of both runs is not better than without training, or hardly"
        " shows what it adds. Numbers are only held against ours where the model and the data are the paper's:"
        " reproduced if the paper's lies in our interval, direction reproduced if ours differs from the table's"
        " reference method as the paper's does."
    ) + of_models


def _ordered(found: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(verdict, found[verdict]) for verdict in claims.VERDICTS if verdict in found]


def _longtables(paper: Paper, blocks: Sequence[Block]) -> str:
    """Return booktabs tables that break over pages, under one caption."""
    made: list[str] = []
    for columns, rows in blocks:
        caption = "" if made else f"\\caption{{{latex.escape(_title(paper))}}} \\\\\n"
        head = f"\\toprule\n{latex.row(columns)}\\midrule\n"
        body = "".join(map(latex.row, rows))
        alignment = ALIGNMENT[tuple(columns)]
        made.append(
            ""
            f"\\begin{{longtable}}{{{alignment}}}\n{caption}{head}\\endfirsthead\n{head}\\endhead\n{body}\\bottomrule\n\\end{{longtable}}\n"
        )
    return "\n".join([*made, f"\\noindent {latex.escape(' '.join(_notes(paper)))}\n"])
