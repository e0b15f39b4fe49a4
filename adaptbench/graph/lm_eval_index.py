"""Indexes the tasks, groups and tags of lm-eval.

lm-eval reads all of its 14,000 files to find a task, which takes ten seconds. Here its TaskManager gets only the
folders that contain the names in question.
"""

import importlib.util
import logging
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench.errors import AdaptbenchError

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Entry

_NAMED = re.compile(rb"""^["']?(?:task|group)["']?\s*:\s*["']?([^\s"'#]+)["']?\s*(?:#.*)?$""", re.MULTILINE)


@cache
def task_files() -> dict[str, Path]:
    """Return the file of every task and group, by name."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise AdaptbenchError("lm-eval is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "tasks"
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.yaml")):
        for name in _NAMED.findall(path.read_bytes()):
            found.setdefault(name.decode(), path)
    return found


@cache
def task_manager(names: tuple[str, ...]) -> "TaskManager":
    """Return lm-eval's manager of these tasks, and of the tasks in these groups."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.tasks import TaskManager

    folders = {task_files()[name].parent for name in names}
    while True:
        manager = TaskManager(include_path=sorted(folders), include_defaults=False)
        held = {child for name in names for child in _all_children(name, manager.task_index)}
        elsewhere = {
            task_files()[child].parent for child in held if child not in manager.task_index and child in task_files()
        }
        if not elsewhere:
            return manager
        folders |= elsewhere


def children(config: Mapping[str, Any]) -> list[str]:
    """Return the tasks, groups or tags that a group lists."""
    listed = config["task"] if isinstance(config["task"], list) else [config["task"]]
    names = [one if isinstance(one, str) else one.get("task", one.get("group")) for one in listed]
    if not all(isinstance(one, str) for one in names):
        raise AdaptbenchError(f"{config['group']}: a group that makes tasks of its own; name others")
    return names


def _all_children(name: str, index: "Mapping[str, Entry]") -> Iterator[str]:
    """Yield what a group and the groups in it list."""
    entry = index.get(name)
    if entry is None or entry.cfg is None or "group" not in entry.cfg:
        return
    for child in children(entry.cfg):
        yield child
        yield from _all_children(child, index)


def leaves(name: str, index: "Mapping[str, Entry]") -> Iterator[str]:
    """Yield the tasks of a task, group or tag, in lm-eval's order."""
    entry = index.get(name)
    if entry is None:
        raise AdaptbenchError(f"{name}: no task, group or tag of lm-eval")
    if entry.cfg is None:  # a tag
        yield from sorted(entry.tags)
    elif "group" in entry.cfg:
        for child in children(entry.cfg):
            yield from leaves(child, index)
    else:
        yield name
