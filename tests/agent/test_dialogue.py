"""The dialogue: what a role is taught it reads back, whatever the text, and training and both evaluations ask alike.

Run: python -m pytest tests/agent/test_dialogue.py
"""

import json
import random
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptbench.agent import dialogue, episodes
from adaptbench.agent.samples import prompt_ids, role_examples
from adaptbench.agent.toolbox import Toolbox
from adaptbench.agent.trajectory import check
from adaptbench.benchmarks.agent import world
from adaptbench.data.packing import IGNORED

THOROUGH = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
MARKERS = (
    "Action: x", "Action Input: {}", "Answer: 5", "Give up", "Next: caller", "Next: give up", "Observation: 5",
    "Thought: t",
    "Task: t", "Tools:", "Thought:", "Next: caller", "Next: summarizer", "Next: (missing)", "",
)  # fmt: skip
FIELDS = {"thought", "decision", "action", "arguments", "observation", "answer"}

# --- what a trajectory may hold

lines = st.text().map(lambda text: text.replace("\n", "\r")) | st.sampled_from(MARKERS)
texts = st.lists(lines, min_size=1, max_size=4).map("\n".join)
tool_names = lines.map(str.strip).filter(bool)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
arguments = st.dictionaries(texts, values, max_size=3).map(dialogue.canonical) | st.dictionaries(
    texts, values, max_size=3
).map(lambda value: json.dumps(value, indent=1))


def _step(decision, thought, action, written, observation, answer):
    if decision == "caller":
        return dialogue.step(thought, decision, action=action, arguments=written, observation=observation)
    return dialogue.step(thought, decision, answer=answer if decision == "summarizer" else "")


answers = texts.filter(str.strip)
steps = st.builds(_step, st.sampled_from(dialogue.DECISIONS), lines, tool_names, arguments, texts.filter(bool), answers)


def _is_admitted(one):
    """The step in a trajectory passes the check that guards training and evaluation."""
    end = [] if one["decision"] != "caller" else [dialogue.step("", "give up")]
    tools = [{"name": one["action"] or "tool", "description": "", "parameters": "{}"}]
    check({"instruction": "x", "tools": tools, "steps": [one, *end]}, "here")


# --- reading back


@THOROUGH
@given(steps)
def test_every_role_reads_back_what_it_is_taught_to_write(one):
    _is_admitted(one)
    thought, decision = one["thought"], one["decision"]
    blank = dict.fromkeys(FIELDS, "")
    expected = {
        "assistant": one | {"observation": ""},
        "planner": blank | {"thought": thought, "decision": decision},
        "caller": blank | {"decision": "caller", "action": one["action"], "arguments": one["arguments"]},
        "summarizer": blank | {"decision": "summarizer", "answer": one["answer"]},
    }
    for role in dialogue.ROLES:
        written = dialogue.target(role, one)
        needed = role in ("assistant", "planner") or role == decision
        assert (written is not None) == needed
        if written is not None:
            assert dialogue.parse(role, written) == expected[role]


@pytest.mark.parametrize("role", dialogue.ROLES)
@THOROUGH
@given(text=st.text() | texts | texts.map(lambda text: f" thought\n{text}"))
def test_any_text_is_a_whole_step_of_text(role, text):
    read = dialogue.parse(role, text)
    assert read.keys() == FIELDS
    assert read["decision"] in (*dialogue.DECISIONS, *([None] if role in ("assistant", "planner") else []))
    assert all(isinstance(value, str) for name, value in read.items() if name != "decision")
    assert "\n" not in read["thought"]
    assert "\n" not in read["action"]
    if read["decision"]:
        written = dialogue.target(role, read)
        assert written is not None
        assert dialogue.parse(role, written) == read, "what was read is not what is written of it"


