"""The toolbox: whatever a model calls and whatever a tool does, there is one line of observation and all else is as
before.

Run: python -m pytest tests/agent/test_toolbox.py
"""

import contextlib
import json
import random
import signal
import threading
import time
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptbench.agent.calculator import CalculationError, calculate, number_text
from adaptbench.agent.toolbox import MAX_OBSERVATION, Observation, Toolbox, ToolError
from tests.support.expressions import GIANTS, THOROUGH, cpu_seconds, trees, variants, words


def _calculate(expression):
    try:
        return number_text(calculate(expression))
    except CalculationError as problem:
        raise ToolError(str(problem)) from None


def _checked(observation):
    """The text of an observation that keeps every promise about its form."""
    assert isinstance(observation, Observation)
    text = observation.text
    assert isinstance(text, str)
    assert 0 < len(text) <= MAX_OBSERVATION
    assert text.splitlines() == [text]
    assert text == " ".join(text.split())
    text.encode()
    assert text.startswith("error: ") or not observation.error
    return text


def _observed(function, seconds=60.0):  # on a busy machine, even nothing may take a second
    """What the tool `tool` gives, with whether it is an error."""
    observation = Toolbox({"tool": function}, seconds=seconds).call("tool", "{}", ["tool"])
    return _checked(observation), observation.error


def _raising(error):
    def tool():
        raise error

    return tool


# --- what the model wrote

CALCULATOR = Toolbox({"calculate": _calculate, "hidden": lambda: "seen"}, seconds=60)


@pytest.mark.parametrize(
    ("action", "arguments", "text"),
    [
        ("calculate", '{"expression": "80/100*10"}', "8"),
        ("calculate", ' {"expression": "1/3"}\n', "0.333333"),
    ],
)
def test_a_call_gives_what_the_tool_returned(action, arguments, text):
    assert CALCULATOR.call(action, arguments, ["calculate"]) == Observation(text, error=False)


@pytest.mark.parametrize(
    ("action", "arguments", "said"),
    [
        ("hidden", "{}", "no tool 'hidden' is offered"),
        ("", "{}", "no tool '' is offered"),
        ("calculate ", "{}", "no tool 'calculate ' is offered"),
        ("a\nb\ud800", "{}", "no tool 'a\\nb\\ud800' is offered"),
        ("x" * 10**6, "{}", "no tool 'xxxxxxxxxxxx...xxxxxxxxxxxxx' is offered"),
        ("missing", "{}", "missing cannot be run"),
        ("calculate", "", "the arguments of calculate must be a JSON object"),
        ("calculate", "1+1", "the arguments of calculate must be a JSON object"),
        ("calculate", '["1+1"]', "the arguments of calculate must be a JSON object"),
        ("calculate", '{"expression": NaN}', "the arguments of calculate must be a JSON object"),
        ("calculate", '{"expression": "1"', "the arguments of calculate must be a JSON object"),
        ("calculate", '{"a":' * 10**5, "the arguments of calculate must be a JSON object"),
        ("calculate", '{"a":' + "1" * 5000 + "}", "the arguments of calculate must be a JSON object"),
        ("calculate", "{}", "calculate takes the arguments (expression), not ''"),
        ("calculate", '{"expr": "1"}', "calculate takes the arguments (expression), not 'expr'"),
        (
            "calculate",
            '{"expression": 1, "b\\n": 2}',
            "calculate takes the arguments (expression), not 'expression, b\\n'",
        ),
        ("calculate", '{"expression": "1/0"}', "division by zero"),
        ("calculate", '{"expression": "\\ud800"}', "the arguments of calculate must be a JSON object"),
        ("calculate", '{"expression": [1]}', "the expression must be text"),
    ],
)
def test_a_call_that_is_wrong_is_told_what_is_wrong(action, arguments, said):
    observation = CALCULATOR.call(action, arguments, {"calculate", "missing"})
    assert (_checked(observation), observation.error) == (f"error: {said}", True)


