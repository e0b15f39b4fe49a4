"""Episodes: who is asked what in which order, how they end, and that nothing a model writes ever stops them.

Responders are scripted or pure functions of their prompts; no model is run.

Run: python -m pytest tests/agent/test_episodes.py
"""

import copy
import json
import random
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptbench.agent import dialogue, episodes
from adaptbench.agent.episodes import TOO_LONG, Written
from adaptbench.agent.scores import episode_scores, step_scores
from adaptbench.agent.toolbox import MAX_OBSERVATION, Toolbox, ToolError

THOROUGH = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
STOPS = {"answer", "give up", "turns", "repeat", TOO_LONG}


def _refuse(a):
    raise ToolError(f"not {a}")


FUNCTIONS = {
    "add": lambda a, b: a + b,
    "long": lambda: "x" * 5000,
    "refuse": _refuse,
    "hidden": lambda: "seen",
}
BOX = Toolbox(FUNCTIONS, seconds=60)  # on a busy machine, even nothing may take a second
TOOLS = [
    {"name": name, "description": "d", "parameters": "{}"}
    for name in ("add", "long", "refuse", "offered but not there")
]
PROBLEM = {"instruction": "Add.", "tools": TOOLS}


class Script:
    """Writes what it is told to, in order, and keeps who was asked what. None stands for a prompt that is too long."""

    def __init__(self, *lines):
        self.lines, self.asked = list(lines), []

    def __call__(self, role, asked):
        written = []
        for one in asked:
            self.asked.append((role, dialogue.prompt(role, **one)))
            expected, text = self.lines.pop(0)
            assert role == expected
            written.append(Written(text, 0 if text is None else 1))
        return written


def _play(script, *, single=False, max_turns=10, problem=PROBLEM):
    (episode,) = episodes.play([problem], script, [BOX], single=single, max_turns=max_turns)
    assert script.lines == [], "the episode stopped before its script did"
    assert episode.stopped in STOPS
    assert json.loads(json.dumps(episode.record())) == episode.record()
    return episode


def _call(number=1, action="add", thought="t"):
    return f' {thought}\nAction: {action}\nAction Input: {{"a": {number}, "b": 1}}'


def _of_team(number=1, action="add"):
    return [("planner", " t\nNext: caller"), ("caller", f' Action: {action}\nAction Input: {{"a": {number}, "b": 1}}')]


# --- who is asked what


def test_a_team_plans_calls_looks_and_answers():
    script = Script(
        ("planner", " I add.\nNext: caller"),
        ("caller", 'Action: add\nAction Input: {"a": 1, "b": 2}'),
        ("planner", " I know.\nNext: summarizer"),
        ("summarizer", "Answer: It is 3."),
    )
    episode = _play(script)
    tools = "Tools:\nadd(): d\nlong(): d\nrefuse(): d\noffered but not there(): d\n"
    past = 'Thought: I add.\nAction: add\nAction Input: {"a": 1, "b": 2}\nObservation: 3\n'
    assert script.asked == [
        ("planner", f"{tools}Task: Add.\nThought:"),
        ("caller", f"{tools}Task: Add.\nThought: I add.\nNext: caller\n"),
        ("planner", f"{tools}Task: Add.\n{past}Thought:"),
        ("summarizer", f"Task: Add.\n{past}Thought: I know.\nNext: summarizer\n"),
    ]
    assert episode.record() == {
        "stopped": "answer",
        "turns": 2,
        "tokens": 4,
        "errors": 0,
        "missing": 0,
        "steps": [
            dialogue.step("I add.", "caller", action="add", arguments='{"a": 1, "b": 2}', observation="3"),
            dialogue.step("I know.", "summarizer", answer="It is 3."),
        ],
    }


def test_a_single_model_writes_the_whole_of_every_step():
    script = Script(("assistant", _call(1)), ("assistant", " I know.\nAnswer: It is 2."))
    episode = _play(script, single=True)
    assert [role for role, _ in script.asked] == ["assistant"] * 2
    assert script.asked[1][1].endswith("Observation: 2\nThought:")
    assert (episode.stopped, episode.turns, episode.tokens) == ("answer", 2, 2)
    assert episode.steps[1]["answer"] == "It is 2."


