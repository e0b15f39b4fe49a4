"""Write tables as text: cells in blocks of columns, and blocks as Markdown; adaptbench/report/latex.py writes LaTeX."""

from collections.abc import Sequence

Block = tuple[list[str], list[list[str]]]
"""Headings and rows of cells; the first column names the run."""


class Bold(str):
    """A cell of a run that is best or shares the first place."""


class Italic(str):
    """A cell of a run that is neither shown to be worse than the best nor to tie with it."""


class SubHeading(str):
    """The heading of a column that belongs to the column before it."""


_MARKDOWN = {Bold: "**{}**", Italic: "*{}*"}


def with_interval(mean: float, low: float, high: float, *, sign: bool = False) -> str:
    """Return "mean [low, high]", or the mean alone if there is no interval (one document) or it has no width."""
    mean, low, high = (round(value, 3) + 0.0 for value in (mean, low, high))  # no -0.000
    form = "+.3f" if sign else ".3f"
    if low != low or low == high:
        return f"{mean:{form}}"
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def p_value(p: float) -> str:
    """Return the p-value as text, empty where nothing was tested (nan)."""
    return "" if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}"


def detectable(effect: float, relevant: float) -> str:
    """Return the smallest difference that is found, where `relevant` is a tenth of the scale: none where the whole
    scale is too small, empty where nothing was tested (nan).
    """
    return "" if effect != effect else "none" if effect > 10 * relevant else f"{effect:.3f}"


def markdown(blocks: Sequence[Block], caption: str) -> str:
    """Return the blocks as Markdown tables, with the caption below."""

    def line(cells: Sequence[str]) -> str:
        shown = (cell.replace("|", "\\|") for cell in cells)
        marked = (
            _MARKDOWN.get(type(cell) if cell else str, "{}").format(text)
            for cell, text in zip(cells, shown, strict=True)
        )
        return "| " + " | ".join(marked) + " |\n"

    def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        rule = "| --- |" + " ---: |" * (len(columns) - 1) + "\n"
        return line(columns) + rule + "".join(line(row) for row in rows)

    return "\n".join(table(columns, rows) for columns, rows in blocks) + f"\n{caption}\n"
