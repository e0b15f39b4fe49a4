"""The explorer's page in a browser: it opens from disk, sorts, filters, plots, compares documents, says where numbers
come from.

Run: pytest tests/report/test_explorer_page.py
"""

import json

import pytest
from playwright.sync_api import expect

from adaptbench.io import results
from adaptbench.report.explorer import page, parts
from adaptbench.report.figures import palette
from adaptbench.statistics import collect
from tests.support.explorer_results import DOCUMENTS, answers, make, report, run, write


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("results"))


class Opened:
    """A page and what it said and asked for while it was used."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1400, "height": 900}} | options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(20_000)
        self.said, self.asked = [], []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]")

    def shows(self, *runs):
        """Wait until the table has these runs in this order: it may be drawn a moment after a click."""
        expect(self.page.locator("#runs-table tbody tr td:first-child bdi")).to_have_text(runs)

    def note(self, text):
        self.page.locator("#documents-note", has_text=text).wait_for()

    def documents(self):
        """Scroll to the documents, which are read then."""
        self.page.locator("#documents").scroll_into_view_if_needed()
        self.page.locator(".card").first.wait_for()


@pytest.fixture(scope="module")
def shared(browser, path):
    one = Opened(browser, path)
    yield one
    one.context.close()


@pytest.fixture
def opened(shared):
    """The one page, as it was at first: another track and back, no words, all documents."""
    shared.page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
    for which in ("agent", "domain"):
        shared.page.select_option("#which", which)
    shared.page.get_by_label("Search in questions").fill("")
    if shared.page.locator("#filters input").count():
        shared.page.locator("#filters span").first.click()
    yield shared
    assert shared.said == []
    assert {url.partition(":")[0] for url in shared.asked} <= {"file", "blob"}  # a table that is saved is a blob


def test_the_head_says_what_the_page_is(opened):
    head = opened.page.locator("header").inner_text()
    assert "toy" in head
    assert "386,240 parameters, 6 layers" in head
    assert "8 runs on 3 tracks (domain, agent, reasoning)" in head
    assert opened.page.locator("#about").inner_text().startswith("The built-in domain")


def test_runs_sort_by_a_number_and_those_without_it_come_last(opened):
    opened.shows("base", "full", "lora", "moved")
    opened.page.locator("th", has_text="domain facts").click()
    opened.shows("full", "lora", "moved", "base")
    forgotten = opened.page.locator("th", has_text="general facts forgotten")
    forgotten.click()
    opened.shows("full", "lora", "moved", "base")
    forgotten.click()
    opened.shows("moved", "lora", "full", "base")


def test_a_cell_has_the_mean_and_the_interval(opened):
    cell = opened.page.locator("#runs-table tbody tr", has_text="full").locator("td").nth(1).inner_text().split("\n")
    assert cell[0] == "0.900"
    low, _, high = cell[1].partition(" \u2013 ")
    assert float(low) < 0.9 < float(high)


def test_search_and_filter_leave_the_runs_that_were_meant(opened):
    search = opened.page.locator("#table").get_by_role("searchbox")
    search.fill("lor")
    opened.shows("lora")
    search.fill("")
    opened.page.get_by_role("button", name="Filter").click()
    opened.page.locator(".dtsb-data").first.select_option(label="domain facts")
    opened.page.locator(".dtsb-condition").first.select_option(label="Greater Than")
    opened.page.locator("input.dtsb-value").fill("0.6")
    opened.page.locator("#table", has_text="1 runs (of 4)").wait_for()
    opened.shows("full")
    opened.page.keyboard.press("Escape")


def test_columns_hide_and_come_back(opened):
    heading = opened.page.locator("#runs-table th", has_text="trained parameters")
    assert heading.count() == 1
    for count in (0, 1):
        opened.page.get_by_role("button", name="Columns").click()
        opened.page.locator(".dt-button-collection").get_by_role("button", name="trained parameters").click()
        assert heading.count() == count
        opened.page.keyboard.press("Escape")
        opened.page.locator(".dt-button-collection").wait_for(state="detached")


def test_a_run_that_is_not_whole_says_why(opened):
    assert "1 of 2 seeds" in opened.page.locator("#runs-table").inner_text()
    assert "missing" in opened.page.locator("#gaps").inner_text()


def test_points_look_as_in_the_figures_and_have_their_intervals(opened, path):
    opened.page.locator("#chart").scroll_into_view_if_needed()
    opened.page.wait_for_selector("#chart .scatterlayer .trace")
    drawn = opened.page.evaluate(
        "document.getElementById('chart').data.map((one) => ({name: one.name, color: one.marker.color, up: "
        "one.error_y.array[0], y: one.y[0]}))"
    )
    found = parts.read([(path.parent / "collected", path.parent / "report-main.json")])
    look = palette.styles([run for run in found.order if run["key"]["track"] == "domain"])
    assert [one["name"] for one in drawn] == ["base", "full", "lora", "moved"]
    assert [one["color"] for one in drawn[1:]] == [look[one["name"]]["color"] for one in drawn[1:]]
    assert all(one["up"] > 0 for one in drawn)
    opened.page.select_option("#across", "cost/trained_parameters")
    opened.page.locator("#chart-note", has_text="base").wait_for()


def test_a_curve_of_runs_is_joined_in_its_own_colour(tmp_path, browser):
    names = {"base": 0.2, "full": 0.9, "line-0.25": 0.4, "line-0.5": 0.6}
    paths = [run(tmp_path, name, answers(share)) for name, share in names.items()]
    collect.run(paths, tmp_path / "collected")
    plan = report(tmp_path, {"domain": ("domain", list(names))})
    planned = json.loads(plan.read_text())
    for described in planned["order"]:
        name = described["key"]["run"]
        if name.startswith("line"):
            described["config"]["posthoc"] = {"kind": "wise_ft", "alpha": float(name[5:])}
    plan.write_text(json.dumps(planned))
    page.write([(tmp_path / "collected", plan)], tmp_path / "index.html")
    one = Opened(browser, tmp_path / "index.html")
    one.page.locator("#chart").scroll_into_view_if_needed()
    one.page.wait_for_selector("#chart .scatterlayer .trace")
    line, *points = one.page.evaluate(
        "document.getElementById('chart').data.map((one) => ({mode: one.mode, name: one.name, x: one.x, colour: "
        "one.line?.color ?? one.marker.color}))"
    )
    assert [point["name"] for point in points] == list(names)
    assert {point["mode"] for point in points} == {"markers"}
    assert line["mode"] == "lines"
    assert line["x"] == sorted(point["x"][0] for point in points)
    assert line["colour"] == points[2]["colour"] == points[3]["colour"] != points[1]["colour"]
    one.context.close()
    assert one.said == []


def test_documents_side_by_side_filtered_by_who_was_right(opened):
    opened.documents()
    opened.page.select_option("#pair-a", "full")
    opened.page.select_option("#pair-b", "lora")
    opened.note(f"{DOCUMENTS} of {DOCUMENTS} documents")
    opened.page.locator("#filters").get_by_text("only A right").click()
    opened.note("12 of 30")
    card = opened.page.locator(".card").first.inner_text()
    for text in ("Document 16", "Question 15?", "target 15", "A: full", "✓ right", "B: lora", "✗ wrong", "answer 15"):
        assert text in card
    opened.page.locator("#filters").get_by_text("only B right").click()
    opened.note("0 of 30")
    opened.page.locator("#filters").get_by_text("neither right").click()
    opened.note("3 of 30")
    opened.page.locator("#filters").get_by_text("all", exact=False).first.click()
    opened.page.get_by_label("Search in questions").fill("ANSWER 29")
    opened.note("1 of 30")


def test_more_documents_come_when_asked_for(opened):
    opened.documents()
    opened.page.select_option("#pair-b", "full")
    opened.note("30 of 30")
    assert opened.page.locator(".card").count() == 20
    opened.page.get_by_role("button", name="Show 10 more").click()
    assert opened.page.locator(".card").count() == DOCUMENTS


def test_documents_whose_hashes_disagree_are_left_out_and_counted(opened):
    opened.documents()
    opened.page.select_option("#pair-a", "full")
    opened.page.select_option("#pair-b", "moved")
    opened.note("20 of 20 documents. 10 documents are left out: their document or prompt hashes disagree")


def test_a_seed_that_one_run_lacks_is_said(opened):
    opened.documents()
    opened.page.select_option("#pair-b", "full")
    opened.page.select_option("#pair-seed", "1")
    opened.note("Run A (base) is shown under seed 0")


def test_episodes_are_read_by_role_and_latent_tokens_are_marked(opened):
    opened.page.select_option("#which", "agent")
    opened.documents()
    side = opened.page.locator(".side").first
    assert side.locator(".planner").first.inner_text().split("\n") == ["planner", "I need the sum."]
    assert side.locator(".caller").inner_text().split("\n")[1] == 'add {"a": "1"}'
    assert "error" in side.locator(".tool").get_attribute("class")
    assert "It is 3." in side.locator(".summarizer").inner_text()
    opened.page.select_option("#which", "reasoning")
    opened.page.locator("mark.latent").first.wait_for()
    mark = opened.page.locator("mark.latent").first
    assert "latent tokens 2" in opened.page.locator(".side").first.inner_text()
    assert (mark.inner_text(), mark.get_attribute("aria-label")) == ("◆◆", "2 latent tokens")


def test_where_a_number_comes_from(opened):
    opened.page.get_by_role("button", name="full").click()
    details = opened.page.locator("#details")
    details.get_by_text("tune-0123").wait_for()
    for summary in details.locator("summary").all():
        if summary.evaluate("(one) => !one.parentElement.open"):
            summary.click()
    text = details.inner_text()
    for part in (
        "c0ffee" * 6,
        "A Processor",
        "2.13.0",
        "training.learning_rate",
        "0.003",
        "tuner.kind",
        "Full fine-tuning",
    ):
        assert part in text, text


def test_everything_is_reached_with_the_keyboard(browser, path):
    opened = Opened(browser, path)
    press = opened.page.keyboard.press
    press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the runs"
    press("Enter")
    opened.page.locator("th .dt-column-order").nth(1).focus()
    assert "Higher is better" in opened.page.locator("#tip").inner_text()
    press("Enter")
    opened.page.locator("#runs-table tbody tr:first-child", has_text="full").wait_for()
    press("Escape")
    assert opened.page.locator("#tip").is_hidden()
    opened.documents()
    opened.page.locator("#filters input").first.focus()
    press("ArrowRight")
    opened.note("of 20 documents")
    assert opened.page.locator("#filters input").nth(1).is_checked()
    opened.context.close()
    assert opened.said == []


def test_on_a_phone_nothing_is_wider_than_the_screen(browser, path):
    phone = Opened(browser, path, viewport={"width": 390, "height": 800}, color_scheme="dark")
    for which in ("domain", "agent", ""):
        phone.page.select_option("#which", which)
        for section in ("plot", "documents", "run"):
            phone.page.locator(f"#{section}").scroll_into_view_if_needed()
        phone.page.wait_for_selector("#chart .scatterlayer")
        phone.page.locator(".card").first.wait_for()
        assert phone.page.evaluate("document.documentElement.scrollWidth") == 390
    box = phone.page.locator("#table .dt-layout-table > .dt-layout-cell")
    assert box.evaluate("(one) => one.scrollWidth > one.clientWidth"), "a table scrolls inside its box"
    phone.context.close()
    assert phone.said == []


def test_dark_and_light_by_the_system_and_by_hand(browser, path):
    one = Opened(browser, path, color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = one.page.evaluate(paper)
    switch = one.page.locator("#theme")
    switch.click()
    assert switch.inner_text() == "Theme: light"
    assert one.page.evaluate(paper) == "rgb(255, 255, 255)" != dark
    one.page.reload()
    assert switch.inner_text() == "Theme: light"
    switch.click()
    assert one.page.evaluate(paper) == dark
    one.context.close()


def test_a_page_of_skipped_runs_alone_opens(browser, tmp_path):
    skipped = run(tmp_path, "base", [], status="skipped", reason="a tied head")
    collect.run([skipped], tmp_path / "collected")
    page.write([(tmp_path / "collected", report(tmp_path, {"domain": ("domain", ["base"])}))], tmp_path / "index.html")
    one = Opened(browser, tmp_path / "index.html")
    one.shows("base")
    assert "seed 0: skipped: a tied head" in one.page.locator("#gaps").inner_text()
    assert one.page.locator("#documents-note").inner_text() == "There are no documents."
    one.context.close()
    assert one.said == []


def test_what_is_no_number_is_said_and_the_rest_is_shown(browser, tmp_path):
    collected, plan = make(tmp_path)
    samples = results.read_samples(collected / "samples.parquet")
    samples.loc[(samples["run"] == "full") & (samples["document"] == 0), "value"] = float("nan")
    results.write_samples(collected / "samples.parquet", samples)
    page.write([(collected, plan)], tmp_path / "index.html")
    one = Opened(browser, tmp_path / "index.html")
    assert "domain/full: domain_facts: 2 documents without a number" in one.page.locator(".notices").inner_text()
    one.documents()
    one.page.select_option("#pair-b", "full")
    one.page.locator(".card", has_text="not a number").wait_for()
    assert one.page.locator("#filters").inner_text().count("right") == 4
    one.context.close()
    assert one.said == []


def test_the_table_is_saved_as_numbers(opened):
    with opened.page.expect_download() as download:
        opened.page.get_by_role("button", name="Save as CSV").click()
    lines = download.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].startswith('"run","domain facts')
    assert lines[2].startswith('"full","0.9","0.9","-0.7')


def test_first_places_are_bold_and_the_shown_table_s_tests_are_listed(opened):
    bold = opened.page.locator("#runs-table tbody tr", has=opened.page.locator("td:nth-child(2) .first"))
    assert bold.locator("td:first-child bdi").all_inner_texts() == ["full"]
    assert opened.page.locator("#places").is_visible()
    tests = opened.page.locator("#comparison-tables")
    assert tests.locator("tbody tr", has_text="baseline").count() == 6
    assert tests.locator("tbody tr", has_text="baseline, general").count() == 3
    opened.page.select_option("#which", "reasoning")
    assert "lt-tuning" in tests.inner_text()
    assert "lora" not in tests.inner_text()
