"""Whatever a model, a method's name or a reason holds is shown as text and runs nothing, in a real browser.

Run: pytest tests/report/test_explorer_hostile.py
"""

import json

import pytest

from adaptbench.report.explorer import page
from adaptbench.statistics import collect
from tests.support.explorer_results import report, row, run
from tests.support.hostile_texts import HOSTILE

TEXTS = [text.replace("alert(1)", "window.ran=1") for text in HOSTILE]


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    named = "<img src=x onerror=window.ran=1>"
    hostile = [
        row("domain_facts", i, 1.0, prompt=text, prediction=text, target=text) for i, text in enumerate(TEXTS)
    ]  # fmt: skip
    episodes = [
        row("agent_live", i, 1.0, prediction=json.dumps({"stopped": text, "steps": [dict.fromkeys(("thought", "action",
        "arguments", "observation"), text) | {"decision": "caller"}]}))
        for i, text in enumerate(TEXTS)
    ]  # fmt: skip
    odd = ["[" * 100_000, '{"steps": [null, 3, "x", {"thought": {"a": 1}}]}', '{"steps": {"__proto__": 1}}', "null"]
    episodes += [row("agent_live", len(TEXTS) + i, 0.0, prediction=text) for i, text in enumerate(odd)]
    paths = [run(root, name, hostile) for name in ("base", "full")]
    paths += [run(root, name, episodes, track="agent") for name in ("base", "single")]
    collect.run(paths, root / "collected")
    runs = json.loads((root / "collected/runs.json").read_text())
    for text in (named, "\u202egnp.\u2066"):
        runs.append(
            {"key": {"track": "domain", "run": text, "seed": 0}, "status": "skipped", "reason": "</script>" + named}
        )
    runs.append(runs[0] | {"key": {"track": named, "run": named, "seed": 0}, "config": None})
    runs.append(runs[0] | {"key": runs[0]["key"], "hash": named})
    (root / "collected/runs.json").write_text(json.dumps(runs))
    (root / "collected/comparisons.csv").write_text(f'"{named}",b\n"{named}","<b>"\n')
    plan = report(root, {"domain": ("domain", ["base", "full", named]), "agent": ("agent", ["base", "single"])})
    page.write([(root / "collected", plan)], root / "index.html")
    context = browser.new_context()
    shown = context.new_page()
    shown.set_default_timeout(20_000)
    shown.dialogs, shown.said = [], []
    shown.on("dialog", lambda dialog: (shown.dialogs.append(dialog.message), dialog.dismiss()))
    shown.on("console", lambda message: shown.said.append(message.text))
    shown.on("pageerror", lambda error: shown.said.append(str(error)))
    shown.goto((root / "index.html").as_uri())
    shown.wait_for_selector("html[data-ready]")
    yield shown
    context.close()


def nothing_ran(shown):
    return shown.evaluate("window.ran") is None and shown.dialogs == [] and shown.said == []


def test_answers_are_text(opened):
    opened.select_option("#which", "domain")
    opened.locator("#documents").scroll_into_view_if_needed()
    opened.locator(".card").first.wait_for()
    assert opened.locator("#list :is(script, img, svg, style, a, iframe, title, h1)").count() == 0
    for i, text in enumerate(TEXTS[:-1]):
        shown = (
            opened.locator(".card").nth(i).locator(".side").first.locator(".text").evaluate("(one) => one.textContent")
        )
        assert shown == text
    assert nothing_ran(opened)


def test_a_text_of_a_million_characters_is_cut_until_all_is_asked_for(opened):
    opened.select_option("#which", "domain")
    opened.locator("#documents").scroll_into_view_if_needed()
    side = opened.locator(".card").nth(len(TEXTS) - 1).locator(".side").first
    side.wait_for()
    assert len(side.inner_text()) < 3000
    side.get_by_role("button", name="Show all 1,000,003 characters").click()
    assert side.locator(".text").evaluate("(one) => one.textContent.length") == len(TEXTS[-1])
    assert nothing_ran(opened)


def test_marks_for_right_to_left_text_stay_inside_their_box(opened):
    box = opened.locator(".card .text").first
    box.wait_for()
    assert box.evaluate("(one) => getComputedStyle(one).unicodeBidi") == "plaintext"
    assert (
        opened.locator("#runs-table td bdi").first.evaluate("(one) => getComputedStyle(one).unicodeBidi") == "isolate"
    )


def test_episodes_are_text_whatever_their_form(opened):
    opened.select_option("#which", "agent")
    opened.locator("#documents").scroll_into_view_if_needed()
    opened.locator(".transcript").first.wait_for()
    said = opened.locator(".card").first.locator(".side").first.locator(".said").first
    assert said.locator(".text").evaluate("(one) => one.textContent") == TEXTS[0]
    assert opened.locator(".card").count() == len(TEXTS) + 4
    assert nothing_ran(opened)


def test_names_reasons_and_comparisons_are_text(opened):
    opened.select_option("#which", "")
    opened.get_by_role("button", name="Columns").click()
    opened.keyboard.press("Escape")
    opened.get_by_role("button", name="Filter").click()
    opened.locator(".dtsb-data").first.select_option(label="run")
    opened.keyboard.press("Escape")
    opened.locator("#chart").scroll_into_view_if_needed()
    opened.wait_for_selector("#chart .scatterlayer")
    assert opened.locator("#runs-table bdi", has_text="<img src=x").count() >= 2
    assert opened.locator("#gaps", has_text="</script>").count() == 1
    assert opened.locator("#comparison-tables td", has_text="<b>").count() == 1
    assert opened.locator("img").count() == 0
    assert nothing_ran(opened)


def test_a_script_that_got_in_would_not_run(opened):
    opened.evaluate(
        """() => {
            const box = document.createElement("div");
            box.innerHTML = "<img src='data:,x' onerror='window.ran=1'>";
            const script = document.createElement("script");
            script.textContent = "window.ran=1";
            document.body.append(box, script);
        }"""
    )
    opened.wait_for_timeout(300)
    assert opened.evaluate("window.ran") is None
    assert any("Content Security Policy" in text for text in opened.said)
    refused = opened.evaluate("fetch('https://example.invalid/').then(() => 'sent', () => 'refused')")
    assert refused == "refused"
