"""Make splits of trajectories: whole trajectories for training, single steps and episodes for tests."""

from collections.abc import Sequence

from adaptbench.agent import dialogue
from adaptbench.agent.trajectory import check, whole_text
from adaptbench.contracts import Record


def training_records(trajectories: Sequence[Record], where: str) -> list[Record]:
    """Return the checked trajectories, each with its whole `text` (for the leakage check and the tokenizer)."""
    records = []
    for number, one in enumerate(trajectories, 1):
        check(one, f"{where}, trajectory {number}")
        records.append({**one, "text": whole_text(one)})
    return records


def step_documents(trajectories: Sequence[Record], where: str, *, whole_answer: bool = False) -> list[Record]:
    """Return a document for each step, after the reference history.

    Its fields: "ask" ("step"), "problem" (the trajectory's number), "instruction", "tools", "history", "step", and a
    single model's "prompt" and "target". With `whole_answer` (also a field) an answer is right if all its words are,
    else if its last value is.
    """
    documents = []
    for problem, one in enumerate(trajectories):
        check(one, f"{where}, trajectory {problem + 1}")
        for number, gold in enumerate(one["steps"]):
            context = {"instruction": one["instruction"], "tools": one["tools"], "history": one["steps"][:number]}
            documents.append(
                {
                    "ask": "step",
                    "problem": problem,
                    **context,
                    "step": gold,
                    "whole_answer": whole_answer,
                    "prompt": dialogue.prompt("assistant", **context),
                    "target": dialogue.target("assistant", gold).removeprefix(" "),
                }
            )
    return documents


def live_documents(problems: Sequence[Record]) -> list[Record]:
    """Return a document for each problem, to be solved from the start.

    Its fields: "ask" ("episode"), "problem", "instruction", "tools", "answer" (the value that the final answer must end
    in), "calls" (the number of calls needed), "solvable", "prompt" and "target" as for steps.
    """
    documents = []
    for number, one in enumerate(problems):
        context = {"instruction": one["instruction"], "tools": one["tools"]}
        kept = {name: one[name] for name in ("answer", "calls", "solvable")}
        target = one["steps"][-1]["answer"] or "(give up)"
        prompt = dialogue.prompt("assistant", **context, history=[])
        documents.append({"ask": "episode", "problem": number, **context, **kept, "prompt": prompt, "target": target})
    return documents
