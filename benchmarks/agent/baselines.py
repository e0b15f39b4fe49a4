"""What an agent scores that never reads its task: the rows that a trained one must leave behind.

In the paper's out-of-domain test a policy that always calls reaches 74 % plan accuracy, so such rows belong in the table.
"""

from collections import Counter
from collections.abc import Callable, Sequence

from adaptbench.agent import dialogue
from adaptbench.contracts import Record


def majority(train: Sequence[Record]) -> Callable[[Record], str]:
    """Always the whole step that training holds most often."""
    written = Counter(dialogue.target("assistant", one) for record in train for one in record["steps"])
    ((commonest, _),) = written.most_common(1)
    return lambda asked: commonest


def always_call(train: Sequence[Record]) -> Callable[[Record], str]:
    """Always a call, without arguments, of that offered tool which training calls most often."""
    called = Counter(one["action"] for record in train for one in record["steps"] if one["decision"] == dialogue.CALL)

    def write(asked: Record) -> str:
        tool = max((tool["name"] for tool in asked["tools"]), key=lambda name: called[name])
        return dialogue.target("assistant", dialogue.step("", dialogue.CALL, action=tool, arguments="{}"))

    return write


BASELINES = {"majority": majority, "always-call": always_call}
