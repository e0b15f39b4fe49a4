"""Check that a record is a whole trajectory, as training and evaluation need it; errors are one line."""

from collections.abc import Mapping
from typing import Any

from adaptbench.agent import dialogue
from adaptbench.agent.dialogue import ANSWER, CALL, DECISIONS, GIVE_UP, parse_arguments
from adaptbench.errors import AdaptbenchError

_FIELDS = ("thought", "decision", "action", "arguments", "observation", "answer")


def check(record: Mapping[str, Any], where: str) -> None:
    """Check that `record` is a trajectory as adaptbench/agent/dialogue.py describes it.

    Raises:
        AdaptbenchError: with `where` and the reason: no tools, a tool twice, an action that is not an offered tool,
            arguments that are not a JSON object, a call without an observation, steps after the end, or no end.
    """
    try:
        _check(record)
    except ValueError as error:
        raise AdaptbenchError(f"{where}: {error}") from None


def _check(record: Mapping[str, Any]) -> None:
    if not isinstance(record.get("instruction"), str) or not record["instruction"].strip():
        raise ValueError("'instruction' must be text")
    names = check_tools(record.get("tools"))
    steps = record.get("steps")
    if not isinstance(steps, list) or not steps:
        raise ValueError("'steps' must be a list with at least one step")
    for number, one in enumerate(steps, 1):
        try:
            _check_step(one, names, last=number == len(steps))
        except ValueError as error:
            raise ValueError(f"step {number}: {error}") from None


def check_tools(tools: Any) -> set[str]:
    """Return the names of a list of tools.

    Raises:
        ValueError: the list or a tool is invalid.
    """
    if not isinstance(tools, list) or not tools:
        raise ValueError("'tools' must be a list with at least one tool")
    names: set[str] = set()
    for tool in tools:
        for key in ("name", "description", "parameters"):
            if not isinstance(tool, dict) or not isinstance(tool.get(key), str):
                raise ValueError(f"each tool needs {key!r} as text")
        name = tool["name"]
        if not name or name != name.strip() or "\n" in name:
            raise ValueError(f"a tool's name must be one line without spaces at its ends: {name!r}")
        if name in names:
            raise ValueError(f"the tool {name!r} is offered twice")
        if "\n" in tool["description"]:
            raise ValueError(f"tool {name!r}: 'description' must be one line")
        if parse_arguments(tool["parameters"]) is None:
            raise ValueError(f"tool {name!r}: 'parameters' must be a JSON object")
        names.add(name)
    return names


def _check_step(one: Any, names: set[str], last: bool) -> None:
    for key in _FIELDS:
        if not isinstance(one, dict) or not isinstance(one.get(key), str):
            raise ValueError(f"{key!r} must be text")
    if "\n" in one["thought"]:
        raise ValueError("'thought' must be one line")
    if one["decision"] not in DECISIONS:
        raise ValueError(f"'decision' must be one of {', '.join(DECISIONS)}, not {one['decision']!r}")
    if (one["decision"] == CALL) == last:
        raise ValueError("the last step must answer or give up" if last else "only the last step may answer or give up")
    unused = ("answer",) if one["decision"] == CALL else ("action", "arguments", "observation")
    for key in unused:
        if one[key]:
            raise ValueError(f"a step whose decision is {one['decision']!r} has no {key!r}")
    if one["decision"] == CALL:
        if one["action"] not in names:
            raise ValueError(f"the action {one['action']!r} is not an offered tool")
        if parse_arguments(one["arguments"]) is None:
            raise ValueError(f"the arguments of {one['action']!r} must be a JSON object, not {one['arguments'][:60]!r}")
        if not one["observation"]:
            raise ValueError(f"the call of {one['action']!r} has no observation")
    if one["decision"] == ANSWER and not one["answer"].strip():
        raise ValueError("'answer' must be text")
    if one["decision"] == GIVE_UP and one["answer"]:
        raise ValueError("a step that gives up has no answer")


def whole_text(trajectory: Mapping[str, Any]) -> str:
    """Return the dialogue from the tools to the end, as the single model reads and writes it."""
    *past, last = trajectory["steps"]
    asked = dialogue.prompt("assistant", trajectory["instruction"], trajectory["tools"], past)
    return asked + dialogue.target("assistant", last)
