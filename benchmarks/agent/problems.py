"""The problems of the built-in agent world, each solved by playing its wish out against the real tools.

So a trajectory's observations are true by construction, an item that the shop does not know by its name is asked for again
under the one that the error says, and a problem ends in giving up where the tool for the next call is not offered.
"""

from collections.abc import Sequence

from adaptbench.agent import dialogue
from adaptbench.agent.toolbox import Toolbox
from adaptbench.benchmarks.agent import tools
from adaptbench.benchmarks.agent.phrasings import PHRASINGS, TRAINED, VALIDATED, WORDINGS
from adaptbench.benchmarks.agent.tables import Tables
from adaptbench.benchmarks.agent.wishes import WISHES, Draw, Plan
from adaptbench.contracts import Record

CALLS = (1, 1, 1, 2, 2, 2, 3, 3, 4, 4)
"""How many calls the problems need, in turn."""
OFFERED, UNSOLVABLE, NICKNAMES = 5, 0.15, 0.5
"""Tools offered, share of problems that lack one, and how often an item goes by a second name: what problems are like by default."""


def patient_toolbox(tables: Tables) -> Toolbox:
    """The tools of those tables; none needs a thousandth of the time they have, as a machine that stalls must not matter."""
    return Toolbox(tools.functions(tables), seconds=10)


def nth_problem(number: int, draw: Draw, offered: int, unsolvable: float, toolbox: Toolbox) -> Record:
    """A trajectory with as many calls as it is `number`'s turn to have, one that cannot be solved with that chance."""
    solvable = draw.rng.random() >= unsolvable
    return problem(draw, CALLS[number % len(CALLS)], offered=offered, solvable=solvable, toolbox=toolbox)


def problem(draw: Draw, calls: int, *, offered: int, solvable: bool, toolbox: Toolbox) -> Record:
    """A trajectory of `calls` calls (without those that fail) with `offered` tools; if it is not `solvable`, one of those
    needed is missing, and so is all that could stand in for it.

    Besides the trajectory's fields: "wish" its name, "wording" ("known" from training or "new"), "calls", "solvable", and
    "answer", the value that the final answer must end in ("" if it cannot be given).
    """
    rng = draw.rng
    name = rng.choice(list(WISHES[calls]))
    wish = WISHES[calls][name](draw)
    wording = _wording(draw)
    needed = list(wish.tools)
    barred = set() if solvable else _without(rng.choice(needed))
    needed = [tool for tool in needed if tool not in barred]
    # The look-ups are what most problems begin with, so they are the distractors that can tempt.
    weight = {tool: 6 if tool in tools.LOOK_UPS else 1 for tool in tools.NAMES}
    others = [tool for tool in tools.NAMES if tool not in barred and tool not in wish.tools]
    others.sort(key=lambda tool: rng.random() ** (1 / weight[tool]), reverse=True)
    chosen = needed + others[: offered - len(needed)]
    rng.shuffle(chosen)
    steps = _play(wish.plan, chosen, toolbox)
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


def _without(tool: str) -> set[str]:
    """What must not be offered for `tool` to be truly missing: itself and what could do its work."""
    return {tool, *tools.ARITHMETIC} if tool in (*tools.ARITHMETIC, "convert") else {tool}


def _wording(draw: Draw) -> int:
    """Training knows the first wordings alone; half of a test asks in one of those, half in one of its own."""
    own = range(TRAINED, VALIDATED) if draw.split == "validation" else range(VALIDATED, WORDINGS)
    known = draw.split == "train" or draw.rng.random() < 0.5
    return draw.rng.choice(range(TRAINED) if known else own)


def _play(plan: Plan, offered: Sequence[str], toolbox: Toolbox) -> list[Record]:
    """The steps of a plan with the tools that are offered."""
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
        if failed:  # the only error that a plan can meet: an item's other name
            known = reply.split(" is called ")[1].removesuffix(" here")
            reply, _ = call("It has another name.", tool, {"item": known})
