"""Assemble a team's directory: three role models, or one model and three adapters.

planner/ caller/ summarizer/           three plain model directories
base/ planner/ caller/ summarizer/     for a tuner that keeps adapters: the model they were trained on, and the adapters
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptbench.agent.dialogue import TEAM
from adaptbench.io import model_folder

ADAPTER = "adapter_config.json"


def decode(roles: Mapping[str, str], base: str | None = None) -> dict[str, Any]:
    """Return the manifest's entry for decoding: the path of each role's model (or adapter, of the model `base`)."""
    return {"kind": "agent", "roles": dict(roles)} | ({"base": base} if base else {})


def assemble(members: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write the team's directory from its roles' stages, and return entries for its manifest.

    `members` holds the directories of the roles and of the models that they may have been trained on.
    """
    for role in TEAM:
        _link(members[role], out / role)
    manifests = {role: model_folder.read_manifest(members[role]) for role in TEAM}
    parameters = {"total": sum(one["parameters"]["total"] for one in manifests.values())}
    if not (members["planner"] / ADAPTER).exists():
        return {"decode": decode({role: role for role in TEAM}), "parameters": parameters}
    parent = manifests["planner"]["parents"]["model"]
    start = next(path for path in members.values() if path.name == parent)
    _link(start, out / "base")
    shared = model_folder.read_manifest(start)["parameters"]["total"]
    adapters = sum(one["parameters"]["total"] - shared for one in manifests.values())
    return {
        "decode": decode({role: role for role in TEAM}, base="base"),
        "parameters": {"total": shared + adapters},
    }


def _link(source: Path, target: Path) -> None:
    """Copy a directory by hard links where possible: stages never change, and models are large."""

    def link(file: str, copy: str) -> None:
        try:
            os.link(file, copy)
        except OSError:
            shutil.copyfile(file, copy)

    shutil.copytree(source, target, copy_function=link)