# --- what the tool returned


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("plain", "plain"),
        (" two\r\nlines\t and\u2028more \x85", "two lines and more"),
        ("", "(nothing)"),
        (" \n", "(nothing)"),
        (None, "(nothing)"),
        ("half \ud800 pair", "half ? pair"),
        ("abc " * 1000, ("abc " * 1000)[: MAX_OBSERVATION - 1]),
        ("x" * 5000, "x" * MAX_OBSERVATION),
        (7, "7"),
        (0.1 + 0.2, "0.3"),
        (Fraction(1, 3), "0.333333"),
        (Decimal("2.50"), "2.5"),
        (True, "true"),
        ({"a": [1, None, "é\n"]}, '{"a": [1, null, "é\\n"]}'),
        ("error: of a tool that worked", "error: of a tool that worked"),
    ],
)
def test_a_result_becomes_one_line_of_text(result, text):
    assert _observed(lambda: result) == (text, False)


def _nested():
    result = []
    for _ in range(10**5):
        result = [result]
    return result


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: float("nan"), "the result is not a finite number"),
        (lambda: float("-inf"), "the result is not a finite number"),
        (lambda: 10**400, "a number has more than 300 digits"),
        (lambda: [float("inf")], "the result cannot be shown"),
        (lambda: {1, 2}, "the result cannot be shown"),
        (object, "the result cannot be shown"),
        (_nested, "tool failed: RecursionError"),
    ],
)
def test_a_result_that_has_no_text_is_an_error(make, said):
    assert _observed(lambda: make()) == (f"error: {said}", True)


# --- how the tool failed


def _endless(depth=0):
    return _endless(depth + 1)


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        (_raising(ToolError("no such\nrow")), "no such row"),
        (_raising(ToolError()), "(nothing)"),
        (_raising(ToolError("\ud800" * 9999)), "?" * (MAX_OBSERVATION - 7)),
        (_raising(FileNotFoundError(2, "gone", "/a/secret/path")), "tool failed: FileNotFoundError"),
        (_raising(MemoryError()), "tool failed: MemoryError"),
        (_raising(SystemExit(1)), "tool failed: SystemExit"),
        (_raising(GeneratorExit()), "tool failed: GeneratorExit"),
        (_raising(TimeoutError()), "tool failed: TimeoutError"),
        (_endless, "tool failed: RecursionError"),
    ],
)
def test_a_tool_that_fails_tells_its_own_message_or_only_the_kind_of_error(tool, said):
    assert _observed(tool) == (f"error: {said}", True)


def test_a_key_that_interrupts_a_tool_interrupts_the_evaluation():
    with pytest.raises(KeyboardInterrupt):
        _observed(_raising(KeyboardInterrupt()))
    assert _in_thread(lambda: _observed(_raising(KeyboardInterrupt()))) is KeyboardInterrupt


# --- how long it took


