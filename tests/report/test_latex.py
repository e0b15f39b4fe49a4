"""LaTeX tables: what is cut into parts, what is escaped, and whether LaTeX itself accepts every kept table and finds it
no wider than a page.

Run: pytest tests/report/test_latex.py
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from adaptbench.report import latex
from adaptbench.report.table_text import Bold, Italic, SubHeading
from tests.support.project import PROJECT

KEPT = sorted((PROJECT / "results/reference/tiny/tables").glob("*.tex"))
PAPER = r"\usepackage{array,longtable}\usepackage[landscape,margin=15mm]{geometry}"
HOSTILE = r"a_b & 5% $x$ #1 {y} ~^\ <z>"


def _tabulars(text: str) -> list[list[list[str]]]:
    """The rows of every tabular: headings first, cells as text."""
    found = []
    for part in re.findall(r"\\begin\{tabular\}\{[lr]+\}\n\\toprule\n(.*?)\\bottomrule", text, re.DOTALL):
        lines = [line for line in part.splitlines() if line != r"\midrule"]
        assert all(line.endswith(r" \\") for line in lines)
        found.append([re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in lines])
    return found


def _compiled(text: str, folder: Path, packages: str = "") -> str:
    """What pdflatex says of a document with the table in it."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex on this machine: apt-get install texlive-latex-base texlive-latex-recommended")
    head = f"\\documentclass{{article}}\n{packages}\\usepackage{{booktabs}}\n"
    document = f"{head}\\begin{{document}}\n{text}\n\\end{{document}}\n"
    (folder / "table.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=60)
    assert done.returncode == 0, re.findall(r"^!.*", done.stdout, re.MULTILINE)
    return done.stdout


def _wide(columns: int, rows: int) -> str:
    headings = ["run", *(f"task {i} (accuracy, n = 400)" for i in range(columns))]
    cells = [[f"run-{j}", *(Bold(f"0.{i}12 [0.{i}00, 0.{i}24]") for i in range(columns))] for j in range(rows)]
    return latex.tables([(headings, cells)], "Means & 95 % intervals.")


def test_columns_that_find_no_room_are_in_a_next_table_with_the_runs():
    tabulars = _tabulars(_wide(9, 4))
    assert len(tabulars) > 1
    headings = [cell for rows in tabulars for cell in rows[0] if cell != "run"]
    assert [re.search(r"task (\d)", cell)[1] for cell in headings] == list("012345678")
    for rows in tabulars:
        assert [row[0] for row in rows[1:]] == ["run-0", "run-1", "run-2", "run-3"]
        assert {len(row) for row in rows} == {len(rows[0])}


def test_a_column_stays_beside_the_one_that_it_explains():
    headings = ["track", SubHeading("run"), *(one for i in range(6) for one in (f"task {i}", SubHeading("forgotten")))]
    rows = [["domain", "full", *["0.123 [0.100, 0.200]"] * 12]]
    tabulars = _tabulars(latex.tables([(headings, rows)], "x"))
    assert len(tabulars) > 1
    for one in tabulars:
        assert one[0][:2] == ["track", "run"]
        assert one[1][:2] == ["domain", "full"]
        assert one[0][3::2] == ["forgotten"] * (len(one[0]) // 2 - 1)
        assert all(cell.startswith("task") for cell in one[0][2::2])


def test_a_reason_spans_the_numbers_and_widens_none():
    reason = (
        "skipped: the tokenizer of this model has a token of that name already, and no second one can be added to it"
    )
    text = latex.tables([(["run", "a", "b", "c"], [["full", "1", "2", "3"], ["odd", reason, "", ""]])], "x")
    assert rf"odd & \multicolumn{{3}}{{l}}{{{reason}}} \\" in text
    assert len(_tabulars(text)) == 1
    alone = latex.tables([(["run", "a", "b"], [["base", "0.1 [0.0, 0.2]", ""]])], "x")
    assert "multicolumn" not in alone


def test_what_means_something_to_latex_is_escaped(tmp_path):
    text = latex.tables([(["run", HOSTILE], [[HOSTILE, Italic(HOSTILE)], ["b", Bold("1 [0, 2]")]])], HOSTILE)
    escaped = (
        r"a\_b \& 5\% \$x\$ \#1 \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}z\textgreater{}"
    )
    assert rf"\caption{{{escaped}}}" in text
    assert rf"{escaped} & \emph{{{escaped}}} \\" in text
    assert r"\textbf{1 {\tiny [0, 2]}}" in text
    _compiled(text, tmp_path)


@pytest.mark.parametrize("rows", [0, 5, 42, 43, 55, 200])
def test_rows_that_find_no_room_go_on_the_next_page_in_their_order(rows):
    tabulars = _tabulars(latex.tables([(["run", "a"], [[f"run-{i}", "1"] for i in range(rows)])], "x"))
    assert all(one[0] == ["run", "a"] for one in tabulars)
    parts = [[cells[0] for cells in one[1:]] for one in tabulars]
    assert [name for part in parts for name in part] == [f"run-{i}" for i in range(rows)]
    assert len(parts) == 1 or min(map(len, parts)) >= latex.FEWEST_ROWS


def test_a_column_that_goes_on_keeps_its_side():
    rows = [[f"run-{i}", "1" if i < 40 else ""] for i in range(60)]
    found = re.findall(r"begin\{tabular\}\{(.*?)\}", latex.tables([(["run", "tries"], rows)], "x"))
    assert len(found) > 1
    assert set(found) == {"lr"}


def test_a_table_without_rows_goes_where_there_is_room(tmp_path):
    block = (["run", "a"], [[f"run-{i}", "1"] for i in range(38)])
    text = latex.tables([block, (["run", "b"], [])], "x")
    assert [len(one) - 1 for one in _tabulars(text)] == [38, 0]
    assert "too large" not in _compiled(text, tmp_path)
    assert text.count(r"\begin{table}") == 2


def test_a_caption_that_takes_the_page_leaves_room_for_some_rows():
    headings, cells = ["run", "a"], [[f"run-{i}", "1"] for i in range(12)]
    tabulars = _tabulars(latex.tables([(headings, cells)], "long " * 800))
    assert [len(one) - 1 for one in tabulars] == [5, 7]


def test_what_stands_beside_a_column_and_finds_no_room_follows_with_that_column():
    headings = ["run", "against", *map(SubHeading, ["difference", "p", "verdict", "detectable"])]
    rows = [["a" * 44, "b" * 10, "0.1 [0.0, 0.2]", "0.10", "untestable", "none"] for _ in range(3)]
    tabulars = _tabulars(latex.tables([(headings, rows)], "x"))
    assert [one[0] for one in tabulars] == [
        ["run", "against", "difference", "p"],
        ["run", "against", "verdict", "detectable"],
    ]
    assert all(len(one) == 4 for one in tabulars)


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (1, 55), (9, 12), (14, 42), (3, 130)])
def test_it_fits_a_page(columns, rows, tmp_path):
    said = _compiled(_wide(columns, rows), tmp_path)
    assert "Overfull" not in said
    assert "too large" not in said


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_every_kept_table_compiles_and_fits_a_page(path, tmp_path):
    said = _compiled(path.read_text(), tmp_path, PAPER if "paper" in path.stem else "")
    assert "Overfull" not in said
    assert "too large" not in said


def test_there_are_kept_tables():
    assert {"domain", "agent", "reasoning", "paper", "overall", "fairness"} <= {path.stem for path in KEPT}
