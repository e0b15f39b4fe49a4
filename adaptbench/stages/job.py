"""Runs one stage of the graph: reads its plan, makes its directory atomically, and records its cost.

There is one function for each kind of node; the plan names the methods that they call. The work folder, where a killed
stage left its checkpoint, is named after the stage's id and a digest of its code and of its inputs' files: a stage
whose code or inputs have changed never resumes from old steps.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adaptbench.config.schema import Devices
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import sources
from adaptbench.io import model_folder, records
from adaptbench.io.files import lock, remove, whole_directory, write_text
from adaptbench.jobs import gpus
from adaptbench.kernels import implementations
from adaptbench.stages.base import import_base, pretrain
from adaptbench.stages.data import build_data, lay_tasks, train_tokenizer
from adaptbench.stages.finish import assemble, posthoc
from adaptbench.stages.inputs import Spec, base_lacks
from adaptbench.stages.train import prepare, train
from adaptbench.train import distributed
from adaptbench.train.provenance import git_state, seconds_since_process_start


def run(plan: Path, out: Path) -> None:
    """Make the stage that `plan` describes in `out`, in as many processes as it says.

    Raises:
        AdaptbenchError: an error that the user can fix; `out` is not made.
    """
    spec = json.loads(plan.read_text())
    work = plan.parent.parent / "work" / f"{spec['id']}-{_digest(spec)}"
    if distributed.in_process_group():
        distributed.set_device()
    if distributed.in_process_group() and (distributed.launched_by_us() or not distributed.is_main()):
        _make(spec, work, out)  # another process holds the lock
        return
    with plan.with_name(f".{spec['id']}.lock").open("w") as file:
        if not lock(file.fileno()):
            raise AdaptbenchError(f"{spec['id']}: another process is making this stage; run again when it has ended")
        devices = Devices.model_validate(spec.get("devices", {}))
        if distributed.in_process_group():
            _make(spec, work, out)
            return
        with gpus.reserve(devices.processes if spec["kind"] in gpus.STAGES else 0):
            if devices.processes > 1:
                distributed.launch(devices, run, plan, out)
            else:
                _make(spec, work, out)


def _make(spec: Spec, work: Path, out: Path) -> None:
    """Make the stage in this process. Of several processes only the main one writes `out`."""
    if not distributed.is_main():
        with tempfile.TemporaryDirectory() as nowhere:
            KINDS[spec["kind"]](spec, Path(nowhere), work)
        return
    with whole_directory(out) as temporary:
        with implementations.recording() as ran:
            manifest = {"lacks": base_lacks(spec)} | KINDS[spec["kind"]](spec, temporary, work)
        seconds = {"all": round(seconds_since_process_start(), 3)} | manifest.pop("seconds", {})
        if spec["kind"] not in ("data", "tasks", "tokenizer"):
            described = {
                "stage": spec["id"],
                "kind": spec["kind"],
                "options": spec["options"],
                "parents": spec["parents"],
                "git": git_state(),
                "kernels": ran,
            }
            model_folder.write_manifest(temporary, manifest | described | {"seconds": seconds})
            records.keep(temporary, work.parent.parent / "records" / spec["id"])
        else:
            write_text(temporary / "seconds.json", json.dumps(seconds) + "\n")
    remove(work)


def _digest(spec: Spec) -> str:
    """Return a digest of the stage's code and of its inputs' files, which the id does not cover."""
    digest = hashlib.sha256(sources.project_code().of_stage(spec["kind"], spec["options"]).encode())
    for directory in spec["inputs"].values():
        for path in sorted(Path(directory).rglob("*")):
            stat = path.stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:10]


KINDS: Mapping[str, Callable[[Spec, Path, Path], dict[str, Any]]] = {
    "data": build_data,
    "tasks": lay_tasks,
    "tokenizer": train_tokenizer,
    "base": pretrain,
    "imported_base": import_base,
    "prepare": prepare,
    "train": train,
    "assemble": assemble,
    "posthoc": posthoc,
}
