"""GSM8K as tool trajectories: every calculator mark of a published answer is a call.

Source: arXiv 2110.14168; data openai/gsm8k (MIT). In `48/2 = <<48/2=24>>24` the expression says which tool is called:
one operation of two numbers is add, subtract, multiply or divide, anything else is text for `calculate`. All five are
always offered. The observation is what our own tools answer. In the published sets all 27,998 marks come out exactly,
written alike or not (20.00, .4); one of them, <<3/4=3/4>> of a test problem, is a fraction where ours says 0.75, and
is kept. `560//10` (two such marks) is read as a division. A mark that comes out otherwise stops the build: its
problem would go on with a number that no tool gave.

The published text often writes the calculation just before its mark and the result just after it. Both are cut out of
the thoughts: else the caller would copy from the thought what it should work out from the words, and the planner
would repeat the observation. Calculations elsewhere stay: 15 thoughts hold their own call's operation further ahead.
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
from adaptbench.benchmarks.domain import gsm8k as domain
from adaptbench.benchmarks.domain.gsm8k import load, set_apart
from adaptbench.benchmarks.shared.answers import marked_number, number, written
from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.errors import AdaptbenchError

PUBLIC_DATA, READS = domain.PUBLIC_DATA, domain.READS
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
    """The splits of GSM8K.

    Returns:
        train: trajectories with their "text"; gsm8k_steps, gsm8k_agent_validation: a document a step; gsm8k_live: a
        document a problem, the same problems as those of gsm8k_steps. The validation problems of a seed are those that
        the domain's benchmark of that seed sets aside.

    Raises:
        AdaptbenchError: the folder lacks a file, a line is not a problem, or a mark does not come out.
    """
    problems, test = load(public["gsm8k"])
    toolbox = Toolbox(
        functions(config, seed), seconds=10
    )  # far from what any takes; a machine that stalls must not matter
    made = [trajectory(problem, seed, toolbox, f"train problem {i}") for i, problem in enumerate(problems, 1)]
    asked = [trajectory(problem, seed, toolbox, f"test problem {i}") for i, problem in enumerate(test, 1)]
    validation, train = set_apart(made, asked, config.validation_items, seed, track="agent", asked="instruction")
    asked = asked[: config.test_items]
    return {
        "train": training_records(train[: config.train_items], "data.gsm8k: train"),
        "gsm8k_steps": step_documents(asked, "data.gsm8k: test"),
        "gsm8k_live": live_documents(asked),
    } | ({"gsm8k_agent_validation": step_documents(validation, "data.gsm8k: validation")} if validation else {})


def functions(config: Config, seed: int) -> dict[str, Callable[..., object]]:
    """What runs each tool: exact, or a ToolError that says why there is no number."""

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
    """A JSON number as text that `calculate` reads; a model may also write it as text."""
    if isinstance(value, str) and re.fullmatch(rf"[+-]?{_DIGITS}", value):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ToolError(f"{value} is not a number")
    return f"{Decimal(repr(value)):f}"


def trajectory(problem: Record, seed: int, toolbox: Toolbox, where: str) -> Record:
    """A problem with its marks played out, and with "calls" (how many), "solvable" and "answer" (the number, as text).

    Raises:
        AdaptbenchError: where it is, and the mark that does not come out or the number that is missing.
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
    """The tool and the arguments that an expression is."""
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
    """The published result is what comes out, be it written as 20.00, .4, 3/4 or 1,000."""
    return number(result) in _values(_plain(expression))


# A calculation in words or signs, found from its end: number, unit, operator, number, unit, operator, ...
_NUMBER = re.compile(r"[0-9]+(?:[, ][0-9]{3}\b)*(?:\.[0-9]+)?|\.[0-9]+")
_UNIT = re.compile(r"(?:[^.,;:!?=\w]*[^\W\d]+){0,8}+[^.,;:!?=\w]*")
_SIGN = r"[-+*/^\u00d7\u00f7\u00b7\u2212\u2013]|(?<![^\W\d])x"  # times, divided by, dot, minus, dash
_WORD = r"\b(?:plus|minus|times|(?:divided|multiplied) by|over)\b"
_OPERATOR = re.compile(rf"(?:{_SIGN}|{_WORD}|(?<=[\d)])\s*\()[\s($€£¢]*$", re.IGNORECASE)
_END = re.compile(r"(?:\s|[=$€£¢%+~]|\b(?:equals|is)(?=[\s=$€£¢]*$))*$", re.IGNORECASE)
_RESULT = re.compile(r"\s*[$€£¢]?\s*(-?\s*(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?|\.[0-9]+)(?:/[0-9]+)?)")
_LEFT_OVER = " \n\t=+-*/\u00d7\u00f7($€£¢:,"


def thought(before: str, earlier: str, expression: str, result: str) -> str:
    """What the text between two marks says without calculating, as one line; "" if that is nothing.

    `before` is that text, `earlier` the result of the mark before it, `expression` and `result` are those of the mark
    after it.
    """
    text = before
    start, numbers = _calculation(text)
    # A number alone is part of the words ("in 3 boxes"), unless it is what is about to be called or to come out.
    if numbers == 1 and _value_of(_END.sub("", text[start:])) in _values(_plain(expression), result):
        text = text[:start]
    while numbers > 1:
        text = text[:start].rstrip(_LEFT_OVER)
        start, numbers = _calculation(text)
    return _line(_without_result(text.rstrip(_LEFT_OVER), earlier))


def _calculation(text: str) -> tuple[int, int]:
    """Where the calculation begins that `text` ends in, and how many numbers it has."""
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
    """The text after a mark without the mark's result at its beginning, nor what only made sense after it."""
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