@pytest.mark.parametrize(
    ("role", "text", "read"),
    [
        ("assistant", " t\nAction: add\nAction Input: {}", ("t", "caller", "add", "{}", "")),
        ("assistant", " t\nAction:  add \nAction Input: {}", ("t", "caller", "add", "{}", "")),
        ("caller", "Action: add\t\nAction Input: {}", ("", "caller", "add", "{}", "")),
        ("assistant", "t\nAction: add\nAction Input: {}", ("t", "caller", "add", "{}", "")),
        ("assistant", " t\nAction: add", ("t", "caller", "add", "{}", "")),
        ("assistant", " t\nAction: add\nAction Input:", ("t", "caller", "add", "", "")),
        ("assistant", ' t\nAction: add\nAction Input:{"a": 1}', ("t", "caller", "add", '{"a": 1}', "")),
        ("assistant", " t\nAction: add\nand\nAction Input: {\n}", ("t", "caller", "add", "{\n}", "")),
        ("assistant", " t\nAction: add\nAction Input: {}\nObservation: 5",
         ("t", "caller", "add", "{}\nObservation: 5", "")),
        ("assistant", " t\nAnswer: 5\nAction: add", ("t", "summarizer", "", "", "5\nAction: add")),
        ("assistant", " t\nAction: Answer: 5", ("t", "caller", "Answer: 5", "{}", "")),
        ("assistant", " t\nAction Input: {}\nAction: a", ("t Action Input: {}", "caller", "a", "{}", "")),
        ("assistant", " t\nGive up \n", ("t", "give up", "", "", "")),
        ("assistant", " t\nGive up now", ("t Give up now", None, "", "", "")),
        ("assistant", " t\nGive up\nAnswer: 5", ("t Give up", "summarizer", "", "", "5")),
        ("assistant", " one\ntwo\nAnswer: 5", ("one two", "summarizer", "", "", "5")),
        ("assistant", "Action: add\nAction Input: {}", ("Action: add Action Input: {}", None, "", "", "")),
        ("assistant", " t\naction: add", ("t action: add", None, "", "", "")),
        ("assistant", "", ("", None, "", "", "")),
        ("planner", " t\nNext: caller\nAction: add", ("t", "caller", "", "", "")),
        ("planner", " t\nNext: summarizer ", ("t", "summarizer", "", "", "")),
        ("planner", " t\nNext: give up", ("t", "give up", "", "", "")),
        ("planner", " t\nNext: Caller", ("t", None, "", "", "")),
        ("planner", " t\nNext: (missing)\nNext: caller", ("t", None, "", "", "")),
        ("planner", " t", ("t", None, "", "", "")),
        ("caller", " Action: add\nAction Input: {}", ("", "caller", "add", "{}", "")),
        ("caller", "Action: add\nAction Input: {}", ("", "caller", "add", "{}", "")),
        ("caller", "Action: \nAction Input: {}", ("", "caller", "", "{}", "")),
        ("caller", " well\nAction: add\nAction Input: {}", ("", "caller", "add", "{}", "")),
        ("caller", " Action Input: {}\nAction: add", ("", "caller", "add", "{}", "")),
        ("caller", " Answer: 5\nAction: add", ("", "caller", "", "", "")),
        ("caller", " Give up", ("", "caller", "", "", "")),
        ("summarizer", "Action: add", ("", "summarizer", "", "", "Action: add")),
        ("summarizer", "\nAnswer: Answer: 5", ("", "summarizer", "", "", "Answer: 5")),
        ("summarizer", " Answer: 5", ("", "summarizer", "", "", "5")),
        ("summarizer", " 5\n", ("", "summarizer", "", "", " 5\n")),
    ],
)  # fmt: skip
def test_the_first_marker_at_the_beginning_of_a_line_decides(role, text, read):
    thought, decision, action, written, answer = read
    expected = dialogue.step(thought, decision, action=action, arguments=written, answer=answer)
    assert dialogue.parse(role, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "\nGive up" * 100_000,
        "\nGive up" + "\n" * 1_000_000 + "x",
        "\nAction: " * 100_000,
        "\nAction" * 100_000 + "\nNext:" * 100_000,
        " " * 1_000_000,
    ],
    ids=range(5),
)
@pytest.mark.parametrize("role", dialogue.ROLES)
def test_a_long_text_is_read_in_time_that_grows_with_its_length_alone(role, text):
    before = time.thread_time()
    dialogue.parse(role, text)
    assert time.thread_time() - before < 1