@pytest.mark.parametrize("single", [True, False])
def test_giving_up_ends_the_episode(single):
    script = Script(("assistant", " t\nGive up") if single else ("planner", " t\nNext: give up"))
    episode = _play(script, single=single)
    assert (episode.stopped, episode.turns, episode.steps) == ("give up", 1, [dialogue.step("t", "give up")])


# --- how they end


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("turns", [1, 2, 10])
def test_it_ends_after_the_most_turns(turns, single):
    lines = [line for i in range(turns) for line in ([("assistant", _call(i))] if single else _of_team(i))]
    episode = _play(Script(*lines), single=single, max_turns=turns)
    assert (episode.stopped, episode.turns, len(episode.steps)) == ("turns", turns, turns)
    assert all(step["observation"] for step in episode.steps)


def test_an_answer_in_the_last_turn_counts():
    script = Script(("assistant", _call(1)), ("assistant", " t\nAnswer: 2"))
    assert _play(script, single=True, max_turns=2).stopped == "answer"


@pytest.mark.parametrize("single", [True, False])
def test_the_same_call_three_times_in_a_row_ends_it(single):
    lines = [line for _ in range(3) for line in ([("assistant", _call(7))] if single else _of_team(7))]
    episode = _play(Script(*lines), single=single)
    assert (episode.stopped, episode.turns) == ("repeat", 3)
    assert [step["observation"] for step in episode.steps] == ["8"] * 3


@pytest.mark.parametrize(
    "calls",
    [
        [(1, "add"), (1, "add"), (2, "add"), (1, "add"), (1, "add")],
        [(1, "add"), (1, "refuse"), (1, "add"), (1, "refuse"), (1, "add"), (1, "refuse")],
        [(1, "add"), (1, "add"), ("1.0", "add"), (1, "add"), (1, "add")],
    ],
)
def test_calls_between_make_it_no_repetition(calls):
    lines = [("assistant", _call(number, action)) for number, action in calls]
    assert _play(Script(*lines, ("assistant", " t\nAnswer: 2")), single=True).stopped == "answer"


def test_a_repetition_is_seen_wherever_it_begins_and_whatever_is_thought():
    lines = [("assistant", _call(number, thought=str(i))) for i, number in enumerate((1, 1, 2, 3, 3, 3))]
    assert _play(Script(*lines), single=True).stopped == "repeat"


@pytest.mark.parametrize(
    ("lines", "steps", "tokens"),
    [
        ([("planner", None)], 0, 0),
        ([*_of_team(), ("planner", None)], 1, 2),
        ([("planner", " t\nNext: caller"), ("caller", None)], 0, 1),
        ([*_of_team(), ("planner", " t\nNext: summarizer"), ("summarizer", None)], 1, 3),
    ],
)
def test_a_prompt_that_does_not_fit_ends_it(lines, steps, tokens):
    episode = _play(Script(*lines))
    assert (episode.stopped, len(episode.steps), episode.tokens) == (TOO_LONG, steps, tokens)
    assert episode.turns == steps + 1
    doc = {"solvable": True, "answer": "2", "calls": 1}
    assert episode_scores(doc, [json.dumps(episode.record())])["success"] == 0


def test_a_single_model_s_prompt_that_does_not_fit_ends_it():
    episode = _play(Script(("assistant", None)), single=True)
    assert (episode.stopped, episode.turns, episode.steps, episode.missing) == (TOO_LONG, 1, [], 0)


# --- what goes wrong goes on


