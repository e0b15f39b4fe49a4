"""Write tables as LaTeX that fits a page: headings in several lines, small intervals, too many columns or rows in
further tables.

They need the package booktabs. Widths are estimated in points, for Computer Modern at \\footnotesize and the text width
of the standard classes, the narrowest in use. Tests compile the kept tables and check that they fit.
"""

import itertools
import re
from collections.abc import Iterator, Sequence

from adaptbench.report.table_text import Block, Bold, Italic, SubHeading

TEXT_WIDTH, TEXT_HEIGHT, PAGE_HEIGHT = 345.0, 430.0, 540.0  # the first height leaves room for a short caption
CHARACTER, SMALL_CHARACTER, GAP, LINE = 4.1, 2.8, 6.0, 10.0
FEWEST_ROWS = 5  # on each page of a table that continues on another

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
    """Return one line of a table, with small intervals."""
    return " & ".join(map(_cell, cells)) + r" \\" + "\n"


def tables(blocks: Sequence[Block], caption: str) -> str:
    """Return the blocks under one caption, in as many tables as they need."""
    floats: list[list[str]] = [[]]
    room = min(TEXT_HEIGHT, PAGE_HEIGHT - _height(caption))
    for columns, rows in (part for block in blocks for part in _split_columns(*block)):
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
    # A continued table keeps its number.
    numbers = ["", *["\\addtocounter{table}{-1}\n"] * (len(floats) - 1)]
    return "\n".join(
        f"{number}\\begin{{table}}\n\\centering\\footnotesize\\setlength{{\\tabcolsep}}{{3pt}}\\setlength{{\\belowcaptionskip}}{{6pt}}\n\\caption{{{text}}}\n"
        + "\n\n\\bigskip\n".join(made)
        + "\n\\end{table}\n"
        for number, text, made in zip(numbers, captions, floats, strict=True)
    )


def _rows_here(rows: int, free: int, page: int, fresh: bool) -> int:
    """Return the number of rows to put on the current page, where `free` more fit.

    All if they fit. None if they fit on a separate page of `page` rows and this one is not `fresh` (empty). Otherwise
    as many as leave at least FEWEST_ROWS for the next page; a fresh page always gets some.
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
    """Return the height of a caption in points, at the document's font size, with the space around it."""
    return 12.0 * (len(caption) // 70 + 2)


def _split_columns(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Block]:
    """Yield the block in parts of a page's width; each part begins with the columns that name a row.

    A column and its subheadings form a group, which stays together. If a group is too wide, the rest of it follows in
    the next part, with its first column again.
    """
    widths = _column_widths(columns, rows)
    naming, *groups = _column_groups(columns)
    room = TEXT_WIDTH - _total_width(naming, widths)
    pieces = [piece for group in groups for piece in _cut(group, widths, room)]
    if not pieces:
        yield _select(columns, rows, naming)
        return
    counts = _fill_evenly([_total_width(piece, widths) for piece in pieces], room)
    remaining = iter(pieces)
    for count in counts:
        part = itertools.chain.from_iterable(itertools.islice(remaining, count))
        yield _select(columns, rows, [*naming, *part])


def _column_widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[float]:
    """Return the width of each column in points; reasons span the columns and do not count."""
    numeric = [[*cells[:1], "", *cells[2:]] if _is_reason(cells) else cells for cells in rows]
    return [max(map(_width, [*_lines(heading), *(cells[i] for cells in numeric)])) for i, heading in enumerate(columns)]


def _column_groups(columns: Sequence[str]) -> list[list[int]]:
    """Return the indices of the columns in groups: each heading with the subheadings after it."""
    groups: list[list[int]] = []
    for i, heading in enumerate(columns):
        if isinstance(heading, SubHeading):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _cut(group: Sequence[int], widths: Sequence[float], room: float) -> list[list[int]]:
    """Split a group of columns into parts that fit in `room`; each part repeats the group's first column."""
    first, *beside = group
    counts = _fill([_total_width([i], widths) for i in beside], room - _total_width([first], widths))
    ends = list(itertools.accumulate(counts))
    return [[first, *beside[end - count : end]] for count, end in zip(counts, ends, strict=True)] or [[first]]


def _total_width(part: Sequence[int], widths: Sequence[float]) -> float:
    return sum(widths[i] + GAP for i in part)


def _fill(widths: Sequence[float], room: float) -> list[int]:
    """Fill parts of width `room` in order; return the number of items in each. A wider item gets a separate part."""
    counts: list[int] = []
    left = 0.0
    for width in widths:
        if width > left or not counts:
            counts.append(0)
            left = room
        counts[-1] += 1
        left -= width
    return counts


def _fill_evenly(widths: Sequence[float], room: float) -> list[int]:
    """Fill as few parts as `_fill` does, with the least room for that: the last part is not left almost empty."""
    fewest = len(_fill(widths, room))
    limits = sorted({*widths, room, *range(0, int(room), 5)})
    return next(counts for limit in limits if len(counts := _fill(widths, limit)) <= fewest)


def _select(columns: Sequence[str], rows: Sequence[Sequence[str]], part: Sequence[int]) -> Block:
    return [columns[i] for i in part], [[cells[i] for i in part] for cells in rows]


def _is_reason(cells: Sequence[str]) -> bool:
    """Return True if the row has a reason instead of numbers: text in its second cell, and nothing after it."""
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
    if _is_reason(cells) and len(cells[1]) * CHARACTER > TEXT_WIDTH / len(cells):
        return f"{escape(cells[0])} & \\multicolumn{{{len(cells) - 1}}}{{l}}{{{escape(cells[1])}}} \\\\\n"
    return row(cells)


def _signed(text: str) -> str:
    """Escape the text, and print the hyphen before a number as a minus."""
    escaped = escape(text)
    return re.sub(r"(?<![\w.-])-(?=[\d.])", "$-$", escaped) if _NUMBER.fullmatch(text.strip("[")) else escaped


def _cell(text: str) -> str:
    found = _INTERVAL.fullmatch(text)
    shown = f"{_signed(found[1])} {{\\tiny {_signed(found[2])}}}" if found else _signed(text)
    return _COMMANDS.get(type(text) if text else str, "{}").format(shown)
