"""Published sets of word problems whose answer is a number, of which only the test is asked: nothing is trained on them.

A record is the question and the number; what is taken for steps of its solution differs from set to set and is not read, so that an
answer may take all the tokens that its task allows.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from adaptbench.benchmarks import hub
from adaptbench.benchmarks.reasoning.measures import answers_tasks
from adaptbench.contracts import AdaptbenchError, Splits, Task
from adaptbench.latent.text import prompt

Read = Callable[[Mapping[str, Any]], tuple[str, Any]]
"""A record's question and answer."""


def test_task(name: str, label: str) -> Task:
    """The set's one task, which is no track's main one."""
    test, _ = answers_tasks(name, label)
    return replace(test, primary=False)


def test_split(name: str, source: Mapping[str, Any], items: int | None, read: Read) -> Splits:
    """The first `items` problems of the set's test, as {"prompt", "target"}, in a split of the set's name.

    Problems whose answer is no number are left out.

    Raises:
        AdaptbenchError: the set cannot be had, or which record is not of its form.
    """
    (published,) = hub.load(name, source, splits=("test",))
    problems, numberless = [], []
    for number, record in enumerate(published, 1):
        try:
            question, answer = read(record)
            asked = prompt(" ".join(question.split()))
        except KeyError as error:
            raise AdaptbenchError(f"data.{name}: test problem {number}: no field {error}") from None
        except (AttributeError, TypeError):
            raise AdaptbenchError(f"data.{name}: test problem {number}: question or answer is not text") from None
        value = _number(answer)
        if not question.strip():
            raise AdaptbenchError(f"data.{name}: test problem {number}: the question is empty")
        if value is None:
            numberless.append(number)
        else:
            problems.append({"prompt": asked, "target": value})
    left_out = {"test": {"its answer is not a number": numberless}} if numberless else {}
    return Splits({name: problems[:items]}, left_out)


def _number(answer: Any) -> str | None:
    """A number as a solution ends in it: 145 for 145.0, 1200 for 1,200; None where it is none."""
    try:
        value = Decimal(str(answer).replace(",", "").strip())
    except InvalidOperation:
        return None
    return f"{value.normalize() + 0:f}" if value.is_finite() else None
