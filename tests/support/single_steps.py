"""Checks of documents that ask for single steps."""

import pytest

from adaptbench.agent import dialogue
from adaptbench.agent.trajectory import check_tools
from adaptbench.data.leakage import full_text
from adaptbench.errors import AdaptbenchError


def asked_and_right(document: dict) -> None:
    """A document is a step that could be a trajectory's: what is asked and what is right follow from its parts."""
    names = check_tools(document["tools"])
    given = {name: document[name] for name in ("instruction", "tools", "history")}
    assert document["prompt"] == dialogue.prompt("assistant", **given)
    assert document["target"] == dialogue.target("assistant", document["step"]).removeprefix(" ")
    assert full_text(document)
    for step in [*document["history"], document["step"]]:
        if step["decision"] == dialogue.CALL:
            assert step["action"] in names
            assert dialogue.parse_arguments(step["arguments"]) is not None
            assert step["observation"]
            assert "\n" not in step["observation"]


def reads_back(step: dict) -> None:
    """Every role's text for a step is read as that step."""
    written = {role: dialogue.target(role, step) for role in dialogue.ROLES}
    read = {role: dialogue.parse(role, text) for role, text in written.items() if text is not None}
    assert read.pop("assistant") == {**step, "observation": ""}
    assert read.pop("planner") == dialogue.step(step["thought"], step["decision"])
    if step["decision"] == dialogue.CALL:
        given = {"action": step["action"], "arguments": step["arguments"]}
        assert read == {"caller": dialogue.step("", dialogue.CALL, **given)}
    else:
        assert read == {"summarizer": dialogue.step("", dialogue.ANSWER, answer=step["answer"])}


def one_line(caught: pytest.ExceptionInfo[AdaptbenchError]) -> bool:
    return "\n" not in str(caught.value)