# --- arguments


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        (' {"a": 1}\n', {"a": 1}),
        ('{"a": [true, null, 1.5, {"b": "\\n"}]}', {"a": [True, None, 1.5, {"b": "\n"}]}),
        ('{"a": 1, "a": 2}', {"a": 2}),  # as everywhere in JSON: the last one counts
        ("", None),
        ("[]", None),
        ("3", None),
        ("null", None),
        ('"{}"', None),
        ('{"a": NaN}', None),
        ('{"a": Infinity}', None),
        ('{"a": [-Infinity]}', None),
        ("{'a': 1}", None),
        ('{"a": 1,}', None),
        ('{"a": 1} x', None),
        ('{"a": 1}\nObservation: 5', None),
        ('{"a": "\n"}', None),
        ("{" * 100_000, None),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, None),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", None),
        ('{"a": ' + "1" * 100_000 + "}", None),
    ],
    ids=range(21),
)
def test_arguments_are_a_json_object_or_nothing(text, value):
    assert dialogue.parse_arguments(text) == value


@THOROUGH
@given(st.text() | texts | st.text(alphabet='{}[]",: 0aN\\u'))
def test_any_text_is_arguments_or_nothing(text):
    assert isinstance(dialogue.parse_arguments(text), dict | None)


@THOROUGH
@given(st.dictionaries(texts, values, max_size=3))
def test_written_arguments_are_one_line_and_read_back(value):
    written = dialogue.canonical(value)
    assert "\n" not in written
    assert dialogue.parse_arguments(written) == value


def test_arguments_that_json_does_not_know_are_not_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        dialogue.canonical({"a": float("nan")})


# --- what the roles are asked

TOOLS = [
    {"name": "price", "description": "coins for an item", "parameters": '{"item": ""}'},
    {"name": "today", "description": "date of this day", "parameters": "{}"},
    {"name": "add", "description": "a plus b", "parameters": '{"a": "", "b": ""}'},
]
HISTORY = [
    dialogue.step("I look.", "caller", action="price", arguments='{"item": "cup"}', observation="error: no cup here"),
    dialogue.step("Again.", "caller", action="price", arguments='{"item": "mug"}', observation="5"),
]
SHOWN_TOOLS = "Tools:\nprice(item): coins for an item\ntoday(): date of this day\nadd(a, b): a plus b\n"
SHOWN_HISTORY = (
    "Task: How much?\n"
    'Thought: I look.\nAction: price\nAction Input: {"item": "cup"}\nObservation: error: no cup here\n'
    'Thought: Again.\nAction: price\nAction Input: {"item": "mug"}\nObservation: 5\n'
)


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("assistant", f"{SHOWN_TOOLS}{SHOWN_HISTORY}Thought:"),
        ("planner", f"{SHOWN_TOOLS}{SHOWN_HISTORY}Thought:"),
        ("caller", f"{SHOWN_TOOLS}{SHOWN_HISTORY}Thought: I know.\nNext: caller\n"),
        ("summarizer", f"{SHOWN_HISTORY}Thought: I know.\nNext: summarizer\n"),
    ],
)
def test_the_roles_read_the_same_history_and_only_the_summarizer_no_tools(role, text):
    assert dialogue.prompt(role, "How much?", TOOLS, HISTORY, "I know.") == text


@settings(THOROUGH, max_examples=60)
@given(st.lists(steps, max_size=4), lines, lines)
def test_whatever_has_happened_all_roles_read_the_same_of_it(history, thought, instruction):
    told = {role: dialogue.prompt(role, instruction, TOOLS, history, thought) for role in dialogue.ROLES}
    now = f"Thought: {thought}\n"
    past = {
        "assistant": told["assistant"].removeprefix(SHOWN_TOOLS).removesuffix("Thought:"),
        "planner": told["planner"].removeprefix(SHOWN_TOOLS).removesuffix("Thought:"),
        "caller": told["caller"].removeprefix(SHOWN_TOOLS).removesuffix(f"{now}Next: caller\n"),
        "summarizer": told["summarizer"].removesuffix(f"{now}Next: summarizer\n"),
    }
    assert len(set(past.values())) == 1
    assert past["planner"].startswith(f"Task: {instruction}\n")
    for one in history:
        said = [one["thought"], one["action"], one["arguments"], one["observation"]]
        assert all(part in past["planner"] for part in said)


