"""Format and parse the dialogue between user, agent and tools as text.

Training, static and live evaluation all use this file, so that a model is evaluated in the words it was trained on. It
needs the standard library only, and records are plain dictionaries: a copy accompanies the lm-eval tasks, which then
run without this project.

A trajectory is {"instruction": text, "tools": [tool, ...], "steps": [step, ...]}.
A tool is {"name", "description", "parameters"}; `parameters` is a JSON object, as text, of names and their meanings
(which may be empty).
A step is {"thought", "decision", "action", "arguments", "observation", "answer"}, all text; `arguments` is a JSON
object as text. A step that calls has an action, arguments and (once it has run) an observation. A step that answers has
an answer.

Roles (GLPFT, arXiv 2401.07324, section 3.2): `assistant` is the single model that writes whole steps. `planner` writes
a thought and the next role, `caller` the call, `summarizer` the answer. The wording is ours: a role writes the lines
that the single model writes at that point, so that a copy of the single model starts from what it has learned.
"""

import json
import math
import re

TEAM = ("planner", "caller", "summarizer")
ROLES = ("assistant", *TEAM)
CALL, ANSWER, GIVE_UP = "caller", "summarizer", "give up"
DECISIONS = (CALL, ANSWER, GIVE_UP)
FALLBACK = CALL  # for a decision that is missing or unknown, in all evaluations
UNASKED = "(the prompt is too long)"  # in place of a step whose prompt did not fit even without history
ASSUMED = "Next: (missing)"  # in a team's step whose planner wrote no decision
CUES = {"assistant": "Thought:", "planner": "Thought:", "caller": f"Next: {CALL}\n", "summarizer": f"Next: {ANSWER}\n"}


def step(thought, decision, *, action="", arguments="", observation="", answer=""):
    """Return a step record with all of its fields."""
    return {
        "thought": thought,
        "decision": decision,
        "action": action,
        "arguments": arguments,
        "observation": observation,
        "answer": answer,
    }


def canonical(arguments):
    """Return a call's arguments as JSON text, in the form that all records use."""
    return json.dumps(arguments, ensure_ascii=False, allow_nan=False)


def tool_line(tool):
    """Return a tool as one line: `name(parameter, ...): description`."""
    meanings = {name: " ".join(str(meaning).split()) for name, meaning in json.loads(tool["parameters"]).items()}
    named = ", ".join(f"{name}: {meaning}" if meaning else name for name, meaning in meanings.items())
    return f"{tool['name']}({named}): {tool['description']}"


def past_step(one):
    """Return a past step as every role reads it."""
    text = f"Thought: {one['thought']}\n"
    if one["decision"] == CALL:
        text += f"{_call(one)}\nObservation: {one['observation']}\n"
    return text


def prompt(role, instruction, tools, history, thought=""):
    """Return the prompt of `role`.

    The caller and the summarizer read this step's `thought`. The summarizer does not read the tools.
    """
    head = "" if role == "summarizer" else "Tools:\n" + "".join(f"{tool_line(tool)}\n" for tool in tools)
    past = "".join(past_step(one) for one in history)
    now = f"Thought: {thought}\n" if role in ("caller", "summarizer") else ""
    return f"{head}Task: {instruction}\n{past}{now}{CUES[role]}"


def target(role, one):
    """Return the text that `role` should write in step `one`; None if the step does not need that role."""
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


# A thought is one line, so the first later line that begins with a marker ends it.
_MARKER = re.compile(r"\n(?:Action: (?P<action>[^\n]*)|Answer: (?P<answer>.*)|(?P<give_up>Give up)\s*$)", re.DOTALL)
_NEXT = re.compile(r"\nNext: (?P<decision>[^\n]*)")
_ANSWER = re.compile(r"\A\s*Answer: ")
_INPUT = re.compile(r"\nAction Input: ?(?P<arguments>.*)", re.DOTALL)


def parse(role, text):
    """Return the step that `role` wrote, the inverse of `target`, with those fields that the role writes.

    `decision` is None if the text has no known decision, and the action is "" if a call is missing. `arguments` is the
    text as written: see `parse_arguments`.
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
    """Return the arguments as a dictionary; None if the text is not a JSON object."""

    def refuse(name):
        raise ValueError(name)

    def number(digits):
        value = float(digits)
        return value if math.isfinite(value) else refuse(digits)

    try:
        value = json.loads(text, parse_constant=refuse, parse_float=number)
        json.dumps(value, ensure_ascii=False).encode()  # raises on a lone surrogate
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