@pytest.mark.parametrize(
    ("action", "given", "observation"),
    [
        ("divide", "{}", "error: no tool 'divide' is offered"),
        ("hidden", "{}", "error: no tool 'hidden' is offered"),
        ("offered but not there", "{}", "error: offered but not there cannot be run"),
        ("add", "{", "error: the arguments of add must be a JSON object"),
        ("add", "", "error: the arguments of add must be a JSON object"),
        ("add", '{"a": 1, "b": NaN}', "error: the arguments of add must be a JSON object"),
        ("add", '{"a": 1}', "error: add takes the arguments (a, b), not 'a'"),
        ("add", '{"a": 1, "b": "x"}', "error: add failed: TypeError"),
        ("refuse", '{"a": 1}', "error: not 1"),
    ],
)
@pytest.mark.parametrize("single", [True, False])
def test_a_call_that_fails_is_observed_and_the_episode_goes_on(single, action, given, observation):
    call = f"Action: {action}\nAction Input: {given}"
    if single:
        lines = [("assistant", f" t\n{call}"), ("assistant", " t\nAnswer: 2")]
    else:
        lines = [("planner", " t\nNext: caller"), ("caller", f" {call}")]
        lines += [("planner", " t\nNext: summarizer"), ("summarizer", " 2")]
    script = Script(*lines)
    episode = _play(script, single=single)
    assert (episode.stopped, episode.errors) == ("answer", 1)
    expected = dialogue.step("t", "caller", action=action, arguments=given, observation=observation)
    assert episode.steps[0] == expected
    assert f"Observation: {observation}\n" in script.asked[-1][1]


@pytest.mark.parametrize("text", ["", " Give up", " Answer: 5", " add(1, 2)"])
def test_a_caller_that_writes_no_call_has_called_nothing(text):
    script = Script(("planner", " t\nNext: caller"), ("caller", text), ("planner", " t\nNext: give up"))
    episode = _play(script)
    assert (episode.stopped, episode.errors) == ("give up", 1)
    assert episode.steps[0]["action"] == ""
    assert episode.steps[0]["observation"] == "error: no tool '' is offered"


def test_an_observation_is_cut():
    script = Script(("assistant", " t\nAction: long\nAction Input: {}"), ("assistant", " t\nAnswer: x"))
    episode = _play(script, single=True)
    assert MAX_OBSERVATION == 1024
    assert episode.steps[0]["observation"] == "x" * 1024
    assert f"Observation: {'x' * 1024}\nThought:" in script.asked[1][1]


# --- a decision that is missing


@pytest.mark.parametrize("text", ["", " t", " t\nNext: (missing)", " t\nNext: Caller", "Next: caller"])
def test_a_planner_s_missing_decision_is_counted_and_is_a_call_live_and_static(text):
    thought = dialogue.parse("planner", text)["thought"]
    call = ("caller", 'Action: add\nAction Input: {"a": 1, "b": 1}')
    episode = _play(Script(("planner", text), call, ("planner", " t\nNext: give up")))
    assert (episode.missing, episode.errors, episode.steps[0]["observation"]) == (1, 0, "2")
    (turn,) = episodes.steps([{**PROBLEM, "history": []}], Script(("planner", text), call), single=False)
    assert turn.missing
    assert turn.step == dialogue.step(thought, "caller", action="add", arguments='{"a": 1, "b": 1}')


def test_a_single_model_s_missing_decision_is_a_call_of_nothing_live_and_static():
    episode = _play(Script(("assistant", " so it is 2"), ("assistant", " t\nAnswer: 2")), single=True)
    assert (episode.missing, episode.errors) == (1, 1)
    assert episode.steps[0] == dialogue.step("so it is 2", "caller", observation="error: no tool '' is offered")
    asked = [{**PROBLEM, "history": []}]
    (turn,) = episodes.steps(asked, Script(("assistant", " so it is 2")), single=True)
    assert (turn.missing, turn.step) == (True, dialogue.step("so it is 2", "caller"))


def _requests(task, docs):
    arguments = ("", {"until": [], "max_gen_toks": 96})
    return [SimpleNamespace(doc=doc, task_name=task, args=arguments) for doc in docs]


def _static(gold, script, *, single):
    """The scores of one step through the decoding that evaluation uses."""
    from adaptbench.agent.language_model import answer_requests

    doc = {"ask": "step", **PROBLEM, "history": [], "step": gold}
    requests = _requests("steps", [doc])
    found = answer_requests(requests, lambda role, asked, most: script(role, asked), {}, single=single, max_turns=10)
    assert script.lines == []
    return step_scores(doc, [found[0]])