def _in_thread(work):
    """What `work` returns in a thread, or the type of what it raises."""
    results = []

    def run():
        try:
            results.append(work())
        except BaseException as error:
            results.append(type(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def _hangs():
    while True:
        pass


def _hangs_and_catches():
    for _ in range(3):
        with contextlib.suppress(BaseException):
            _hangs()


def _hangs_and_goes_on():
    while True:
        with contextlib.suppress(Exception):
            _hangs()


def _hangs_and_answers():
    try:
        _hangs()
    except BaseException:
        return "done"


def _hangs_and_fails():
    try:
        _hangs()
    finally:
        raise ValueError


HANGING = (_hangs, _hangs_and_catches, _hangs_and_goes_on, _hangs_and_answers, _hangs_and_fails, lambda: time.sleep(60))


@pytest.mark.parametrize("tool", HANGING)
def test_a_tool_that_hangs_is_ended(tool):
    started = time.monotonic()
    assert _observed(tool, seconds=0.05) == ("error: tool took longer than 0.05 s", True)
    assert time.monotonic() - started < 30


def test_a_tool_that_hangs_is_left_behind_outside_the_main_thread():
    go_on, left = threading.Event(), []

    def waits():
        left.append(threading.current_thread())
        go_on.wait()

    assert _in_thread(lambda: _observed(waits, seconds=0.05)) == ("error: tool took longer than 0.05 s", True)
    assert left[0].daemon, "or the program could not end before the tool"
    go_on.set()
    assert _in_thread(lambda: _observed(lambda: 7)) == ("7", False)
    assert _in_thread(lambda: _observed(_raising(ValueError()))) == ("error: tool failed: ValueError", True)


def test_a_call_that_no_thread_can_be_started_for_is_an_error(monkeypatch):
    def no_more(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(signal, "getsignal", lambda _: None)  # a handler that is not Python's: no alarm
    assert _observed(lambda: 7) == ("7", False)
    monkeypatch.setattr(threading.Thread, "start", no_more)
    assert _observed(lambda: 7) == ("error: tool cannot be run now", True)


@pytest.fixture
def rings():
    """The times at which the caller's own alarm, due in half a second and then each tenth of one, has rung."""
    times = []
    handler = signal.signal(signal.SIGALRM, lambda *_: times.append(time.monotonic()))
    timer = signal.setitimer(signal.ITIMER_REAL, 0.5, 0.1)
    yield times
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *timer)


@pytest.mark.parametrize("tool", [lambda: 7, _hangs, _raising(ToolError()), _hangs_and_fails])
def test_the_caller_s_alarm_and_its_handler_are_as_before(rings, tool):
    handler = signal.getsignal(signal.SIGALRM)
    for _ in range(3):
        _observed(tool, seconds=0.05)
        assert signal.getsignal(signal.SIGALRM) is handler
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 0 < left <= 0.5
        assert interval == pytest.approx(0.1)
    deadline = time.monotonic() + 30
    while len(rings) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(rings) >= 2


def test_the_caller_s_alarm_that_was_due_meanwhile_rings_afterwards(rings):
    assert _observed(lambda: time.sleep(0.7)) == ("(nothing)", False)
    time.sleep(0.01)
    assert rings


def test_no_alarm_is_left_where_there_was_none():
    timer = signal.setitimer(signal.ITIMER_REAL, 0)  # of the test runner
    try:
        assert _observed(_hangs, seconds=0.05)[1]
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)


def test_an_alarm_at_any_moment_leaves_the_caller_s_handler(monkeypatch):
    handler, late = signal.getsignal(signal.SIGALRM), 0
    for step in range(2000):
        late += _observed(lambda: "x", seconds=1e-6 * (1 + step % 50))[1]
        assert signal.getsignal(signal.SIGALRM) is handler
    assert late > 0
    setitimer = signal.setitimer

    def ringing(*timer):
        if signal.getsignal(signal.SIGALRM) is not handler:
            signal.raise_signal(signal.SIGALRM)
        return setitimer(*timer)

    monkeypatch.setattr(signal, "setitimer", ringing)  # alarms while the timer is set, and again while it is reset
    assert _observed(lambda: 7) == ("error: tool took longer than 60 s", True)
    assert signal.getsignal(signal.SIGALRM) is handler


def test_a_tool_may_call_tools_itself():
    inner = Toolbox({"slow": _hangs, "fast": lambda: 7}, seconds=0.05)
    assert _observed(lambda: inner.call("fast", "{}", ["fast"]).text) == ("7", False)
    assert _observed(lambda: inner.call("slow", "{}", ["slow"]).text) == ("error: slow took longer than 0.05 s", False)

    def again():
        while True:
            inner.call("slow", "{}", ["slow"])

    assert _observed(again, seconds=0.2) == ("error: tool took longer than 0.2 s", True)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(ValueError, match="must be positive and finite"):
        Toolbox({}, seconds=seconds)


# --- any text whatever


def test_any_call_gives_an_observation_in_less_than_a_tenth_of_a_second():
    count = results = 0

    def call(action, arguments):
        nonlocal results
        observation = CALCULATOR.call(action, arguments, ["calculate"])
        _checked(observation)
        results += not observation.error

    @THOROUGH
    @given(words, words, trees, trees, st.sampled_from(GIANTS), st.integers(0, 2**32))
    def check(word, other, tree, tree_too, giant, seed):
        nonlocal count
        rng = random.Random(seed)
        calls = [json.dumps({"expression": text}) for text in (word, tree, tree_too, giant)]
        for arguments in variants(rng, [word, *calls], '{}[]":,\\u0123456789+-*/() truefalsn'):
            action = rng.choice(["calculate"] * 20 + ["hidden", word, other])
            assert cpu_seconds(lambda a=action, b=arguments: call(a, b)) < 0.1, ascii((action[:99], arguments[:200]))
            count += 1

    check()
    assert count >= 100_000
    assert results > 2_000
