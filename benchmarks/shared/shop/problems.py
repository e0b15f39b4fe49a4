"""Make the problems of the built-in agent world, and solve each by running its plan with the real tools.

So a trajectory's observations are right by construction. If the shop does not know an item by its name, the call is
repeated with the name in the error. If the tool for the next call is not offered, the agent gives up.
"""

from collections.abc import Sequence

from adaptbench.agent import dialogue
from adaptbench.agent.toolbox import Toolbox
from adaptbench.benchmarks.shared.shop import tools
from adaptbench.benchmarks.shared.shop.phrasings import PHRASINGS, TRAINED, VALIDATED, WORDINGS
from adaptbench.benchmarks.shared.shop.tables import Tables
from adaptbench.benchmarks.shared.shop.wishes import WISHES, Draw, Plan
from adaptbench.contracts import Record

CALLS = (1, 1, 1, 2, 2, 2, 3, 3, 4, 4)
"""Numbers of calls that problems need, in turn."""
OFFERED, UNSOLVABLE, NICKNAMES = 5, 0.15, 0.5
"""Defaults: tools offered, share of problems that lack a tool, and probability that an item has its second name."""


def make_toolbox(tables: Tables) -> Toolbox:
    """Return the tools of these tables, with far more seconds than a call takes: a stalled machine must not matter."""
    return Toolbox(tools.functions(tables), seconds=10)


def nth_problem(number: int, draw: Draw, offered: int, unsolvable: float, toolbox: Toolbox) -> Record:
    """Return trajectory `number`, with the number of calls from CALLS; `unsolvable` is a probability."""
    solvable = draw.rng.random() >= unsolvable
    return problem(draw, CALLS[number % len(CALLS)], offered=offered, solvable=solvable, toolbox=toolbox)


def problem(draw: Draw, calls: int, *, offered: int, solvable: bool, toolbox: Toolbox) -> Record:
    """Return a trajectory of `calls` calls, not counting calls that fail, with `offered` tools.

    If it is not `solvable`, a needed tool and all its substitutes are missing. Besides a trajectory's fields it has
    "wish" (its name), "wording" ("known" from training or "new"), "calls", "solvable", and "answer", the value that the
    final answer must end in ("" if it is not solvable).
    """
    rng = draw.rng
    name = rng.choice(list(WISHES[calls]))
    wish = WISHES[calls][name](draw)
    wording = _wording(draw)
    needed = list(wish.tools)
    barred = set() if solvable else _with_substitutes(rng.choice(needed))
    needed = [tool for tool in needed if tool not in barred]
    # Most problems begin with a look-up, so look-ups are the strongest distractors.
    weight = {tool: 6 if tool in tools.LOOK_UPS else 1 for tool in tools.NAMES}
    others = [tool for tool in tools.NAMES if tool not in barred and tool not in wish.tools]
    others.sort(key=lambda tool: rng.random() ** (1 / weight[tool]), reverse=True)
    chosen = needed + others[: offered - len(needed)]
    rng.shuffle(chosen)
    steps = _run_plan(wish.plan, chosen, toolbox)
    return {
        "instruction": PHRASINGS[name][wording].format(**wish.slots),
        "tools": [tools.described(tool) for tool in chosen],
        "steps": steps,
        "wish": name,
        "wording": "known" if wording < TRAINED else "new",
        "calls": calls,
        "solvable": solvable,
        "answer": steps[-1]["answer"].rpartition(" ")[2].removesuffix("."),
    }


def _with_substitutes(tool: str) -> set[str]:
    """Return the tool and its substitutes, none of which may be offered if the tool is to be missing."""
    return {tool, *tools.ARITHMETIC} if tool in (*tools.ARITHMETIC, "convert") else {tool}


def _wording(draw: Draw) -> int:
    """Draw the number of a wording: for training one of the first, for tests one of those or of the split's own."""
    own = range(TRAINED, VALIDATED) if draw.split == "validation" else range(VALIDATED, WORDINGS)
    known = draw.split == "train" or draw.rng.random() < 0.5
    return draw.rng.choice(range(TRAINED) if known else own)


def _run_plan(plan: Plan, offered: Sequence[str], toolbox: Toolbox) -> list[Record]:
    """Run a plan with the offered tools, and return its steps."""
    steps: list[Record] = []

    def call(thought: str, tool: str, arguments: dict[str, object]) -> tuple[str, bool]:
        written = dialogue.canonical(arguments)
        seen = toolbox.call(tool, written, offered)
        given = {"action": tool, "arguments": written, "observation": seen.text}
        steps.append(dialogue.step(thought, dialogue.CALL, **given))
        return seen.text, seen.error

    reply: str | None = None
    while True:
        try:
            thought, tool, arguments = plan.send(reply) if reply is not None else next(plan)
        except StopIteration as end:
            steps.append(dialogue.step("I know the answer.", dialogue.ANSWER, answer=f"{end.value}."))
            return steps
        if tool not in offered:
            steps.append(dialogue.step("I have no tool for this.", dialogue.GIVE_UP))
            return steps
        reply, failed = call(thought, tool, arguments)
        if failed:  # the only possible error: the item has another name
            known = reply.split(" is called ")[1].removesuffix(" here")
            reply, _ = call("It has another name.", tool, {"item": known})
