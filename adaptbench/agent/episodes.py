"""Write whole steps by one model or a team, and play live episodes, all in one batch.

Paper: GLPFT, arXiv 2401.07324, section 3: the planner writes, then the caller and a tool or the summarizer, until the
agent answers or gives up. Static evaluation uses the same steps, each after the reference history.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adaptbench.agent import dialogue
from adaptbench.agent.toolbox import Toolbox
from adaptbench.contracts import Record

SAME_CALLS = 3  # an episode stops after that many equal calls in a row
TOO_LONG = "too long"  # `Episode.stopped` where tools and instruction alone do not fit


@dataclass(frozen=True)
class Written:
    """A model's text and its number of tokens; `text` is None if the prompt did not fit."""

    text: str | None
    tokens: int


Asked = Mapping[str, Any]  # the arguments of dialogue.prompt except the role
Respond = Callable[[str, Sequence[Asked]], Sequence[Written]]
"""respond(role, asked) returns the text of the role's model for each prompt, in order."""


@dataclass
class Turn:
    """One whole step: `step` is None if the prompt did not fit; `missing` is true if FALLBACK replaced a decision."""

    step: Record | None
    missing: bool
    tokens: int


@dataclass
class Episode:
    """A problem's play. `stopped` is "answer", "give up", "turns", "repeat" or TOO_LONG, and "" while it runs."""

    instruction: str
    tools: Sequence[Record]
    steps: list[Record] = field(default_factory=list)
    stopped: str = ""
    turns: int = 0
    tokens: int = 0
    errors: int = 0
    missing: int = 0

    def record(self) -> Record:
        """Return the part that is stored as the answer."""
        names = ("stopped", "turns", "tokens", "errors", "missing", "steps")
        return {name: getattr(self, name) for name in names}


def steps(asked: Sequence[Asked], respond: Respond, *, single: bool) -> list[Turn]:
    """Return the next whole step for each of `asked`: by one model, or by the planner and then caller or summarizer."""
    if not asked:
        return []
    turns = []
    for one in respond("assistant" if single else "planner", asked):
        made = dialogue.parse("assistant" if single else "planner", one.text) if one.text is not None else None
        missing = made is not None and made["decision"] is None
        if made is not None and missing:
            made["decision"] = dialogue.FALLBACK
        turns.append(Turn(made, missing, one.tokens))
    if not single:
        for role, decision in (("caller", dialogue.CALL), ("summarizer", dialogue.ANSWER)):
            mine = [i for i, turn in enumerate(turns) if turn.step and turn.step["decision"] == decision]
            thoughts = [{**asked[i], "thought": turns[i].step["thought"]} for i in mine]  # type: ignore[index]
            for i, one in zip(mine, respond(role, thoughts) if thoughts else (), strict=True):
                _complete(turns[i], role, one)
    return turns


def _complete(turn: Turn, role: str, written: Written) -> None:
    """Add the caller's or the summarizer's text to the planner's step."""
    assert turn.step is not None
    turn.tokens += written.tokens
    if written.text is None:
        turn.step = None
        return
    filled = dialogue.parse(role, written.text)
    turn.step = {**filled, "thought": turn.step["thought"]}


def play(
    problems: Sequence[Record], respond: Respond, toolboxes: Sequence[Toolbox], *, single: bool, max_turns: int
) -> list[Episode]:
    """Play every problem to its end, each with its toolbox; one turn of all running episodes is a batch."""
    episodes = [Episode(problem["instruction"], problem["tools"]) for problem in problems]
    while running := [i for i, episode in enumerate(episodes) if not episode.stopped]:
        asked = [
            {"instruction": one.instruction, "tools": one.tools, "history": one.steps}
            for one in (episodes[i] for i in running)
        ]
        for i, turn in zip(running, steps(asked, respond, single=single), strict=True):
            _advance(episodes[i], turn, toolboxes[i], max_turns)
    return episodes


def _advance(episode: Episode, turn: Turn, toolbox: Toolbox, max_turns: int) -> None:
    """Add a step to the episode and run its call."""
    episode.turns += 1
    episode.tokens += turn.tokens
    episode.missing += turn.missing
    if turn.step is None:
        episode.stopped = TOO_LONG
        return
    one = dict(turn.step)
    episode.steps.append(one)
    if one["decision"] != dialogue.CALL:
        episode.stopped = "answer" if one["decision"] == dialogue.ANSWER else "give up"
        return
    seen = toolbox.call(one["action"], one["arguments"], [tool["name"] for tool in episode.tools])
    one["observation"] = seen.text
    episode.errors += seen.error
    last = [(past["action"], past["arguments"]) for past in episode.steps[-SAME_CALLS:]]
    if len(last) == SAME_CALLS and len(set(last)) == 1:
        episode.stopped = "repeat"
    elif episode.turns >= max_turns:
        episode.stopped = "turns"
