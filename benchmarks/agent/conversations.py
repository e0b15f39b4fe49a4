"""Read ToolBench's conversations as trajectories, in either of the two published forms.

GLPFT's form (https://github.com/X-PLUG/Multi-LLM-Agent, the output of its preprocessing's second stage, and its tests):

    {"instruction", "tools": [{"Name", "function", "input": {parameter: text}}, ...],
     "conversations": [{"from", "value"}, ...]}

from "user", "assistant" (a thought that ends in "Next: caller.", "Next: conclusion." or "Next: give up."), "caller"
("Action: name", "Action Input: JSON"), "observation" and "conclusion" (the answer). ToolBench's form
(toolllama_G123_dfs_*.json):

    {"id": "Step 9: instruction", "conversations": [{"from", "value"}, ...]}

from "system" (the APIs as a Python list at its end), "user", "assistant" ("Thought:", "Action:", "Action Input:"; the
action `Finish` ends) and "function" (a JSON object of "error" and "response"). It repeats every path once for each of
its steps, each time up to another step. The last repetition is the whole path, on which GLPFT trains.

The user's words between steps (in ToolBench a reminder of other branches of the search) and the assistant's words
without a decision belong to no step. They are part of the history that no role writes: they follow the observation, or
the instruction, before them, at full length (reminders have up to 3,000 characters). A thought becomes one line, an
answer keeps its lines.
"""

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adaptbench.agent import dialogue
from adaptbench.agent.toolbox import line
from adaptbench.agent.trajectory import check
from adaptbench.contracts import Record
from adaptbench.errors import AdaptbenchError

NAME_CHARACTERS = 64  # of an API's name, from its end, as in GLPFT's preprocessing
TEXT_CHARACTERS = 256  # of its description, from the beginning, and of a parameter's, from the end
FINISH = "Finish"

_DECISION = re.compile(r"\s*Next: (caller|conclusion|give up)\.\s*$")
_APIS = "you have access to the following APIs: "
_STEP = re.compile(r"^Step \d+: ")


def trajectories(records: Iterable[Any]) -> tuple[dict[int, Record], dict[str, list[int]]]:
    """Convert records to trajectories.

    Returns:
        The trajectories by record number, from 1, and for each reason the numbers of the records that are left out.
    """
    made: dict[int, Record] = {}
    left_out: dict[str, list[int]] = {}
    longest: dict[Any, tuple[int, Any]] = {}
    for number, record in enumerate(records, 1):
        path = _path(record) or number
        if path in longest:
            left_out.setdefault("a part of a longer path", []).append(longest[path][0])
        longest[path] = (number, record)
    for number, record in longest.values():
        try:
            made[number] = trajectory(record)
        except ValueError as error:
            left_out.setdefault(str(error), []).append(number)
    return made, left_out


def _path(record: Any) -> str:
    """Return the text that ToolBench's records of one path share; empty for GLPFT's form."""
    own = isinstance(record, Mapping) and isinstance(record.get("id"), str) and "tools" not in record
    return _STEP.sub("", record["id"]) if own else ""


def trajectory(record: Any) -> Record:
    """Convert a record of either form to a trajectory (see adaptbench/agent/dialogue.py).

    Its "question" is the published instruction.

    Raises:
        ValueError: the record is not a trajectory; the message is the reason.
    """
    if not isinstance(record, Mapping) or not _are_turns(record.get("conversations")):
        raise ValueError("'conversations' is not a list of turns with 'from' and 'value'")
    if "tools" not in record:
        record = _as_glpft(record["conversations"])
    instruction = record.get("instruction")
    if not isinstance(instruction, str) or not instruction.strip():
        raise ValueError("no instruction")
    tools = _tools(record["tools"])
    turns = record["conversations"]
    if turns and turns[0]["from"] == "user":  # the instruction again
        turns = turns[1:]
    question = _one_line(instruction)
    instruction, steps = _steps(question, turns, {tool["name"] for tool in tools})
    made = {"instruction": instruction, "tools": tools, "steps": steps, "question": question}
    try:
        json.dumps(made, ensure_ascii=False).encode()
        check(made, "record")
    except UnicodeEncodeError:
        raise ValueError("half a character") from None
    except AdaptbenchError as error:
        raise ValueError(str(error).removeprefix("record: ")) from None
    return made


def _are_turns(turns: Any) -> bool:
    return isinstance(turns, Sequence) and all(
        isinstance(turn, Mapping) and isinstance(turn.get("from"), str) and isinstance(turn.get("value"), str)
        for turn in turns
    )


def _tools(published: Any) -> list[Record]:
    """Return the offered tools; of tools whose cut names are equal only the first."""
    if not isinstance(published, Sequence) or not published:
        raise ValueError("no tools")
    found: dict[str, Record] = {}
    for one in published:
        fields = one if isinstance(one, Mapping) else {}
        name, text, parameters = (fields.get(key) for key in ("Name", "function", "input"))
        if not isinstance(name, str) or not isinstance(text, str) or not isinstance(parameters, Mapping):
            raise ValueError("a tool without 'Name', 'function' or 'input'")
        if not all(isinstance(parameter, str) for parameter in parameters):
            raise ValueError("a tool's parameter whose name is not text")
        described = {"description": _one_line(text), "parameters": dialogue.canonical(dict(parameters))}
        found.setdefault(name, {"name": name, **described})
    return list(found.values())