GOLD = dialogue.step("t", "caller", action="add", arguments='{"a": 1, "b": 1}', observation="2")


@pytest.mark.parametrize(
    ("lines", "missing", "unasked", "exact"),
    [
        ([("planner", " t\nNext: caller"), ("caller", f" {_call()[3:]}")], 0, 0, 1),
        ([("planner", " t"), ("caller", f" {_call()[3:]}")], 1, 0, 1),
        ([("planner", ""), ("caller", " what?")], 1, 0, 0),
        ([("planner", " t\nNext: summarizer"), ("summarizer", " 2")], 0, 0, 0),
        ([("planner", None)], 0, 1, 0),
        ([("planner", " t\nNext: caller"), ("caller", None)], 0, 1, 0),
    ],
)
def test_a_team_s_step_is_scored_as_one_model_s_with_what_was_missing(lines, missing, unasked, exact):
    scores = _static(GOLD, Script(*lines), single=False)
    assert (scores["missing"], scores["unasked"], scores["exact"]) == (missing, unasked, exact)
    assert scores["plan_acc"] <= 1 - unasked, "a step that was not asked decides nothing, rightly or wrongly"


@pytest.mark.parametrize("single", [True, False])
def test_a_call_without_an_input_has_no_arguments_in_static_and_live_evaluation(single):
    lines = (
        [("assistant", " t\nAction: long")] if single else [("planner", " t\nNext: caller"), ("caller", "Action: long")]
    )
    gold = dialogue.step("t", "caller", action="long", arguments="{}", observation="x")
    assert _static(gold, Script(*lines), single=single)["arg_f1_empty"] == 1
    played = _play(Script(*lines), single=single, max_turns=1)
    assert (played.errors, played.steps[0]["observation"][:3]) == (0, "xxx")


@THOROUGH
@given(st.text() | st.text(alphabet="\n {}actionAGveupw:sr").map(lambda text: f" t\nAction: add{text}"))
def test_a_single_model_s_step_is_scored_alike_through_our_decoding_and_without(text):
    """Plain lm-eval scores what the model wrote, our decoding what was read of it."""
    plain = step_scores({**PROBLEM, "step": GOLD}, [text])
    assert _static(GOLD, Script(("assistant", text)), single=True) == plain


# --- many at once


def _tossed(role, prompt):
    """A pure function of the prompt: calls, answers, gives up, writes rubbish or finds the prompt too long."""
    rng = random.Random(f"{role}/{prompt}")
    call = f'Action: {rng.choice(["add", "add", "none"])}\nAction Input: {{"a": {rng.randint(0, 3)}, "b": 1}}'
    number = rng.random()
    if role == "caller":
        text = f" {call}" if number < 0.95 else "well"
    elif role == "summarizer":
        text = f" It is {rng.randint(0, 9)}."
    elif number < 0.8:
        text = f" t{rng.randint(0, 9)}\n{call if role == 'assistant' else 'Next: caller'}"
    elif number < 0.88:
        text = " t\nAnswer: 2" if role == "assistant" else " t\nNext: summarizer"
    else:
        text = " hm" if number > 0.94 else " t\nGive up" if role == "assistant" else " t\nNext: give up"
    return Written(text, len(text)) if rng.random() < 0.99 else Written(None, 0)


