"""What a stage has noted, which outlives its weights.

Once all runs that come of an intermediate model are done nothing reads it, but costs and figures go on reading what its stage has
noted (adaptbench.json, losses, what a method measured): that is its record, results/<preset>/records/<id>.
"""

import shutil
from pathlib import Path

from adaptbench.io.files import whole_directory

NOT_RECORDED = shutil.ignore_patterns(
    "*.safetensors*", "tokenizer*", "vocab*", "merges.txt", "*.model", "*.jinja", "README.md"
)


def keep(made: Path, record: Path) -> None:
    """Copy what a stage has noted, without weights and tokenizer, from the directory that it made."""
    with whole_directory(record) as temporary:
        shutil.copytree(made, temporary, ignore=NOT_RECORDED, dirs_exist_ok=True)


def find(stage: Path) -> Path:
    """Return where to read what the stage of results/<preset>/stages/<id> has noted: there, or in its record if its model is gone."""
    kept = stage.parent.parent / "records" / stage.name
    return stage if (stage / "adaptbench.json").exists() or not kept.exists() else kept
