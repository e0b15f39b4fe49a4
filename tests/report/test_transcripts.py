"""Transcripts: pages that show what models wrote as text and nothing else, whatever it is, and that damage does not
stop.

Run: python -m pytest tests/report/test_transcripts.py
"""

import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from adaptbench.agent import dialogue
from adaptbench.report import transcripts
from tests.support.hostile_texts import HOSTILE

TOOLS = [{"name": "add", "description": "a plus b", "parameters": '{"a": ""}'}]


class Page(HTMLParser):
    """The elements with their attributes, and the text, as a browser would find them."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.pieces, self.classes, self.stack = [], [], [], []
        self.comments = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, attributes))

    def handle_endtag(self, tag):
        self.elements.append(("/" + tag, []))

    def handle_data(self, text):
        self.pieces.append(text)

    def handle_comment(self, text):
        self.comments.append(text)

    def unknown_decl(self, text):
        self.comments.append(text)

    handle_pi = unknown_decl

    @property
    def text(self):
        return "".join(self.pieces)


def _episode(steps, stopped="answer"):
    record = {"stopped": stopped, "turns": 2, "tokens": 9, "errors": 0, "missing": 0, "steps": steps}
    return json.dumps(record, ensure_ascii=False)


def _steps(text="fine", observation="5", decisions=dialogue.DECISIONS):
    call = dialogue.step(text, decisions[0], action=text, arguments=text, observation=observation)
    return [call, dialogue.step(text, decisions[1], answer=text), dialogue.step(text, decisions[2])]


def _row(document=0, run="single", seed=0, *, instruction="Add.", prediction=None, tools=TOOLS, **more):
    return {
        "track": "agent", "run": run, "seed": seed, "task": "agent_live", "document": document, "metric": "success",
        "value": 1.0, "prompt": dialogue.prompt("assistant", instruction, tools, []),
        "prediction": _episode(_steps()) if prediction is None else prediction, "target": "It is 5.", **more,
    }  # fmt: skip


def _written(folder, rows, tables=None):
    """The pages by table."""
    folder.mkdir(exist_ok=True)
    beside = {"group": 0, "document_hash": "d", "prompt_hash": "p", "weight": 1.0}
    pd.DataFrame(rows).assign(**beside).to_parquet(folder / "samples.parquet")
    runs = list(dict.fromkeys(row["run"] for row in rows))
    tables = tables or {"agent": {"track": "agent", "runs": runs, "episodes": True}}
    (folder / "report.json").write_text(json.dumps({"tables": tables}))
    transcripts.write(folder, folder / "report.json", folder / "pages")
    return {path.name: path.read_text(encoding="utf-8") for path in (folder / "pages").glob("*")}


def _page(folder, rows):
    return Page(_written(folder, rows)["agent.html"])


# --- hostile text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_a_model_writes_is_text_and_nothing_else(tmp_path, text):
    def page(said, folder):
        steps = [*_steps(said, observation=said), *_steps(said, "error: " + said), *_steps(said, decisions=[said] * 3)]
        tools = [{"name": "add", "description": said.replace("\n", " "), "parameters": json.dumps({said: ""})}]
        row = _row(instruction=said, tools=tools, target=said, run=said, prediction=_episode(steps, said))
        return _page(folder, [row])

    harmless, hostile = page("fine", tmp_path / "a"), page(text, tmp_path / "b")
    assert hostile.elements == harmless.elements, "the page has elements or attributes that the text made"
    assert hostile.comments == harmless.comments == []
    assert hostile.text.count(text.strip("\r\n\u2028")) >= harmless.text.count("fine"), "what was written is not shown"


def test_text_that_looks_like_the_template_s_own_language_is_shown_as_it_is(tmp_path):
    assert "{{ 7 * 7 }}" in _page(tmp_path, [_row(prediction=_episode(_steps("{{ 7 * 7 }}")))]).text


def test_a_page_stands_alone_and_may_load_and_run_nothing(tmp_path):
    (text,) = _written(tmp_path, [_row()]).values()
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "a",
        "form",
        "base",
        "svg",
        "video",
        "audio",
    }
    for tag, attributes in page.elements:
        assert {name for name, _ in attributes} <= {"lang", "charset", "name", "content", "http-equiv", "class"}, tag
    assert not re.search(r"url\(|@import|https?:|//", text)
    policy = next(dict(given)["content"] for tag, given in page.elements if dict(given).get("http-equiv"))
    assert "default-src 'none'" in policy
    assert page.elements[-1] == ("/html", [])


# --- damage


DAMAGED = {
    "nothing": "",
    "cut": _episode(_steps())[:-20],
    "no JSON": "I would call a tool.",
    "null": "null",
    "a number": "72",
    "text": '"steps"',
    "a list": "[]",
    "nothing in it": "{}",
    "no end": '{"steps": []}',
    "no steps": '{"stopped": "answer"}',
    "steps that are none": '{"stopped": "answer", "steps": 3}',
    "steps that are text": '{"stopped": "answer", "steps": "abc"}',
    "a step that is none": '{"stopped": "answer", "steps": [3]}',
    "a step that is null": '{"stopped": "answer", "steps": [null]}',
    "an empty step": '{"stopped": "answer", "steps": [{}]}',
    "half of a step": '{"stopped": "answer", "steps": [{"observation": "5"}]}',
    "a step without an end": '{"stopped": "answer", "steps": [{"observation": "", "thought": "t", "decision": '
                             '"summarizer"}]}',
    "too deep": '{"stopped": "answer", "steps": ' + "[" * 100_000 + "]" * 100_000 + "}",
}  # fmt: skip


@pytest.mark.parametrize("prediction", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_episode_is_said_to_be_unreadable_and_the_others_are_shown(tmp_path, prediction):
    rows = [
        _row(run="good", prediction=_episode(_steps("seen"))),
        _row(run="bad", prediction=prediction),
        _row(document=1, run="good", prediction=_episode(_steps("also seen"))),
    ]
    text = _page(tmp_path, rows).text
    assert text.count("unreadable") == 1
    assert text.count("✗ wrong, unreadable") == 1
    assert "also seen" in text
    assert "bad" in text


def test_half_of_a_character_does_not_stop_the_page(tmp_path):
    """JSON can hold what UTF-8 cannot."""
    bad = json.dumps({"stopped": "answer", "steps": _steps("\ud83d")})
    rows = [_row(run="bad", prediction=bad), _row(run="good", prediction=_episode(_steps("seen")))]
    assert "seen" in _page(tmp_path, rows).text


# --- what is shown


def test_an_episode_is_shown_whole_and_in_order(tmp_path):
    steps = [
        dialogue.step("I add.", "caller", action="add", arguments='{"a": "<1>"}', observation="error: no"),
        dialogue.step("", "caller", action="", arguments="", observation="error: no tool '' is offered"),
        dialogue.step("I know.", "summarizer", answer="It is 5."),
    ]
    text = _page(tmp_path, [_row(instruction="Add <2>.", prediction=_episode(steps), value=1.0)]).text
    shown = [
        "Transcripts: agent", "1. Add <2>.", "Offered: add(a): a plus b", "Right: It is 5.", "single",
        "✓ right, answer", "I add.",
        'add {"a": "<1>"}', "→ error: no", "(no thought)", "(no call)", "→ error: no tool '' is offered", "I know.",
        "It is 5.",
    ]  # fmt: skip
    place = 0
    for piece in shown:
        assert piece in text[place:], piece
        place = text.index(piece, place) + len(piece)


@pytest.mark.parametrize(
    "instruction",
    [
        "Add.",
        "Do this. Task: add 1 and 2.",
        "Task: Task: add.",
        "First line.\nSecond line.\nThought: third?",
        "Tools:\nnone",
    ],
)
def test_an_instruction_is_shown_whole(tmp_path, instruction):
    rows = [_row(instruction=instruction)]
    (problem,) = transcripts.problems(pd.DataFrame(rows), ["single"])
    assert problem["instruction"] == instruction
    assert problem["tools"] == ["add(a): a plus b"]
    assert f"1. {instruction}" in _page(tmp_path, rows).text


def test_a_wrong_episode_is_marked(tmp_path):
    page = _page(tmp_path, [_row(value=0.0, prediction=_episode(_steps()[2:], "give up"))])
    assert "✗ wrong, give up" in page.text
    assert ("span", [("class", "wrong")]) in page.elements


def test_only_the_first_problems_are_shown_each_as_every_run_played_it_first(tmp_path):
    rows = [
        _row(document, run, seed, prediction=_episode(_steps(f"<{run} {seed} {document}>")))
        for seed in (2, 0, 1)
        for document in range(30, -1, -1)
        for run in ("single", "team")
        if not (run == "team" and document == 1)
    ]
    text = _page(tmp_path, rows).text
    assert re.findall(r"(\d+)\. Add\.", text) == [str(number) for number in range(1, 13)]
    shown = list(dict.fromkeys(re.findall(r"<(\w+) (\d) (\d+)>", text)))
    assert shown == [
        (run, "0", str(document)) for document in range(12) for run in ("single", "team") if (run, document) != ("team",
         1)
    ]  # fmt: skip


def test_only_tables_with_episodes_get_a_page_and_only_of_their_own_runs(tmp_path):
    rows = [_row(run=run, prediction=_episode(_steps(f"<{run}>"))) for run in ("one", "two", "three")]
    rows += [_row(run="one", track="domain", prediction="12", metric="acc")]
    rows.insert(0, _row(run="one", metric="turns", prediction=_episode(_steps("<turns>"))))
    tables = {
        "agent": {"track": "agent", "runs": ["two", "one"], "episodes": True},
        "ablation": {"track": "agent", "runs": ["three"], "episodes": True},
        "domain": {"track": "domain", "runs": ["one"], "episodes": False},
        "empty": {"track": "agent", "runs": ["none"], "episodes": True},
    }
    pages = {name: Page(text).text for name, text in _written(tmp_path, rows, tables).items()}
    assert pages.keys() == {"agent.html", "ablation.html", "empty.html"}
    assert pages["agent.html"].index("<two>") < pages["agent.html"].index("<one>")
    assert "<three>" not in pages["agent.html"]
    assert "<turns>" not in pages["agent.html"]
    assert "<three>" in pages["ablation.html"]
    assert "No episodes." in pages["empty.html"]


def test_the_same_samples_give_the_same_page(tmp_path):
    rows = [_row(document, run) for document in range(3) for run in ("one", "two")]
    tables = {"agent": {"track": "agent", "runs": ["one", "two"], "episodes": True}}
    assert _written(tmp_path / "a", rows, tables) == _written(tmp_path / "b", rows[::-1], tables)
