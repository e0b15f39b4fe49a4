"""Trajectories as splits: whole ones to train on, single steps to be asked."""

from collections.abc import Sequence

from adaptbench.agent import dialogue
from adaptbench.agent.trajectory import check
from adaptbench.contracts import Record


def training_records(trajectories: Sequence[Record], where: str) -> list[Record]:
    """The trajectories, checked, each with its whole `text` (what is compared with tests, and what tokenizers see)."""
    records = []
    for number, one in enumerate(trajectories, 1):
        check(one, f"{where}, trajectory {number}")
        records.append({**one, "text": whole_text(one)})
    return records


def step_documents(trajectories: Sequence[Record], where: str, *, whole_answer: bool = False) -> list[Record]:
    """A document a step, its history the right one: "ask" ("step"), "problem" (the trajectory's number), "instruction", "tools",
    "history", "step", and what a single model is asked ("prompt") and should write ("target"). With
    `whole_answer` ("whole_answer") an answer is right if all of its words are, else if the value that it ends in is.
    """
    documents = []
    for problem, one in enumerate(trajectories):
        check(one, f"{where}, trajectory {problem + 1}")
        for number, gold in enumerate(one["steps"]):
            asked = {"instruction": one["instruction"], "tools": one["tools"], "history": one["steps"][:number]}
            documents.append(
                {
                    "ask": "step",
                    "problem": problem,
                    **asked,
                    "step": gold,
                    "whole_answer": whole_answer,
                    "prompt": dialogue.prompt("assistant", **asked),
                    "target": dialogue.target("assistant", gold).removeprefix(" "),
                }
            )
    return documents


def whole_text(trajectory: Record) -> str:
    """The dialogue from the tools to the end, as the single model has read and written it."""
    *past, last = trajectory["steps"]
    asked = dialogue.prompt("assistant", trajectory["instruction"], trajectory["tools"], past)
    return asked + dialogue.target("assistant", last)


def live_documents(problems: Sequence[Record]) -> list[Record]:
    """A document a problem, to be solved from the start: "ask" ("episode"), "problem", "instruction", "tools", "answer" (the value that the
    final answer must end in), "calls" (how many it needs), "solvable", "prompt" and "target" as for steps.
    """
    documents = []
    for number, one in enumerate(problems):
        asked = {"instruction": one["instruction"], "tools": one["tools"]}
        kept = {name: one[name] for name in ("answer", "calls", "solvable")}
        target = one["steps"][-1]["answer"] or "(give up)"
        prompt = dialogue.prompt("assistant", **asked, history=[])
        documents.append({"ask": "episode", "problem": number, **asked, **kept, "prompt": prompt, "target": target})
    return documents