def _steps(instruction: str, turns: Sequence[Mapping[str, str]], names: set[str]) -> tuple[str, list[Record]]:
    """Return the instruction with the words right after it, and the steps.

    Raises:
        ValueError: the turns are not steps that call offered tools and then end.
    """
    steps: list[Record] = []
    left = list(reversed(turns))

    def take(speaker: str, problem: str) -> str:
        if not left or left[-1]["from"] != speaker:
            raise ValueError(problem)
        return left.pop()["value"]

    while left:
        turn = left.pop()
        if steps and steps[-1]["decision"] != dialogue.CALL:
            raise ValueError("it goes on after its end")
        if turn["from"] not in ("user", "assistant"):
            raise ValueError(f"a turn from {turn['from'][:20]!r} where none can be")
        decided = _DECISION.search(turn["value"]) if turn["from"] == "assistant" else None
        if decided is None:
            said = _one_line(turn["value"])
            if said and steps:
                steps[-1]["observation"] += f" {said}"
            elif said:
                instruction += f" {said}"
            continue
        thought = _one_line(turn["value"][: decided.start()])
        if decided[1] == "caller":
            action, arguments = _call(take("caller", "a decision to call without a call"), names)
            seen = line(take("observation", "a call without an observation").removeprefix(' "'))
            given = {"action": action, "arguments": arguments, "observation": seen}
            steps.append(dialogue.step(thought, dialogue.CALL, **given))
        elif decided[1] == "conclusion":
            answer = take("conclusion", "a decision to answer without an answer").strip()
            if answer in ("", "none"):  # GLPFT's preprocessing writes "none" for a missing answer
                raise ValueError("a decision to answer without an answer")
            steps.append(dialogue.step(thought, dialogue.ANSWER, answer=answer))
        else:
            steps.append(dialogue.step(thought, dialogue.GIVE_UP))
    if not steps or steps[-1]["decision"] == dialogue.CALL:
        raise ValueError("no end")
    return instruction, steps


def _call(text: str, names: set[str]) -> tuple[str, str]:
    head, marked, written = f"\n{text}".rpartition("\nAction Input:")
    action = head.rpartition("\nAction:")[2].strip()[-NAME_CHARACTERS:]
    arguments = dialogue.parse_arguments(written)
    if not marked or arguments is None:
        raise ValueError("a call whose input is not a JSON object")
    if action not in names:
        raise ValueError("a call of a tool that is not offered")
    return action, dialogue.canonical(arguments)


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- ToolBench's own form, brought into GLPFT's


def _as_glpft(turns: Sequence[Mapping[str, str]]) -> Record:
    system = next((turn["value"] for turn in turns if turn["from"] == "system"), "")
    made = [one for turn in turns if turn["from"] != "system" for one in _glpft_turns(turn["from"], turn["value"])]
    instruction = made[0]["value"] if made and made[0]["from"] == "user" else ""
    return {"instruction": instruction, "tools": _offered(system), "conversations": made}


def _glpft_turns(speaker: str, text: str) -> list[dict[str, str]]:
    if speaker == "function":
        return [{"from": "observation", "value": _response(text)}]
    if speaker == "user":
        return [{"from": "user", "value": text.strip().removesuffix("Begin!").strip()}]
    head, marked, written = text.rpartition("\nAction Input:")
    said, _, action = head.rpartition("\nAction:")
    thought = re.sub(r"^\s*Thought:", "", said, flags=re.MULTILINE).strip()
    if speaker != "assistant" or not marked:
        return [{"from": speaker, "value": text}]
    if action.strip() != FINISH:
        call = f"Action: {action.strip()}\nAction Input: {written.strip()}"
        return [{"from": "assistant", "value": f"{thought} Next: caller."}, {"from": "caller", "value": call}]
    end = dialogue.parse_arguments(written)
    if end is None:
        raise ValueError("an end whose input is not a JSON object")
    if end.get("return_type") == "give_up_and_restart":
        return [{"from": "assistant", "value": f"{thought} Next: give up."}]
    answer = str(end.get("final_answer", ""))
    return [{"from": "assistant", "value": f"{thought} Next: conclusion."}, {"from": "conclusion", "value": answer}]


def _response(text: str) -> str:
    """Return a function's response, or its error if the response is empty. The JSON of the text may be cut."""
    seen = dialogue.parse_arguments(text)
    if seen is None:
        return text.partition('"response":')[2] or text
    return str(seen.get("response") or (f"error: {seen['error']}" if seen.get("error") else ""))


def _offered(system: str) -> list[Record]:
    """Return the APIs that a system text lists, cut as by GLPFT's preprocessing."""
    try:
        apis = ast.literal_eval(system.rpartition(_APIS)[2].strip())
        return [
            {
                "Name": api["name"][-NAME_CHARACTERS:],
                "function": api["description"][:TEXT_CHARACTERS],
                "input": {name: _meaning(one) for name, one in api["parameters"]["properties"].items()},
            }
            for api in apis
            if api["name"] != FINISH
        ]
    except (SyntaxError, ValueError, TypeError, KeyError, AttributeError, MemoryError, RecursionError):
        raise ValueError("its system text does not end in a list of APIs") from None


def _meaning(parameter: Mapping[str, str]) -> str:
    described = [parameter["description"][-TEXT_CHARACTERS:]] if "description" in parameter else []
    return ", ".join([parameter["type"], *described])
