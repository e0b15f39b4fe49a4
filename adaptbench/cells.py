"""Tables as text: cells in blocks of columns, as Markdown and LaTeX."""

from collections.abc import Sequence
from pathlib import Path

from adaptbench.files import write_text

Block = tuple[list[str], list[list[str]]]
"""Headings and rows of cells, the first column the run's name."""


class Bold(str):
    """A cell of the best, or of one that shares the first place."""


class Italic(str):
    """A cell that cannot be told from the best, nor said to be as good."""


_MARKDOWN = {Bold: "**{}**", Italic: "*{}*"}
_COMMANDS = {Bold: r"\textbf{{{}}}", Italic: r"\emph{{{}}}"}


def write(blocks: Sequence[Block], caption: str, stem: Path) -> None:
    """Write <stem>.md and .tex."""
    write_text(stem.with_name(f"{stem.name}.md"), markdown(blocks, caption))
    write_text(stem.with_name(f"{stem.name}.tex"), latex(blocks, caption))


def with_interval(mean: float, low: float, high: float, *, sign: bool = False) -> str:
    mean, low, high = (round(value, 3) + 0.0 for value in (mean, low, high))  # no -0.000
    form = "+.3f" if sign else ".3f"
    if low != low:  # one document has no interval
        return f"{mean:{form}}"
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def latex_row(cells: Sequence[str]) -> str:
    marked = (_COMMANDS.get(type(cell), "{}").format(escape(cell)) for cell in cells)
    return " & ".join(marked) + r" \\" + "\n"


def markdown(blocks: Sequence[Block], caption: str) -> str:
    def line(cells: Sequence[str]) -> str:
        shown = (cell.replace("|", "\\|") for cell in cells)
        marked = (_MARKDOWN.get(type(cell), "{}").format(text) for cell, text in zip(cells, shown, strict=True))
        return "| " + " | ".join(marked) + " |\n"

    def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        rule = "| --- |" + " ---: |" * (len(columns) - 1) + "\n"
        return line(columns) + rule + "".join(line(row) for row in rows)

    return "\n".join(table(columns, rows) for columns, rows in blocks) + f"\n{caption}\n"


def latex(blocks: Sequence[Block], caption: str) -> str:
    """Booktabs tables under one caption."""

    def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
        body = "".join(latex_row(row) for row in rows)
        alignment = f"l{'r' * (len(columns) - 1)}"
        return f"\\begin{{tabular}}{{{alignment}}}\n\\toprule\n{latex_row(columns)}\\midrule\n{body}\\bottomrule\n\\end{{tabular}}"

    tables = "\n\n\\bigskip\n".join(table(columns, rows) for columns, rows in blocks)
    return f"\\begin{{table}}\n\\centering\n\\caption{{{escape(caption)}}}\n{tables}\n\\end{{table}}\n"


_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",  # plain ones are other characters in LaTeX's default encoding
    ">": r"\textgreater{}",
}


def escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
