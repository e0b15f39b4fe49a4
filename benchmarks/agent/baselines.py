"""What an agent scores that never reads its task: the rows that a trained one must leave behind.

In the paper's out-of-domain test a policy that always calls reaches 74 % plan accuracy, so such rows belong in the table.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from adaptbench.agent import dialogue
from adaptbench.contracts import Record


def majority(train: Sequence[Record]) -> Callable[[Record], str]:
    """Always the step that training holds most often among those of its most frequent decision."""
    steps = [one for record in train for one in record["steps"]]
    commonest = _most_frequent(one["decision"] for one in steps)
    written = _most_frequent(dialogue.target("assistant", one) for one in steps if one["decision"] == commonest)
    return lambda asked: written


def _most_frequent(values: Iterable[str]) -> str:
    ((value, _),) = Counter(values).most_common(1)
    return value


def always_call(train: Sequence[Record]) -> Callable[[Record], str]:
    """Always a call, without arguments, of that offered tool which training calls most often."""
    called = Counter(one["action"] for record in train for one in record["steps"] if one["decision"] == dialogue.CALL)

    def write(asked: Record) -> str:
        tool = max((tool["name"] for tool in asked["tools"]), key=lambda name: called[name])
        return dialogue.target("assistant", dialogue.step("", dialogue.CALL, action=tool, arguments="{}"))

    return write


def always_give_up(train: Sequence[Record]) -> Callable[[Record], str]:
    """Gives up at once: right wherever a problem cannot be solved."""
    return lambda asked: dialogue.target("assistant", dialogue.step("", dialogue.GIVE_UP))


BASELINES = {"majority": majority, "always-call": always_call, "always-give-up": always_give_up}
