"""Published sets of word problems whose answer is a number, of which only the test is asked: nothing is trained on them.

A record is the question and the number; what is taken for steps of its solution differs from set to set and is not read, so that an
answer may take all the tokens that its task allows.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from adaptbench.benchmarks import hub
from adaptbench.benchmarks.reasoning.measures import answers_tasks
from adaptbench.benchmarks.shared.answers import number, written
from adaptbench.errors import AdaptbenchError
from adaptbench.latent.text import prompt
from adaptbench.tasks import Splits, Task

Read = Callable[[Mapping[str, Any]], tuple[str, Any]]
"""A record's question and answer: a number, or what is one when it is written."""


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
    for place, record in enumerate(published, 1):
        try:
            question, answer = read(record)
            asked = prompt(" ".join(question.split()))
        except KeyError as error:
            raise AdaptbenchError(f"data.{name}: test problem {place}: no field {error}") from None
        except (AttributeError, TypeError):
            raise AdaptbenchError(f"data.{name}: test problem {place}: question or answer is not text") from None
        if not question.strip():
            raise AdaptbenchError(f"data.{name}: test problem {place}: the question is empty")
        value = answer if isinstance(answer, Fraction) else number(str(answer))
        if value is None:
            numberless.append(place)
        else:
            problems.append({"prompt": asked, "target": written(value)})
    left_out = {"test": {"its answer is not a number": numberless}} if numberless else {}
    return Splits({name: problems[:items]}, left_out)
