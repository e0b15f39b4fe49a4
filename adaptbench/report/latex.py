"""Tables as LaTeX that fit a page as they are: headings in several lines, intervals small, columns and rows that find no room in a next
table.

They need the package booktabs. Widths are estimated in points for Computer Modern at \\footnotesize against the text of the
standard classes, the narrowest that a table will meet; tests compile what is kept and ask LaTeX whether it fits.
"""

import itertools
import re
from collections.abc import Iterator, Sequence

from adaptbench.report.table_text import Block, Bold, Italic, SubHeading

TEXT_WIDTH, TEXT_HEIGHT, PAGE_HEIGHT = 345.0, 430.0, 540.0  # the first height leaves room for a short caption
CHARACTER, SMALL_CHARACTER, GAP, LINE = 4.1, 2.8, 6.0, 10.0
FEWEST_ROWS = 5  # of a table that goes on, on a page of several

_COMMANDS = {Bold: r"\textbf{{{}}}", Italic: r"\emph{{{}}}"}
_SPECIAL = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",  # plain ones are other characters in LaTeX's default encoding
    ">": r"\textgreater{}",
}
_INTERVAL = re.compile(r"(.*?) (\[[^\]]*\])")
_PLACES_TO_BREAK = re.compile(r" (?=\()|(?<=,) (?=n = )")
_NUMBER = re.compile(r"[-+<]? ?[\d.,]+.*")


def escape(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)


def row(cells: Sequence[str]) -> str:
    """One line of a table, intervals small."""
    return " & ".join(map(_cell, cells)) + r" \\" + "\n"


def tables(blocks: Sequence[Block], caption: str) -> str:
    """The blocks under one caption, in as many tables as they need."""
    floats: list[list[str]] = [[]]
    room = min(TEXT_HEIGHT, PAGE_HEIGHT - _height(caption))
    for columns, rows in (part for block in blocks for part in _fitting(*block)):
        around = max(len(_lines(one)) for one in columns) + 3
        sides = ["r" if _is_of_numbers([cells[i] for cells in rows]) else "l" for i in range(len(columns))]
        while True:
            free = int(room / LINE) - around
            count = _rows_here(len(rows), free, int(TEXT_HEIGHT / LINE) - around, not floats[-1])
            if count or not floats[-1] or len(rows) <= free:
                floats[-1].append(_tabular(columns, sides, rows[:count]))
                room -= LINE * (count + around)
                rows = rows[count:]
                if not rows:
                    break
            floats.append([])
            room = TEXT_HEIGHT
    captions = [escape(caption), *["Continued."] * (len(floats) - 1)]
    numbers = [
        "",
        *["\\addtocounter{table}{-1}\n"] * (len(floats) - 1),
    ]  # what goes on has the number of what it goes on with
    return "\n".join(
        f"{number}\\begin{{table}}\n\\centering\\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\\setlength{{\\belowcaptionskip}}{{6pt}}\n\\caption{{{text}}}\n"
        + "\n\n\\bigskip\n".join(made)
        + "\n\\end{table}\n"
        for number, text, made in zip(numbers, captions, floats, strict=True)
    )


def _rows_here(rows: int, free: int, page: int, fresh: bool) -> int:
    """How many of the rows go onto a page where `free` more find room: all, none where a page of their own holds them, else what leaves
    enough for the next page; some in any case onto a `fresh` one.
    """
    if rows <= free:
        return rows
    if rows <= page and not fresh:
        return 0
    here = min(free, rows - FEWEST_ROWS)
    if here >= FEWEST_ROWS:
        return here
    return min(rows, FEWEST_ROWS) if fresh else 0


