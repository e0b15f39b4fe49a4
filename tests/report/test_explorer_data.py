"""The explorer's data: what is wrong is named and passed over, documents are packed by what was asked, nothing breaks
out.

Run: pytest tests/report/test_explorer_data.py
"""

import base64
import fcntl
import hashlib
import json
import re
import zlib
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from adaptbench.errors import AdaptbenchError
from adaptbench.io import results
from adaptbench.report.explorer import columns, documents, embed, page, parts, rows
from adaptbench.report.figures import palette
from adaptbench.statistics import collect
from tests.support.explorer_results import DOCUMENTS, answers, configured, make, report, run, write


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def found(made):
    return parts.read([made])


def edited(folder, change):
    """runs.json as `change` leaves it."""
    path = folder / "runs.json"
    runs = json.loads(path.read_text())
    change(runs)
    path.write_text(json.dumps(runs))


def chunks_of(chunks):
    return [json.loads(zlib.decompress(base64.b64decode(text))) for text in chunks.encoded()]


def test_a_row_has_scores_with_intervals_what_was_forgotten_and_costs(found):
    full = next(row for row in rows.rows(found) if row["run"] == "full")
    mean, low, high = full["values"]["domain_facts/acc"]
    assert mean == 0.9
    assert low < mean < high
    assert full["values"]["general_facts/forgotten"][0] == pytest.approx(-0.7)
    assert full["values"]["cost/trained_parameters"] == [5000]
    assert full["values"]["cost/wall_seconds"] == [3.5]
    assert full["done"] == [0, 1]
    assert "Full fine-tuning" in full["method"][1]


def test_the_base_has_trained_nothing_and_forgotten_nothing(found):
    base = next(row for row in rows.rows(found) if row["run"] == "base" and row["track"] == "domain")
    assert not {key for key in base["values"] if key.startswith("cost/")} - {"cost/disk_bytes"}
    assert "general_facts/forgotten" not in base["values"]


def test_a_run_that_lacks_a_seed_says_why(found):
    lora = next(row for row in rows.rows(found) if row["run"] == "lora")
    assert lora["status"] == "1 of 2 seeds"
    assert "missing" in lora["reasons"][0]
    assert lora["reasons"][0].startswith("seed 1: left out: ")


def test_a_run_looks_as_in_the_figures(found):
    style = palette.styles([run for run in found.order if run["key"]["track"] == "domain"])
    assert {row["run"]: row["look"] for row in rows.rows(found) if row["track"] == "domain"} == style


def test_every_column_says_what_it_is(found):
    listed = columns.of_track(found.scores[found.scores["track"] == "domain"])
    assert [column.label for column in listed][:3] == ["domain facts", "general facts", "general facts forgotten"]
    assert all(column.about.endswith(".") for column in listed)


def test_a_newer_schema_a_second_key_and_no_number_are_named_and_the_rest_is_shown(tmp_path, capsys):
    folder, plan = make(tmp_path)

    def change(runs):
        runs[1]["schema_version"] = 99
        runs.append(runs[0] | {"hash": "another"})
        runs[3]["metrics"]["domain_facts"]["value"] = float("nan")
        runs.append({"key": {"track": "domain"}})

    edited(folder, change)
    scores = pd.read_csv(folder / "scores.csv")
    scores.loc[(scores["run"] == "moved") & (scores["task"] == "general_facts"), "mean"] = float("nan")
    scores.to_csv(folder / "scores.csv", index=False)
    page.write([(folder, plan)], tmp_path / "index.html")
    said = capsys.readouterr().err.splitlines()
    for text in (
        "domain/full seed 0: left out: schema version 99 is newer than 2; update adaptbench",
        "domain/base seed 0: two different runs of this key in collected; the first is shown",
        "domain/lora seed 0: domain_facts acc is not a number",
        "domain/moved: general_facts acc is not a number",
        "runs.json: entry 12 is damaged and left out",
    ):
        assert len([line for line in said if text in line]) == 1, text
        assert text in (tmp_path / "index.html").read_text()


def test_skipped_runs_are_rows_with_their_reason(tmp_path):
    folder, plan = make(tmp_path)
    edited(
        folder,
        lambda runs: runs.append(
            {"key": {"track": "domain", "run": "osf", "seed": 0}, "status": "skipped", "reason": "a tied head"}
        ),
    )
    row = next(row for row in rows.rows(parts.read([(folder, plan)])) if row["run"] == "osf")
    assert (row["status"], row["reasons"]) == ("skipped", ["seed 0: skipped: a tied head"])


def test_damaged_samples_and_scores_leave_the_rest(tmp_path, capsys):
    folder, plan = make(tmp_path)
    (folder / "samples.parquet").write_bytes(b"PAR1")
    (folder / "scores.csv").write_text("a,b\n1,2\n")
    page.write([(folder, plan)], tmp_path / "index.html")
    said = capsys.readouterr().err
    assert "no documents of it" in said
    assert "no scores of it" in said


