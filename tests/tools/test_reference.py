"""What is kept of a run in the repository: only what one clean commit made, and shown where documents ask for it.

Run: pytest tests/tools/test_reference.py
"""

import json
import re
from pathlib import Path

import pytest

from adaptbench.errors import AdaptbenchError
from tests.support.project import PROJECT
from tools import reference


def _run(name: str, commit: str = "c1", dirty: bool = False, stage: str = "c1") -> dict:
    clean = {"commit": commit, "dirty": dirty}
    return {
        "key": {"preset": "toy", "track": "domain", "run": name, "seed": 0},
        "status": "done",
        "hash": f"hash of {name}",
        "cost": {"stages": {"a": {"git": {"commit": stage, "dirty": False}}}},
        "provenance": {"git": clean, "versions": {"torch": "1"}, "finished": f"2026-01-0{len(name)}"},
    }


def _results(folder: Path, *runs: dict, ablation: tuple[dict, ...] = ()) -> Path:
    parts = {"collected": runs} | ({"collected-ablation": ablation} if ablation else {})
    for part, its_runs in parts.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "runs.json").write_text(json.dumps(its_runs))
    for name in ("tables/domain.md", "tables/domain.csv", "figures/domain.svg", "figures/domain.pdf"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(f"this is {name}")
    return folder


def test_tables_and_figures_are_kept_with_where_they_come_from(tmp_path):
    results = _results(tmp_path / "results", _run("base"), _run("full"), ablation=(_run("base"), _run("other")))
    (tmp_path / "kept/tables").mkdir(parents=True)
    (tmp_path / "kept/tables/old.md").write_text("of a run that is gone")
    reference.keep(results, tmp_path / "kept")
    kept = {str(path.relative_to(tmp_path / "kept")) for path in (tmp_path / "kept").rglob("*.*")}
    assert kept == {"tables/domain.md", "tables/domain.csv", "figures/domain.svg", "provenance.json"}
    assert (tmp_path / "kept/tables/domain.md").read_text() == "this is tables/domain.md"
    provenance = json.loads((tmp_path / "kept/provenance.json").read_text())
    assert provenance["git"] == {"commit": "c1", "dirty": False}
    assert provenance["finished"] == "2026-01-05"
    assert provenance["runs"] == {f"domain/{name}/seed0": f"hash of {name}" for name in ("base", "full", "other")}


@pytest.mark.parametrize(
    ("main", "ablation"),
    [
        ((_run("base"), _run("full", dirty=True)), ()),
        ((_run("base"), _run("full", commit="c2")), ()),
        ((_run("base"), _run("full", stage="c2")), ()),
        ((_run("base"),), (_run("other", commit="c2"),)),
    ],
    ids=["dirty", "two-commits", "a-stage-of-another-commit", "an-ablation-of-another-commit"],
)
def test_what_one_clean_commit_did_not_make_as_a_whole_is_refused(tmp_path, main, ablation):
    results = _results(tmp_path / "results", *main, ablation=ablation)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/before.md").write_text("x")
    with pytest.raises(AdaptbenchError, match="not made by one clean commit as a whole"):
        reference.keep(results, tmp_path / "kept")
    assert (tmp_path / "kept/before.md").exists()


def test_a_preset_that_has_not_run_is_one_line(tmp_path):
    with pytest.raises(AdaptbenchError, match=r"collected/runs\.json: missing; run the preset first"):
        reference.keep(tmp_path, tmp_path / "kept")


def test_documents_show_the_tables_that_their_markers_name(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/a.md").write_text("| new |\n")
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- table: tables/a.md -->\n| old |\n<!-- end -->\nafter\n")
    reference.show(document)
    expected = "before\n<!-- table: tables/a.md -->\n| new |\n<!-- end -->\nafter\n"
    assert document.read_text() == expected
    reference.show(document)
    assert document.read_text() == expected
    document.write_text("<!-- table: tables/b.md -->\n<!-- end -->\n")
    with pytest.raises(AdaptbenchError, match=r"page\.md: no table tables/b\.md"):
        reference.show(document)


def test_a_document_may_show_some_rows_and_columns_of_a_table(tmp_path):
    document = tmp_path / "page.md"
    (tmp_path / "a.md").write_text(
        "| run | facts (n = 3) | seconds |\n| --- | ---: | ---: |\n| base | 0.1 | |\n| full | **0.9** | 5 |\n| "
        "lora | 0.8 | 4 |\n"
        "\n| run | other |\n| --- | --- |\n| lora | 7 |\n\nA caption.\n"
    )
    document.write_text("<!-- table: a.md: lora, base: run, seconds, facts -->\nold\n<!-- end -->\n")
    reference.show(document)
    lines = document.read_text().splitlines()
    assert lines[1:-1] == [
        "| run | seconds | facts (n = 3) |",
        "| --- | ---: | ---: |",
        "| lora | 4 | 0.8 |",
        "| base |  | 0.1 |",
    ]
    for part, missing in (("ghost: run", "row 'ghost'"), ("base: weight", "column 'weight'")):
        document.write_text(f"<!-- table: a.md: {part} -->\n<!-- end -->\n")
        with pytest.raises(AdaptbenchError, match=rf"page\.md: a\.md has no {missing}"):
            reference.show(document)


NUMBER = re.compile(r"(?<![\d.])\d+\.\d{3}(?!\d)")


def test_scores_that_documents_tell_stand_in_the_tables_that_they_show():
    """Text is not generated, so that it may be older than the tables that it speaks of. One number may be there by
    chance, hardly all.
    """
    told = {}
    for document in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        text = document.read_text()
        shown = set(re.findall(r"[./]*results/reference/tiny/tables/\w+\.md", text))
        if "](papers.md" in text:  # which shows the claims
            shown.add("../results/reference/tiny/tables/ablation_paper.md")
        if shown:
            known = {number for table in shown for number in NUMBER.findall((document.parent / table).read_text())}
            prose = re.sub(r"^```.*?^```$", "", reference.MARKED.sub("", text), flags=re.MULTILINE | re.DOTALL)
            told[document.name] = set(NUMBER.findall(prose))
            assert sorted(told[document.name] - known) == [], document.name
    assert all(told[name] for name in ("adept.md", "agents.md", "reasoning.md"))