def _height(caption: str) -> float:
    """Of a caption in the document's own size, the space around it included."""
    return 12.0 * (len(caption) // 70 + 2)


def _fitting(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Block]:
    """The block in parts of a page's width, each with the columns that name a row; what stands beside a column goes with it, or, where
    that finds no room, follows with that column again.
    """
    in_numbers = [[*cells[:1], "", *cells[2:]] if _says(cells) else cells for cells in rows]
    widths = [
        max(map(_width, [*_lines(heading), *(cells[i] for cells in in_numbers)])) for i, heading in enumerate(columns)
    ]
    together: list[list[int]] = []
    for i, heading in enumerate(columns):
        if isinstance(heading, SubHeading):
            together[-1].append(i)
        else:
            together.append([i])
    naming, *groups = together
    room = TEXT_WIDTH - _taken(naming, widths)
    others = [part for group in groups for part in _cut(group, widths, room)]
    taken = [_taken(group, widths) for group in others]
    parts = _filled(taken, room)
    # As many parts with less room are of more even widths: no column left over for a table of its own.
    even = next(
        found
        for limit in sorted({*taken, room, *range(0, int(room), 5)})
        if len(found := _filled(taken, limit)) <= len(parts)
    )
    start = 0
    for count in even:
        part = [i for group in others[start : start + count] for i in group]
        yield _picked(columns, rows, [*naming, *part])
        start += count
    if not even:
        yield _picked(columns, rows, naming)


def _cut(group: Sequence[int], widths: Sequence[float], room: float) -> list[list[int]]:
    """The group of columns, or parts of it that find room, each with its first column."""
    first, *beside = group
    counts = _filled([_taken([i], widths) for i in beside], room - _taken([first], widths))
    ends = list(itertools.accumulate(counts))
    return [[first, *beside[end - count : end]] for count, end in zip(counts, ends, strict=True)] or [[first]]


def _taken(part: Sequence[int], widths: Sequence[float]) -> float:
    return sum(widths[i] + GAP for i in part)


def _filled(taken: Sequence[float], room: float) -> list[int]:
    """How many of what takes so much go into each part, one after another; what needs more has a part of its own."""
    counts: list[int] = []
    left = 0.0
    for one in taken:
        if one > left or not counts:
            counts.append(0)
            left = room
        counts[-1] += 1
        left -= one
    return counts


def _picked(columns: Sequence[str], rows: Sequence[Sequence[str]], part: Sequence[int]) -> Block:
    return [columns[i] for i in part], [[cells[i] for i in part] for cells in rows]


def _says(cells: Sequence[str]) -> bool:
    """Whether the row has a reason instead of numbers: in its second cell, and nothing after it."""
    return len(cells) > 2 and not any(cells[2:]) and not _NUMBER.fullmatch(cells[1])


def _lines(heading: str) -> list[str]:
    return _PLACES_TO_BREAK.split(heading)


def _width(text: str) -> float:
    found = _INTERVAL.fullmatch(text)
    plain = CHARACTER * len(found[1]) + SMALL_CHARACTER * (len(found[2]) + 1) if found else CHARACTER * len(text)
    return 1.12 * plain if isinstance(text, Bold) else plain


def _tabular(columns: Sequence[str], sides: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    body = "".join(map(_line, rows))
    head = " & ".join(map(_heading, columns, sides)) + " \\\\\n"
    return f"\\begin{{tabular}}{{{''.join(sides)}}}\n\\toprule\n{head}\\midrule\n{body}\\bottomrule\n\\end{{tabular}}"


def _is_of_numbers(cells: Sequence[str]) -> bool:
    said = [cell for cell in cells if cell]
    return 2 * sum(bool(_NUMBER.fullmatch(cell)) for cell in said) > len(said)


def _heading(text: str, side: str) -> str:
    lines = list(map(escape, _lines(text)))
    stacked = r"\\".join(lines)
    return lines[0] if len(lines) == 1 else f"\\shortstack[{side}]{{{stacked}}}"


def _line(cells: Sequence[str]) -> str:
    if _says(cells) and len(cells[1]) * CHARACTER > TEXT_WIDTH / len(cells):
        return f"{escape(cells[0])} & \\multicolumn{{{len(cells) - 1}}}{{l}}{{{escape(cells[1])}}} \\\\\n"
    return row(cells)


def _signed(text: str) -> str:
    """Escaped, a minus in front of a number as one."""
    return re.sub(r"(?<![\w.-])-(?=[\d.])", "$-$", escape(text)) if _NUMBER.fullmatch(text.strip("[")) else escape(text)


def _cell(text: str) -> str:
    found = _INTERVAL.fullmatch(text)
    shown = f"{_signed(found[1])} {{\\tiny {_signed(found[2])}}}" if found else _signed(text)
    return _COMMANDS.get(type(text) if text else str, "{}").format(shown)
