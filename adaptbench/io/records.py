"""Keeps a stage's record, which outlives its weights.

Once all runs that descend from an intermediate model are done, nothing reads its weights. Costs and figures still read
its stage's record, results/<preset>/records/<id>: adaptbench.json, losses and what a method measured.
"""

import shutil
from pathlib import Path

from adaptbench.io.files import whole_directory

NOT_RECORDED = shutil.ignore_patterns(
    "*.safetensors*", "tokenizer*", "vocab*", "merges.txt", "*.model", "*.jinja", "README.md"
)


def keep(made: Path, record: Path) -> None:
    """Copy a stage's directory to its record, without weights and tokenizer."""
    with whole_directory(record) as temporary:
        shutil.copytree(made, temporary, ignore=NOT_RECORDED, dirs_exist_ok=True)


def find(stage: Path) -> Path:
    """Return the directory results/<preset>/stages/<id> of a stage, or its record if the model was removed."""
    kept = stage.parent.parent / "records" / stage.name
    return stage if (stage / "adaptbench.json").exists() or not kept.exists() else kept
