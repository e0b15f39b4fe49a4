"""GSM8K as tool trajectories: every calculator mark of a published answer is a call.

Source: arXiv 2110.14168; data openai/gsm8k (MIT). In `48/2 = <<48/2=24>>24` the expression determines the tool: one
operation on two numbers is add, subtract, multiply or divide, anything else is text for `calculate`. All five tools are
always offered. The observation is the result of our tools. In the published sets all 27,998 marks have the exact
result, in the same form or another (20.00, .4). One of them, <<3/4=3/4>> of a test problem, is a fraction where ours is
0.75; it is kept. `560//10` (two such marks) is read as a division. A mark with another result stops the build, since
its problem would continue with a number that no tool returned.

The published text often has the calculation just before its mark and the result just after it. Both are removed from
the thoughts: else the caller would copy the calculation from the thought instead of deriving it from the words, and the
planner would repeat the observation. Calculations elsewhere stay: 15 thoughts have their call's operation earlier.
"""

import random
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

from pydantic import Field

from adaptbench.agent import dialogue
from adaptbench.agent.calculator import CalculationError, calculate
from adaptbench.agent.toolbox import Toolbox, ToolError
from adaptbench.benchmarks.agent import baselines, figures, measures
from adaptbench.benchmarks.agent.measures import live_task, steps_task
from adaptbench.benchmarks.agent.steps import live_documents, step_documents, training_records
from adaptbench.benchmarks.shared import gsm8k as published
from adaptbench.benchmarks.shared.answers import marked_number, number, written
from adaptbench.benchmarks.shared.gsm8k import load, set_apart
from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.errors import AdaptbenchError

PUBLIC_DATA, READS = published.PUBLIC_DATA, published.READS
CALL_THOUGHT = "I calculate it."
LAST_THOUGHT = "I know the answer."

_PAIR = {"a": "", "b": ""}
_TOOLS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("add", "a plus b", _PAIR),
    ("subtract", "a minus b", _PAIR),
    ("multiply", "a times b", _PAIR),
    ("divide", "a over b", _PAIR),
    ("calculate", "the value of an expression such as 2*(3+4)", {"expression": ""}),
)
_SIGNS = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide"}

_MARK = re.compile(r"<<([^<>=]*)=([^<>=]*)>>")
_DIGITS = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_OPERATION = re.compile(rf"([+-]?{_DIGITS})([-+*/])([+-]?{_DIGITS})")


class Config(BenchmarkConfig):
    kind: Literal["gsm8k"] = "gsm8k"
    validation_items: int = Field(0, ge=0, description="training problems set aside for choosing hyper-parameters")
    train_items: int | None = Field(None, gt=0, description="training problems; default: all that are left")
    test_items: int | None = Field(None, gt=0, description="test problems, the first ones; default: all 1,319")


BASELINES, FIGURES = baselines.BASELINES, figures.FIGURES
DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES

TASKS = (
    steps_task("gsm8k_steps", "GSM8K steps"),
    live_task("gsm8k_live", "GSM8K live"),
    steps_task("gsm8k_agent_validation", "GSM8K agent validation", split="validation", primary=True),
)


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the splits of GSM8K.

    Returns:
        train: trajectories with their "text"; gsm8k_steps, gsm8k_agent_validation: a document for each step;
        gsm8k_live: a document for each problem, the same problems as those of gsm8k_steps. The validation problems of a
        seed are those that the domain's benchmark of that seed sets aside.

    Raises:
        AdaptbenchError: the folder lacks a file, a line is not a problem, or a mark has another result.
    """
    problems, test = load(public["gsm8k"])
    # Far more seconds than any call takes: a stalled machine must not change the data.
    toolbox = Toolbox(functions(config, seed), seconds=10)
    problems = [trajectory(problem, seed, toolbox, f"train problem {i}") for i, problem in enumerate(problems, 1)]
    test = [trajectory(problem, seed, toolbox, f"test problem {i}") for i, problem in enumerate(test, 1)]
    validation, train = set_apart(problems, test, config.validation_items, seed, track="agent", field="instruction")
    test = test[: config.test_items]
    return {
        "train": training_records(train[: config.train_items], "data.gsm8k: train"),
        "gsm8k_steps": step_documents(test, "data.gsm8k: test"),
        "gsm8k_live": live_documents(test),
    } | ({"gsm8k_agent_validation": step_documents(validation, "data.gsm8k: validation")} if validation else {})


def functions(config: Config, seed: int) -> dict[str, Callable[..., object]]:
    """Return the function of each tool, which computes exactly or raises ToolError."""

    def operation(sign: str) -> Callable[..., object]:
        return lambda a, b: _value(f"({_number(a)}){sign}({_number(b)})")

    return {name: operation(sign) for sign, name in _SIGNS.items()} | {
        "calculate": lambda expression: _value(expression)
    }


def _value(expression: str) -> Fraction:
    try:
        return calculate(expression)
    except CalculationError as problem:
        raise ToolError(str(problem)) from None


def _number(value: object) -> str:
    """Return a JSON number, or a number as text, in the form that `calculate` reads."""
    if isinstance(value, str) and re.fullmatch(rf"[+-]?{_DIGITS}", value):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ToolError(f"{value} is not a number")
    return f"{Decimal(repr(value)):f}"


def trajectory(problem: Record, seed: int, toolbox: Toolbox, where: str) -> Record:
    """Return a problem as a trajectory, with "calls" (their number), "solvable" and "answer" (the number, as text).

    Raises:
        AdaptbenchError: a mark has another result, or the answer has no number; the message begins with `where`.
    """
    answer = marked_number(problem["answer"])
    if answer is None:
        raise AdaptbenchError(f"data.gsm8k: {where}: no number after #### in its answer")
    names = [name for name, *_ in _TOOLS]
    if "<<" in _MARK.sub("", problem["answer"]):
        raise AdaptbenchError(f"data.gsm8k: {where}: a mark in its answer is not <<expression=result>>")
    *pieces, rest = _MARK.split(problem["answer"].rpartition("####")[0])
    steps = []
    published = ""
    for before, expression, result in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        action, arguments = call(expression)
        given = {"action": action, "arguments": dialogue.canonical(arguments)}
        seen = toolbox.call(action, given["arguments"], names)
        if seen.error or not _same(expression, result):
            raise AdaptbenchError(
                f"data.gsm8k: {where}: <<{expression:.80}={result:.80}>> comes out as {seen.text:.80}"
            )
        said = thought(before, published, expression, result) or CALL_THOUGHT
        steps.append(dialogue.step(said, dialogue.CALL, **given, observation=seen.text))
        published = result
    last = _line(_without_result(rest, published)) or LAST_THOUGHT
    steps.append(dialogue.step(last, dialogue.ANSWER, answer=f"The answer is {written(answer)}."))
    return {
        "instruction": problem["question"].strip(),
        "tools": _offered(random.Random(f"{seed}/gsm8k/tools/{problem['question'].strip()}")),
        "steps": steps,
        "calls": len(steps) - 1,
        "solvable": True,
        "answer": written(answer),
    }


def _offered(rng: random.Random) -> list[Record]:
    described = [
        {"name": name, "description": description, "parameters": dialogue.canonical(dict(parameters))}
        for name, description, parameters in _TOOLS
    ]
    return rng.sample(described, len(described))


def call(expression: str) -> tuple[str, dict[str, object]]:
    """Return the tool and the arguments of an expression."""
    expression = _plain(expression)
    found = _OPERATION.fullmatch(expression)
    if found is None:
        return "calculate", {"expression": expression}
    return _SIGNS[found[2]], {"a": _json_number(found[1]), "b": _json_number(found[3])}


def _plain(expression: str) -> str:
    return expression.replace("//", "/").strip()


def _json_number(text: str) -> int | float:
    value = Fraction(text)
    return value.numerator if value.denominator == 1 else float(text)


def _same(expression: str, result: str) -> bool:
    """Return whether the published result, written as 20.00, .4, 3/4 or 1,000, is the value of the expression."""
    return number(result) in _values(_plain(expression))


# A calculation in words or signs, matched from its end: number, unit, operator, number, unit, operator, ...
_NUMBER = re.compile(r"[0-9]+(?:[, ][0-9]{3}\b)*(?:\.[0-9]+)?|\.[0-9]+")
_UNIT = re.compile(r"(?:[^.,;:!?=\w]*[^\W\d]+){0,8}+[^.,;:!?=\w]*")
_SIGN = r"[-+*/^\u00d7\u00f7\u00b7\u2212\u2013]|(?<![^\W\d])x"  # times, divided by, dot, minus, dash
_WORD = r"\b(?:plus|minus|times|(?:divided|multiplied) by|over)\b"
_OPERATOR = re.compile(rf"(?:{_SIGN}|{_WORD}|(?<=[\d)])\s*\()[\s($€£¢]*$", re.IGNORECASE)
_END = re.compile(r"(?:\s|[=$€£¢%+~]|\b(?:equals|is)(?=[\s=$€£¢]*$))*$", re.IGNORECASE)
_RESULT = re.compile(r"\s*[$€£¢]?\s*(-?\s*(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?|\.[0-9]+)(?:/[0-9]+)?)")
_LEFT_OVER = " \n\t=+-*/\u00d7\u00f7($€£¢:,"


def thought(before: str, earlier: str, expression: str, result: str) -> str:
    """Return the text between two marks without calculations, as one line; it may be empty.

    Args:
        before: the text.
        earlier: the result of the mark before it.
        expression: the expression of the mark after it.
        result: the result of the mark after it.
    """
    text = before
    start, numbers = _calculation(text)
    # A number alone is part of the words ("in 3 boxes"), unless it is the value of the next expression or its result.
    if numbers == 1 and _value_of(_END.sub("", text[start:])) in _values(_plain(expression), result):
        text = text[:start]
    while numbers > 1:
        text = text[:start].rstrip(_LEFT_OVER)
        start, numbers = _calculation(text)
    return _line(_without_result(text.rstrip(_LEFT_OVER), earlier))


def _calculation(text: str) -> tuple[int, int]:
    """Return where the calculation at the end of `text` begins, and how many numbers it has."""
    rest = _END.sub("", text)
    start, numbers = len(text), 0
    while found := list(_NUMBER.finditer(rest)):
        if not _UNIT.fullmatch(rest, found[-1].end()):
            break
        start, numbers = found[-1].start(), numbers + 1
        operator = _OPERATOR.search(rest, 0, start)
        if operator is None:
            break
        rest = rest[: operator.start()]
    return start, numbers


def _without_result(text: str, result: str) -> str:
    """Return the text after a mark without the mark's result at its beginning, and without signs that follow it."""
    found = _RESULT.match(text)
    if found is None or _value_of(found[1]) not in _values(result):
        return text
    return text[found.end() :].lstrip(" \n\t.,;:!)%$€£¢")


def _value_of(text: str) -> Fraction | None:
    try:
        return calculate(text.replace(",", ""))
    except CalculationError:
        return None


def _values(*texts: str) -> set[Fraction]:
    return {value for value in map(_value_of, texts) if value is not None}


def _line(text: str) -> str:
    return " ".join(text.split())
