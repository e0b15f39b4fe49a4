"""ToolAlpaca's test of simulated APIs, step by step: the function that is called, and its arguments.

Only for evaluation. Source: arXiv 2306.05301; data/eval_simulated.json of https://github.com/tangqiaoyu/ToolAlpaca
(Apache-2.0): 10 APIs with 100 instructions and 154 golden calls. The file has neither the functions' results nor
thoughts, so the history shows the earlier golden calls with fixed texts. A golden call becomes a document if it can be
known:

- Its function is offered. One call is marked "[Optional]" and left out.
- Its arguments are a JSON object without a placeholder such as `${animeId from searchAnime}`: 32 calls are no JSON,
  one holds "${string}".
- Everything before it is such a call, too, else the history would have a gap (1 call left out). None of these calls is
  `getDetails`, since the user's answer is not in the file but in the next calls' arguments (4 calls left out).

`getDetails` asks the user. It belongs to ToolAlpaca's agent, not to an API, and the file does not document it. Every
problem offers it with a description of ours. Some of the 115 remaining calls have values that the instruction does not
ask for ("page": 1). ToolAlpaca's judge lets those differ; a comparison of whole arguments does not.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from adaptbench.agent import dialogue
from adaptbench.benchmarks.agent import measures
from adaptbench.benchmarks.agent.measures import steps_task
from adaptbench.benchmarks.agent.steps import step_documents
from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import read_json

PUBLIC_DATA = {"toolalpaca": "tangqiaoyu/ToolAlpaca"}
EVALUATION_ONLY = True
FILE = "eval_simulated.json"
THOUGHT = "I call a function."
OBSERVATION = "(not recorded)"
ASK = "getDetails"

_ASK = {
    "name": ASK,
    "description": "Ask the user for what the task does not say.",
    "parameters": json.dumps({"Question": "string. What to ask."}),
}
_PLACEHOLDER = "${"


class Config(BenchmarkConfig):
    kind: Literal["toolalpaca"] = "toolalpaca"


DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES

TASKS = (steps_task("toolalpaca_steps", "ToolAlpaca steps"),)


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the split of ToolAlpaca.

    Returns:
        toolalpaca_steps: a document for each golden call, as benchmarks/agent/steps.py makes them; "problem" counts the
        instructions of the whole file, also those without a document.

    Raises:
        AdaptbenchError: no folder is named, or its file is missing or not of the published form.
    """
    documents = []
    problem = 0
    for api, where in _load(public["toolalpaca"]):
        tools = [*offered(api, where), _ASK]
        for number, (instruction, golden) in enumerate(zip(api["Instructions"], api["Golden_Answers"], strict=True), 1):
            place = f"{where}, instruction {number}"
            steps = known_calls(golden, {tool["name"] for tool in tools}, place)
            # A trajectory must end; the end is not a golden step, so it is not evaluated.
            ended = {"instruction": instruction, "tools": tools, "steps": [*steps, dialogue.step("", dialogue.GIVE_UP)]}
            *known, _ = step_documents([ended], place)
            documents += [{**document, "problem": problem} for document in known]
            problem += 1
    return {"toolalpaca_steps": documents}


def _load(source: Mapping[str, Any]) -> list[tuple[Record, str]]:
    """Return the APIs of the file, each with its place in it."""
    if source["path"] is None:
        raise AdaptbenchError(
            f"data.toolalpaca: not on the hub; set data.toolalpaca.path to a folder with {FILE}, "
            "found under data/ in https://github.com/tangqiaoyu/ToolAlpaca"
        )
    path = Path(source["path"]) / FILE
    apis = read_json(path)
    if not isinstance(apis, list):
        raise AdaptbenchError(f"{path}: must be a list of APIs")
    places = [f"{path}: API {number}" for number in range(1, len(apis) + 1)]
    for api, where in zip(apis, places, strict=True):
        _check(api, where)
    return list(zip(apis, places, strict=True))


def _check(api: Any, where: str) -> None:
    if not isinstance(api, dict):
        raise AdaptbenchError(f"{where}: must be a JSON object")
    forms = {"Function_Description": dict, "Function_Projection": dict, "Instructions": list, "Golden_Answers": list}
    for key, form in forms.items():
        if not isinstance(api.get(key), form):
            raise AdaptbenchError(f"{where}: field {key!r} must be {'an object' if form is dict else 'a list'}")
    if len(api["Instructions"]) != len(api["Golden_Answers"]):
        raise AdaptbenchError(f"{where}: 'Instructions' and 'Golden_Answers' must be equally many")
    for name in api["Function_Projection"]:
        if not isinstance(api["Function_Description"].get(name), str):
            raise AdaptbenchError(f"{where}: 'Function_Description' must describe {name!r} as text")


def offered(api: Record, where: str) -> list[Record]:
    """Return the functions of an API as tools: those with a path in `Function_Projection`.

    `Function_Description` also has "components", a part of the OpenAPI document and not a function. A description's
    first line describes the function; the line "Parameters: " is a JSON object of texts.
    """
    tools = []
    for name in api["Function_Projection"]:
        description = api["Function_Description"][name]
        written = re.search(r"^Parameters: (.*)$", description, re.MULTILINE)
        parameters = dialogue.parse_arguments(written[1]) if written else None
        if parameters is None:
            raise AdaptbenchError(f"{where}: {name!r} has no line 'Parameters: ' with a JSON object")
        first = description.partition("\n")[0].strip()
        tools.append({"name": name, "description": first, "parameters": dialogue.canonical(parameters)})
    return tools


def known_calls(golden: Any, names: set[str], where: str) -> list[Record]:
    """Return the golden calls, as steps, up to the first that cannot be known from the file."""
    if not isinstance(golden, list):
        raise AdaptbenchError(f"{where}: its golden answer must be a list of calls")
    steps: list[Record] = []
    for number, call in enumerate(golden, 1):
        for key in ("Action", "Action_Input"):
            if not isinstance(call, dict) or not isinstance(call.get(key), str):
                raise AdaptbenchError(f"{where}: call {number}: field {key!r} must be text")
        action, arguments = call["Action"], dialogue.parse_arguments(call["Action_Input"])
        unknown = arguments is None or _PLACEHOLDER in call["Action_Input"]
        if unknown or action not in names or (steps and steps[-1]["action"] == ASK):
            break
        given = {"action": action, "arguments": dialogue.canonical(arguments), "observation": OBSERVATION}
        steps.append(dialogue.step(THOUGHT, dialogue.CALL, **given))
    return steps