@pytest.mark.parametrize("single", [True, False])
def test_hundreds_side_by_side_are_played_as_each_alone(single):
    def respond(role, asked):
        prompts = [dialogue.prompt(role, **one) for one in asked]
        batches.append((role, len(prompts)))
        return [_tossed(role, prompt) for prompt in prompts]

    batches = []
    problems = [{"instruction": f"Add {i}.", "tools": TOOLS[: 1 + i % 4]} for i in range(300)]
    kept = copy.deepcopy(problems)
    together = episodes.play(problems, respond, [BOX] * 300, single=single, max_turns=10)
    assert problems == kept
    fewest = len(batches)
    assert fewest <= (10 if single else 30), "a turn of all that still run must be one batch a role"
    sizes = [size for role, size in batches if role in ("assistant", "planner")]
    assert sizes == sorted(sizes, reverse=True)
    alone = [episodes.play([one], respond, [BOX], single=single, max_turns=10)[0] for one in problems]
    assert [one.record() for one in together] == [one.record() for one in alone]
    assert {one.stopped for one in together} == STOPS
    assert len({one.turns for one in together}) == 10
    assert sum(one.missing for one in together) > 0


def test_each_episode_calls_its_own_tools():
    boxes = [Toolbox({"add": lambda a, b, n=n: n}, seconds=60) for n in range(3)]
    script = Script(*[("assistant", _call())] * 3, *[("assistant", " t\nGive up")] * 3)
    played = episodes.play([PROBLEM] * 3, script, boxes, single=True, max_turns=10)
    assert [one.steps[0]["observation"] for one in played] == ["0", "1", "2"]


def test_no_problems_ask_nobody():
    assert episodes.play([], Script(), [], single=True, max_turns=10) == []
    assert episodes.steps([], Script(), single=False) == []


# --- whatever is written


@pytest.mark.parametrize("single", [True, False])
@THOROUGH
@given(
    data=st.lists(
        st.text()
        | st.sampled_from(["\nNext: caller", "\nNext: summarizer", "\nAnswer: ", "\nGive up", None])
        | st.text().map(lambda text: f"t\nAction: add\nAction Input: {text}"),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_is_written_the_episode_ends_with_whole_steps(single, data):
    place = 0

    def respond(role, asked):
        nonlocal place
        place += len(asked)
        texts = [data[(place + i) % len(data)] for i in range(len(asked))]
        return [Written(text, len(text or "")) for text in texts]

    (episode,) = episodes.play([PROBLEM], respond, [BOX], single=single, max_turns=4)
    assert episode.stopped in STOPS
    assert episode.turns == len(episode.steps) + (episode.stopped == TOO_LONG) <= 4
    *past, last = episode.steps or [dialogue.step("", "give up")]
    assert all(one["decision"] == "caller" for one in past)
    assert (last["decision"] == "caller") == (episode.stopped in ("turns", "repeat")) or episode.stopped == TOO_LONG
    for one in episode.steps:
        assert one.keys() == dialogue.step("", "").keys()
        assert one["decision"] in dialogue.DECISIONS
        assert bool(one["observation"]) == (one["decision"] == "caller")
        assert len(one["observation"]) <= MAX_OBSERVATION
    assert episode.errors == sum(one["observation"].startswith("error: ") for one in episode.steps)
    written = json.dumps(episode.record(), ensure_ascii=False)
    assert json.loads(written) == episode.record()
    scores = episode_scores({"solvable": False, "answer": "", "calls": 1}, [written])
    assert scores["success"] == (episode.stopped == "give up")


@pytest.mark.parametrize("single", [True, False])
def test_the_history_that_a_role_reads_is_what_has_happened(single):
    """Rendered here from the finished episode and compared with what was asked on the way."""
    asked = []

    def respond(role, requests):
        prompts = [dialogue.prompt(role, **one) for one in requests]
        asked.extend((role, prompt) for prompt in prompts)
        return [_tossed(role, prompt) for prompt in prompts]

    for number in range(40):
        asked.clear()
        problem = {"instruction": f"Add {number} again.", "tools": TOOLS}
        (episode,) = episodes.play([problem], respond, [BOX], single=single, max_turns=10)
        if episode.stopped == TOO_LONG:
            continue
        expected = []
        for i, one in enumerate(episode.steps):
            roles = ["assistant"] if single else ["planner"]
            roles += [one["decision"]] if not single and one["decision"] != "give up" else []
            for role in roles:
                given = (problem["instruction"], TOOLS, episode.steps[:i], one["thought"])
                expected.append((role, dialogue.prompt(role, *given)))
        assert asked == expected
