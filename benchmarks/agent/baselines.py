"""Baselines that never read the task: trained agents must do better than these rows.

In GLPFT's out-of-domain test a policy that always calls has a plan accuracy of 74 %, so such rows belong in the table.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from adaptbench.agent import dialogue
from adaptbench.contracts import Record


def majority(train: Sequence[Record]) -> Callable[[Record], str]:
    """Return a policy that always writes the most frequent step of the most frequent decision in training."""
    steps = [one for record in train for one in record["steps"]]
    commonest = _most_frequent(one["decision"] for one in steps)
    written = _most_frequent(dialogue.target("assistant", one) for one in steps if one["decision"] == commonest)
    return lambda asked: written


def _most_frequent(values: Iterable[str]) -> str:
    ((value, _),) = Counter(values).most_common(1)
    return value


def always_call(train: Sequence[Record]) -> Callable[[Record], str]:
    """Return a policy that always calls, without arguments, the offered tool that training calls most often."""
    called = Counter(one["action"] for record in train for one in record["steps"] if one["decision"] == dialogue.CALL)

    def write(asked: Record) -> str:
        tool = max((tool["name"] for tool in asked["tools"]), key=lambda name: called[name])
        return dialogue.target("assistant", dialogue.step("", dialogue.CALL, action=tool, arguments="{}"))

    return write


def always_give_up(train: Sequence[Record]) -> Callable[[Record], str]:
    """Return a policy that gives up at once, which is right for unsolvable problems."""
    return lambda asked: dialogue.target("assistant", dialogue.step("", dialogue.GIVE_UP))


BASELINES = {"majority": majority, "always-call": always_call, "always-give-up": always_give_up}