def test_parts_are_one_page_and_a_part_that_was_never_made_is_passed_over(made, tmp_path):
    paths = [run(tmp_path, "base", answers(0.2)), run(tmp_path, "adept", answers(0.7))]
    collect.run(paths, tmp_path / "collected-ablation")
    second = report(tmp_path, {"ablation_adept": ("domain", ["base", "adept"])}, "ablation")
    found = parts.read([made, (tmp_path / "collected-ablation", second), (tmp_path / "never", second)])
    assert found.tables["ablation_adept"]["part"] == "ablation"
    assert ("domain", "adept", 0) in found.runs
    assert found.notices == []  # the base is the same run in both
    assert len(found.samples[(found.samples["run"] == "base") & (found.samples["task"] == "domain_facts")]) == DOCUMENTS
    with pytest.raises(AdaptbenchError, match="missing"):
        parts.read([(tmp_path / "never", second)])


def test_questions_are_kept_once_and_other_questions_are_other_entries(found):
    chunks = embed.Chunks()
    tasks, answered = documents.pack(found.samples, found.further, chunks)
    content = chunks_of(chunks)
    questions = content[tasks["domain"]["domain_facts"]["questions"]]
    assert len(questions["prompts"]) == DOCUMENTS + 10
    full, moved = (content[answered["domain"][name]]["tasks"]["domain_facts"]["0"] for name in ("full", "moved"))
    plain = content[answered["domain"]["base"]]["tasks"]["domain_facts"]["0"]
    assert plain["entries"] == full["entries"]
    assert len(set(plain["entries"]) & set(moved["entries"])) == DOCUMENTS - 10
    assert plain["values"] == "1" * 6 + "0" * 24


def test_only_main_metrics_are_read(tmp_path):
    further = [one | {"metric": "tokens"} for one in answers(0.5)]
    run(tmp_path, "full", answers(0.5) + further)
    samples = results.read_samples(
        tmp_path / "runs/domain/full/seed0/samples.parquet", {"acc"}, {"domain_facts", "general_facts"}
    )
    assert set(samples["metric"]) == {"acc"}
    other = results.read_samples(tmp_path / "runs/domain/full/seed0/samples.parquet", {"acc"}, {"general_facts"})
    assert set(other["metric"]) == {"acc", "tokens"}  # of a task that nobody knows every metric is read


def test_equal_results_give_equal_bytes(made, tmp_path):
    page.write([made], tmp_path / "a.html")
    page.write([made], tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_policy_names_every_script_and_data_are_nothing_but_base64(tmp_path):
    text = write(tmp_path).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1).replace("&#39;", "'")
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    for data in re.findall(r'<script type="text/plain"[^>]*>(.*?)</script>', text, re.DOTALL):
        assert re.fullmatch(r"[A-Za-z0-9+/=]*", data)
    assert not re.search(r"(src|href)=\"?(https?:)?//", text)


def test_a_lone_half_of_a_pair_and_a_number_without_end(tmp_path):
    chunks = embed.Chunks()
    assert chunks.add({"a": "\ud800"}) == 0
    assert chunks.add({"a": "\ud800"}) == 0
    assert chunks_of(chunks) == [{"a": "\ud800"}]
    with pytest.raises(ValueError, match="Out of range"):
        chunks.add(float("inf"))


def test_unknown_methods_are_shown_by_their_names():
    assert rows.method("x", configured() | {"tuner": {"kind": "of_tomorrow"}}, [])[1] == "of_tomorrow"


def test_runs_that_were_all_skipped_make_a_page(tmp_path, capsys):
    skipped = {"config": None, "evaluation": {}, "status": "skipped", "reason": "a tied head"}
    path = run(tmp_path, "base", [], **skipped)
    collect.run([path], tmp_path / "collected")
    page.write([(tmp_path / "collected", report(tmp_path, {"domain": ("domain", ["base"])}))], tmp_path / "index.html")
    assert capsys.readouterr().err == ""
    assert "1 runs on 1 track" in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize("part", ["metrics", "cost", "model", "provenance"])
@pytest.mark.parametrize("damage", [None, ["x"], {}, {"x": 1}])
def test_a_damaged_run_is_named_or_shown_without_what_it_lacks(tmp_path, made, part, damage):
    folder = tmp_path / "collected"
    folder.mkdir()
    for file in made[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    edited(folder, lambda runs: runs[1].update({part: damage}))
    found = parts.read([(folder, made[1])])
    assert len(rows.rows(found)) == 8
    assert page._content(found, embed.Chunks())["rows"]
    assert page._facts(found)["runs"] == 8
    if found.runs["domain", "full", 0]["status"] != "done":
        assert found.notices == ["domain/full seed 0: left out: its run.json is damaged"]


def test_a_page_that_waits_for_another_sees_what_was_collected_meanwhile(tmp_path):
    shown = (tmp_path / "collected", write_collected(tmp_path, "base"))
    out = tmp_path / "index.html"
    with out.with_name(".index.html.lock").open("w") as turn, ThreadPoolExecutor(1) as jobs:
        fcntl.flock(turn, fcntl.LOCK_EX)
        waiting = jobs.submit(page.write, [shown], out)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=1)
        assert not out.exists()
        write_collected(tmp_path, "base", "full")
        fcntl.flock(turn, fcntl.LOCK_UN)
        waiting.result(timeout=60)
    assert "2 runs" in out.read_text()


def write_collected(root, *names):
    """Collect the domain's runs of these names; returns the report."""
    collect.run([run(root, name, answers(0.5)) for name in names], root / "collected")
    return report(root, {"domain": ("domain", list(names))})
