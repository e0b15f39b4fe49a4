"""The check of trajectories: a bad record is refused in one line that says where it is and what is wrong with it.

Run: python -m pytest tests/agent/test_trajectory.py
"""

import copy
import json

import pytest

from adaptbench.agent.trajectory import check, check_tools
from adaptbench.errors import AdaptbenchError


def _step(decision="caller", **fields):
    blank = dict.fromkeys(("action", "arguments", "observation", "answer"), "")
    call = {"action": "add", "arguments": '{"a": 1}', "observation": "1"} if decision == "caller" else {}
    answer = {"answer": "It is 1."} if decision == "summarizer" else {}
    return {"thought": "I think.", "decision": decision, **blank, **call, **answer, **fields}


def _tool(name="add", **fields):
    return {"name": name, "description": "a plus b", "parameters": '{"a": "number"}', **fields}


GOOD = {"instruction": "Add.", "tools": [_tool(), _tool("sub")], "steps": [_step(), _step(), _step("summarizer")]}


def _problem(record):
    with pytest.raises(AdaptbenchError) as caught:
        check(record, "train.jsonl:3")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    "steps",
    [
        GOOD["steps"],
        [_step("summarizer")],
        [_step("give up")],
        [_step(), _step("give up")],
        [_step(thought="", arguments="{}", observation="two\nlines"), _step("summarizer", answer="two\nlines")],
        [_step(arguments='{"a": 1, "a": [2, {"b": null}]}'), _step("summarizer")],
        [_step(arguments=' {"a":\n1} '), _step("give up")],
        [_step(observation="error: no"), _step(action="sub"), _step("summarizer")],
        [_step(thought="Action: add"), _step("summarizer", thought="Give up")],
    ],
)
def test_a_good_trajectory_passes_and_stays_as_it_is(steps):
    record = copy.deepcopy(GOOD) | {"steps": steps, "more": "is allowed"}
    before = copy.deepcopy(record)
    check(record, "here")
    assert record == before


@pytest.mark.parametrize("instruction", [None, "", " \n", 3, ["Add."]])
def test_an_instruction_is_text(instruction):
    assert _problem(GOOD | {"instruction": instruction}) == "train.jsonl:3: 'instruction' must be text"


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        (None, "'tools' must be a list with at least one tool"),
        ([], "'tools' must be a list with at least one tool"),
        ({"add": _tool()}, "'tools' must be a list with at least one tool"),
        ("add", "'tools' must be a list with at least one tool"),
        (["add"], "each tool needs 'name' as text"),
        ([_tool(), {}], "each tool needs 'name' as text"),
        ([_tool(name=3)], "each tool needs 'name' as text"),
        ([_tool(description=None)], "each tool needs 'description' as text"),
        ([_tool(parameters={"a": "number"})], "each tool needs 'parameters' as text"),
        ([_tool(parameters="")], "tool 'add': 'parameters' must be a JSON object"),
        ([_tool(parameters="[]")], "tool 'add': 'parameters' must be a JSON object"),
        ([_tool(parameters='{"a": NaN}')], "tool 'add': 'parameters' must be a JSON object"),
        ([_tool(name="")], "a tool's name must be one line without spaces at its ends: ''"),
        ([_tool(name="add ")], "a tool's name must be one line without spaces at its ends: 'add '"),
        ([_tool(name="a\nb")], "a tool's name must be one line without spaces at its ends: 'a\\nb'"),
        ([_tool(), _tool("sub"), _tool()], "the tool 'add' is offered twice"),
    ],
)
def test_bad_tools_are_named(tools, said):
    assert _problem(GOOD | {"tools": tools}) == f"train.jsonl:3: {said}"
    with pytest.raises(ValueError, match=r".") as caught:
        check_tools(tools)
    assert str(caught.value) == said


def test_tools_are_returned_by_name():
    assert check_tools(GOOD["tools"]) == {"add", "sub"}


@pytest.mark.parametrize("steps", [None, [], {}, "steps", 3])
def test_there_is_at_least_one_step(steps):
    assert _problem(GOOD | {"steps": steps}) == "train.jsonl:3: 'steps' must be a list with at least one step"


@pytest.mark.parametrize("name", ["thought", "decision", "action", "arguments", "observation", "answer"])
@pytest.mark.parametrize("value", [None, 3, ["x"], {"a": 1}, "missing"])
def test_every_field_of_every_step_is_text(name, value):
    steps = copy.deepcopy(GOOD["steps"])
    if value == "missing":
        del steps[1][name]
    else:
        steps[1][name] = value
    assert _problem(GOOD | {"steps": steps}) == f"train.jsonl:3: step 2: {name!r} must be text"


@pytest.mark.parametrize(
    ("number", "bad", "said"),
    [
        (1, "step", "'thought' must be text"),
        (2, None, "'thought' must be text"),
        (1, _step(thought="two\nlines"), "'thought' must be one line"),
        (3, _step("summarizer", thought="line\n"), "'thought' must be one line"),
        (2, _step(decision=""), "'decision' must be one of caller, summarizer, give up, not ''"),
        (2, _step(decision="Caller\n"), "'decision' must be one of caller, summarizer, give up, not 'Caller\\n'"),
        (2, _step(action="mul"), "the action 'mul' is not an offered tool"),
        (2, _step(action="add "), "the action 'add ' is not an offered tool"),
        (2, _step(action="a\nb"), "the action 'a\\nb' is not an offered tool"),
        (2, _step(action=""), "the action '' is not an offered tool"),
        (2, _step(arguments=""), "the arguments of 'add' must be a JSON object, not ''"),
        (2, _step(arguments="[1]"), "the arguments of 'add' must be a JSON object, not '[1]'"),
        (2, _step(arguments='{"a": NaN}'), "the arguments of 'add' must be a JSON object, not '{\"a\": NaN}'"),
        (2, _step(arguments="{\n" * 50),
         f"the arguments of 'add' must be a JSON object, not {chr(39)}{'{' + chr(92) + 'n'}"),
        (1, _step(observation=""), "the call of 'add' has no observation"),
        (1, _step("summarizer"), "only the last step may answer or give up"),
        (2, _step("give up"), "only the last step may answer or give up"),
        (3, _step(), "the last step must answer or give up"),
        (3, _step("summarizer", answer=""), "'answer' must be text"),
        (3, _step("summarizer", answer=" \n"), "'answer' must be text"),
        (3, _step("give up", answer="It is 1."), "a step that gives up has no answer"),
    ],
)  # fmt: skip
def test_a_bad_step_is_named_by_its_number(number, bad, said):
    steps = copy.deepcopy(GOOD["steps"])
    steps[number - 1] = bad
    message = _problem(GOOD | {"steps": steps})
    assert message.startswith(f"train.jsonl:3: step {number}: {said}")
    assert len(message) < 200


def test_the_first_of_several_faults_is_told():
    steps = [_step(action="mul"), _step(arguments=""), _step()]
    assert _problem(GOOD | {"steps": steps}) == "train.jsonl:3: step 1: the action 'mul' is not an offered tool"


def test_what_is_good_is_good_after_writing_and_reading():
    read = json.loads(json.dumps(GOOD))
    check(read, "here")
    assert read == GOOD
