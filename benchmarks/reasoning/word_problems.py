"""Published sets of word problems with a number as answer, of which only the test is used; nothing is trained on them.

A record is a question and a number. The form of solution steps differs between sets, so they are not read, and an
answer may have all the tokens that its task allows.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from adaptbench.benchmarks.reasoning.measures import answers_tasks
from adaptbench.benchmarks.shared import hub
from adaptbench.benchmarks.shared.answers import number, written
from adaptbench.errors import AdaptbenchError
from adaptbench.latent.text import prompt
from adaptbench.tasks import Splits, Task

Read = Callable[[Mapping[str, Any]], tuple[str, Any]]
"""Returns a record's question and its answer, a number or its text."""


def test_task(name: str, label: str) -> Task:
    """Return the set's only task, which is not primary."""
    test, _ = answers_tasks(name, label)
    return replace(test, primary=False)


def test_split(name: str, source: Mapping[str, Any], items: int | None, read: Read) -> Splits:
    """Return the first `items` problems of the set's test, as {"prompt", "target"}, in a split of the set's name.

    Problems whose answer is not a number are left out.

    Raises:
        AdaptbenchError: the set cannot be loaded, or a record is not of its form.
    """
    (published,) = hub.load(name, source, splits=("test",))
    problems, numberless = [], []
    for place, record in enumerate(published, 1):
        try:
            question, answer = read(record)
            text = prompt(" ".join(question.split()))
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
            problems.append({"prompt": text, "target": written(value)})
    left_out = {"test": {"its answer is not a number": numberless}} if numberless else {}
    return Splits({name: problems[:items]}, left_out)