def test_the_history_reads_as_the_single_model_wrote_it():
    """So that what a model reads of itself is what it was trained to write, and is computed once in training."""
    for one in HISTORY:
        written = dialogue.CUES["assistant"] + dialogue.target("assistant", one)
        assert dialogue.past_step(one) == f"{written}\nObservation: {one['observation']}\n"


def test_a_role_writes_the_lines_that_the_single_model_writes_in_its_place():
    """A copy of the single model then starts its own part from what it knows; only who is next stands between."""
    last = dialogue.step("Done.", "summarizer", answer="It is 5.")
    for one in [*HISTORY, last]:
        whole = dialogue.target("assistant", one)
        planned = dialogue.target("planner", one)
        assert dialogue.CUES["planner"] == dialogue.CUES["assistant"]
        assert planned.endswith(f"\nNext: {one['decision']}")
        assert dialogue.CUES[one["decision"]] == f"Next: {one['decision']}\n"
        assert whole == planned.removesuffix(f"Next: {one['decision']}") + dialogue.target(one["decision"], one)


def test_no_two_roles_are_asked_in_the_same_words_for_different_texts():
    """One model in all three roles must see from the prompt which it is: the planner ends where the caller begins."""
    one = HISTORY[0]
    planned = dialogue.prompt("planner", "x", TOOLS, []) + dialogue.target("planner", one)
    called = dialogue.prompt("caller", "x", TOOLS, [], one["thought"])
    assert called.startswith(planned)
    assert called != planned


# --- one wording for training, static and live evaluation

END = 0x110000


class Letters:
    """A tokenizer whose tokens are characters."""

    eos_token_id = END

    def __call__(self, texts, add_special_tokens=True):
        if isinstance(texts, str):
            return SimpleNamespace(input_ids=[ord(character) for character in texts])
        return SimpleNamespace(input_ids=[[ord(character) for character in text] for text in texts])


def _text(ids):
    return "".join(chr(i) for i in ids if i != END)


@pytest.fixture(scope="module")
def problems():
    """Trajectories of the built-in world with what a live episode needs."""
    made = world.build(world.Config(train_problems=40, nicknames=1.0, unsolvable=0.3), 0, {})["train"]
    return random.Random(0).sample(made, 40)


@pytest.mark.parametrize("single", [True, False], ids=["single", "team"])
def test_a_right_live_episode_and_a_static_one_ask_exactly_what_was_trained(problems, single):
    roles = ("assistant",) if single else ("planner", "caller", "summarizer")
    trained = {}
    for number, one in enumerate(problems):
        for example in role_examples([one], roles, Letters(), 10**6):
            start = next(i for i, label in enumerate(example.labels) if label != IGNORED)
            assert example.labels[start:] == example.input_ids[start:]
            assert example.input_ids[-1] == END
            trained[number, _text(example.input_ids[:start])] = _text(example.input_ids[start:])
    by_problem = {one["instruction"] + json.dumps(one["tools"]): number for number, one in enumerate(problems)}
    asked = set()

    def respond(role, requests):
        written = []
        for one in requests:
            prompt = _text(prompt_ids(Letters(), role, {"thought": "", **one}, None) or [])
            assert prompt == dialogue.prompt(role, **one)
            key = (by_problem[one["instruction"] + json.dumps(one["tools"])], prompt)
            asked.add(key)
            written.append(episodes.Written(trained[key], 1))
        return written

    box = Toolbox(world.functions(world.Config(), 0), seconds=60)
    played = episodes.play(problems, respond, [box] * len(problems), single=single, max_turns=10)
    assert [one.steps for one in played] == [one["steps"] for one in problems]
    assert asked == set(trained)
    asked.clear()
    for one in problems:
        known = {"instruction": one["instruction"], "tools": one["tools"]}
        history = [{**known, "history": one["steps"][:i]} for i in range(len(one["steps"]))]
        turns = episodes.steps(history, respond, single=single)
        assert [turn.step for turn in turns] == [step | {"observation": ""} for step in one["steps"]]
    assert asked == set(trained)


def test_there_is_one_fallback_and_it_is_the_call():
    assert dialogue.DECISIONS == ("caller", "summarizer", "give up")
    assert dialogue.FALLBACK == "caller"
    assert dialogue.parse("planner", f" t\n{dialogue.ASSUMED}")["decision"] is None
