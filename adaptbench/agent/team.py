"""A team's directory: three role models, or one model and three adapters, and how they decode.

planner/ caller/ summarizer/           each a plain model directory
base/ planner/ caller/ summarizer/     where the tuner keeps adapters: the model they were trained on, and they
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
    """How a directory decodes: each role's model (or adapter, of the model `base`) in it; "." is the directory itself."""
    return {"kind": "agent", "roles": dict(roles)} | ({"base": base} if base else {})


def assemble(members: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write the team's directory from its roles' stages; returns its manifest's entries.

    `members` holds the roles' directories and those that they may have been trained on.
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
    """The same files under another name: stages never change, and large models need not lie there twice."""

    def link(file: str, copy: str) -> None:
        try:
            os.link(file, copy)
        except OSError:
            shutil.copyfile(file, copy)

    shutil.copytree(source, target, copy_function=link)
