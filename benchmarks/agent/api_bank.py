"""API-Bank's dialogues, step by step: the next API that is called, its arguments, and the answer to the user.

Only for evaluation. Source: arXiv 2304.08244; dialogues of api-bank/ in https://github.com/AlibabaResearch/DAMO-ConvAI,
one in a line:

    {"id": text, "turns": [{"role": "User" or "AI", "text"}, {"role": "API", "api_name", "param_dict", "result"}, ...]}

with the result's "output" or "exception". 264 dialogues with 508 calls of 50 APIs; three dialogues have no call.

APIs are called in runs: one call after another without words between. The words and calls before a run are its task;
the earlier calls of the run are the history. Where the AI speaks after a run (478 of 482), its words are the right
answer of one more document. Thoughts are not recorded; they are fixed texts.

The dialogues describe no API, so a tool is derived from the calls of the whole file: its name, the name in words, and
every parameter of any call. Besides the dialogue's APIs others are offered, drawn by the seed and the dialogue's id.
`ToolSearcher` (45 calls) looks for the API that is called next, although that one is offered anyway.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from adaptbench.agent import dialogue
from adaptbench.benchmarks.agent import measures
from adaptbench.benchmarks.agent.measures import steps_task
from adaptbench.benchmarks.agent.steps import step_documents
from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import read_jsonl

PUBLIC_DATA = {"api_bank": "AlibabaResearch/DAMO-ConvAI"}
EVALUATION_ONLY = True
FILE = "dialogues.jsonl"
ROLES = ("User", "AI", "API")
CALL_THOUGHT = "I call an API."
ANSWER_THOUGHT = "I tell the user."


class Config(BenchmarkConfig):
    kind: Literal["api_bank"] = "api_bank"
    tools: int = Field(8, ge=1, description="APIs in every prompt; more if a dialogue calls more")


DECODE, TASK_FILES = measures.DECODE, measures.TASK_FILES

TASKS = (steps_task("api_bank_steps", "API-Bank steps"),)


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the split of API-Bank.

    Returns:
        api_bank_steps: a document for each call or answer, as benchmarks/agent/steps.py makes them; "problem" counts
        the dialogues.

    Raises:
        AdaptbenchError: no folder is named, or its file is missing or not of the form above.
    """
    if public["api_bank"]["path"] is None:
        raise AdaptbenchError(
            f"data.api_bank: not on the hub; set data.api_bank.path to a folder with {FILE}, in the form that "
            "benchmarks/agent/api_bank.py describes, from https://github.com/AlibabaResearch/DAMO-ConvAI (api-bank/)"
        )
    path = Path(public["api_bank"]["path"]) / FILE
    dialogues = read_jsonl(path, require=("id",))
    for number, one in enumerate(dialogues, 1):
        _check(one, f"{path}: dialogue {number} ({one['id']})")
    known = tools_of(dialogues)
    documents = []
    for problem, one in enumerate(dialogues):
        offered = _offered(one, known, config.tools, random.Random(f"{seed}/api_bank/{one['id']}"))
        for instruction, steps in runs(one["turns"]):
            answered = steps[-1]["decision"] == dialogue.ANSWER
            # A trajectory must end; an end that is not recorded is not evaluated.
            ended = steps if answered else [*steps, dialogue.step("", dialogue.GIVE_UP)]
            trajectory = {"instruction": instruction, "tools": offered, "steps": ended}
            where = f"{path}: dialogue {problem + 1} ({one['id']})"
            recorded = step_documents([trajectory], where, whole_answer=True)[: len(steps)]
            documents += [{**document, "problem": problem} for document in recorded]
    return {"api_bank_steps": documents}


def _check(one: Record, where: str) -> None:
    if not isinstance(one.get("turns"), list):
        raise AdaptbenchError(f"{where}: field 'turns' must be a list")
    for number, turn in enumerate(one["turns"], 1):
        try:
            _check_turn(turn)
        except ValueError as error:
            raise AdaptbenchError(f"{where}: turn {number}: {error}") from None


def _check_turn(turn: Any) -> None:
    if not isinstance(turn, dict):
        raise ValueError("must be a JSON object")
    if turn.get("role") not in ROLES:
        raise ValueError(f"'role' must be one of {', '.join(ROLES)}, not {turn.get('role')!r}")
    forms = {"api_name": str, "param_dict": dict, "result": dict} if turn["role"] == "API" else {"text": str}
    for key, form in forms.items():
        if not isinstance(turn.get(key), form):
            raise ValueError(f"field {key!r} must be {'text' if form is str else 'an object'}")
    if turn["role"] == "API" and "output" not in turn["result"] and "exception" not in turn["result"]:
        raise ValueError("field 'result' needs 'output' or 'exception'")


def tools_of(dialogues: Sequence[Record]) -> dict[str, Record]:
    """Return the APIs by name, in alphabetical order, as derived from the calls."""
    parameters: dict[str, dict[str, str]] = {}
    for one in dialogues:
        for turn in one["turns"]:
            if turn["role"] == "API":
                parameters.setdefault(turn["api_name"], {}).update(dict.fromkeys(turn["param_dict"], ""))
    return {
        name: {"name": name, "description": _in_words(name), "parameters": dialogue.canonical(parameters[name])}
        for name in sorted(parameters)
    }


def _in_words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _offered(one: Record, known: Mapping[str, Record], count: int, rng: random.Random) -> list[Record]:
    """Return the dialogue's APIs and others up to `count`, shuffled; all its prompts offer the same tools."""
    own = sorted({turn["api_name"] for turn in one["turns"] if turn["role"] == "API"})
    others = [name for name in known if name not in own]
    chosen = own + rng.sample(others, min(len(others), max(0, count - len(own))))
    rng.shuffle(chosen)
    return [known[name] for name in chosen]


def runs(turns: Sequence[Record]) -> Iterator[tuple[str, list[Record]]]:
    """Yield for every run of calls the earlier words and calls as text, and its calls and answer as steps."""
    past: list[str] = []
    groups = [(api, list(group)) for api, group in groupby(turns, lambda turn: turn["role"] == "API")]
    for number, (api, group) in enumerate(groups):
        if api:
            steps = [_call(turn) for turn in group]
            after = groups[number + 1][1][0] if number + 1 < len(groups) else None
            if after and after["role"] == "AI" and after["text"].strip():
                steps.append(dialogue.step(ANSWER_THOUGHT, dialogue.ANSWER, answer=after["text"].strip()))
            yield "\n".join(past), steps
        past += [_as_text(turn) for turn in group]


def _call(turn: Record) -> Record:
    given = {"action": turn["api_name"], "arguments": dialogue.canonical(turn["param_dict"])}
    return dialogue.step(CALL_THOUGHT, dialogue.CALL, **given, observation=observation(turn["result"]))


def _as_text(turn: Record) -> str:
    if turn["role"] != "API":
        return f"{turn['role']}: {_line(turn['text'])}"
    return f"API: {turn['api_name']} {dialogue.canonical(turn['param_dict'])} -> {observation(turn['result'])}"


def observation(result: Record) -> str:
    """Return the result of a call as one non-empty line."""
    if result.get("exception") is not None:
        return _line(f"error: {result['exception']}")
    output = result.get("output")
    return _line(output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)) or "(nothing)"


def _line(text: str) -> str:
    return " ".join(text.split())
