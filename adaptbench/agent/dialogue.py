"""The dialogue between user, agent and tools as text: the one formatter and the one parser.

Training, static and live evaluation all go through this file, so that no model is asked in other words than it was taught.
Only the standard library is used and records are plain dictionaries: a copy lies beside the lm-eval tasks, which then run
without this project.

A trajectory is {"instruction": text, "tools": [tool, ...], "steps": [step, ...]}.
A tool is {"name", "description", "parameters"}, its parameters a JSON object, as text, of names and what they mean ("" says nothing).
A step is {"thought", "decision", "action", "arguments", "observation", "answer"}, all text; `arguments` is a JSON object
as text. A step that calls has an action, arguments and (once it has run) an observation; one that answers an answer.

Roles (GLPFT, arXiv 2401.07324, section 3.2): `assistant` is the single model that writes whole steps; `planner` writes a
thought and who is next, `caller` the call, `summarizer` the answer. The wording is ours: what a role writes are the lines
that the single model writes in its place, so that a copy of the single model starts from what it knows.
"""

import json
import math
import re

TEAM = ("planner", "caller", "summarizer")
ROLES = ("assistant", *TEAM)
CALL, ANSWER, GIVE_UP = "caller", "summarizer", "give up"
DECISIONS = (CALL, ANSWER, GIVE_UP)
FALLBACK = CALL  # for a decision that is missing or unknown; the same everywhere
UNASKED = "(the prompt is too long)"  # stands for a step whose prompt did not fit, whatever history was left out
ASSUMED = "Next: (missing)"  # stands in a team's step whose planner left the decision out
CUES = {"assistant": "Thought:", "planner": "Thought:", "caller": f"Next: {CALL}\n", "summarizer": f"Next: {ANSWER}\n"}


def step(thought, decision, *, action="", arguments="", observation="", answer=""):
    """A step record with all of its fields."""
    return {
        "thought": thought,
        "decision": decision,
        "action": action,
        "arguments": arguments,
        "observation": observation,
        "answer": answer,
    }


def canonical(arguments):
    """A call's arguments as JSON text, in the one way in which they are written."""
    return json.dumps(arguments, ensure_ascii=False, allow_nan=False)


def tool_line(tool):
    """`name(parameter, ...): description`."""
    meanings = {name: " ".join(str(meaning).split()) for name, meaning in json.loads(tool["parameters"]).items()}
    named = ", ".join(f"{name}: {meaning}" if meaning else name for name, meaning in meanings.items())
    return f"{tool['name']}({named}): {tool['description']}"


def past_step(one):
    """A step that lies behind, as every role reads it."""
    text = f"Thought: {one['thought']}\n"
    if one["decision"] == CALL:
        text += f"{_call(one)}\nObservation: {one['observation']}\n"
    return text


def prompt(role, instruction, tools, history, thought=""):
    """What `role` is asked.

    The caller and the summarizer read this step's `thought`; the summarizer is not shown the tools.
    """
    head = "" if role == "summarizer" else "Tools:\n" + "".join(f"{tool_line(tool)}\n" for tool in tools)
    past = "".join(past_step(one) for one in history)
    now = f"Thought: {thought}\n" if role in ("caller", "summarizer") else ""
    return f"{head}Task: {instruction}\n{past}{now}{CUES[role]}"


def target(role, one):
    """What `role` should write in step `one`; None where the step does not need that role."""
    if role == "assistant":
        end = {CALL: _call(one), ANSWER: _answer(one), GIVE_UP: "Give up"}[one["decision"]]
        return f" {one['thought']}\n{end}"
    if role == "planner":
        return f" {one['thought']}\nNext: {one['decision']}"
    if role == "caller":
        return _call(one) if one["decision"] == CALL else None
    return _answer(one) if one["decision"] == ANSWER else None


def _call(one):
    return f"Action: {one['action']}\nAction Input: {one['arguments']}"


def _answer(one):
    return f"Answer: {one['answer']}"


# A thought is one line, so the first later line that begins with a marker ends it, whatever follows.
_MARKER = re.compile(r"\n(?:Action: (?P<action>[^\n]*)|Answer: (?P<answer>.*)|(?P<give_up>Give up)\s*$)", re.DOTALL)
_NEXT = re.compile(r"\nNext: (?P<decision>[^\n]*)")
_ANSWER = re.compile(r"\A\s*Answer: ")
_INPUT = re.compile(r"\nAction Input: ?(?P<arguments>.*)", re.DOTALL)


def parse(role, text):
    """The step that `role` wrote: the inverse of `target`.

    Returns a step with those fields that the role writes. `decision` is None where the text holds none that is known; a
    call that is not there has the action "". `arguments` is the text as written: see `parse_arguments`.
    """
    if role == "summarizer":
        return step("", ANSWER, answer=_ANSWER.sub("", text))
    if role == "caller":
        text = "\n" + text.lstrip()
        found = _MARKER.search(text)
        return step("", CALL, **(_written(text, found) if found and found["action"] is not None else {}))
    if role == "planner":
        found = _NEXT.search(text)
        decision = found["decision"].strip() if found else None
        return step(_thought(text, found), decision if decision in DECISIONS else None)
    found = _MARKER.search(text)
    thought = _thought(text, found)
    if found is None:
        return step(thought, None)
    if found["action"] is not None:
        return step(thought, CALL, **_written(text, found))
    return step(thought, GIVE_UP) if found["give_up"] else step(thought, ANSWER, answer=found["answer"])


def _thought(text, found):
    return (text[: found.start()] if found else text).removeprefix(" ").replace("\n", " ")


def _written(text, found):
    arguments = _INPUT.search(text, max(0, found.end() - 1 - len(found["action"])))
    # As in the authors' code, a call without an input has no arguments.
    return {"action": found["action"].strip(), "arguments": arguments["arguments"] if arguments else "{}"}


def parse_arguments(text):
    """The arguments as a dictionary; None where the text is not a JSON object."""

    def refuse(name):
        raise ValueError(name)

    def number(digits):
        value = float(digits)
        return value if math.isfinite(value) else refuse(digits)

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=number)
        json.dumps(value, ensure_ascii=False).encode()  # refuses half a character (a lone surrogate)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
