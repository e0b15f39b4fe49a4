"""What the hub's clients leave on a disk, made without the hub: under HF_HUB_OFFLINE=1 they find models and sets there by their ids."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path


def add_model(home: Path, hub_id: str, folder: Path) -> None:
    """Put a model's folder where HF_HOME=`home` keeps `hub_id` after a download."""
    commit = "0" * 40
    repository = home / "hub" / f"models--{hub_id.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)


def add_set(home: Path, hub_id: str, splits: Mapping[str, Sequence[dict]], config: str = "default") -> None:
    """Put a set's records where HF_HOME=`home` keeps the configuration of `hub_id` once `datasets` has read it."""
    import datasets
    from datasets.arrow_writer import ArrowWriter
    from datasets.naming import camelcase_to_snakecase

    owner, name = hub_id.split("/")
    name = camelcase_to_snakecase(name)
    folder = home / "datasets" / f"{owner}___{name}" / config / "0.0.0" / ("0" * 40)
    folder.mkdir(parents=True)
    infos = {}
    for split, records in splits.items():
        made = datasets.Dataset.from_list(list(records))
        writer = ArrowWriter(path=str(folder / f"{name}-{split}.arrow"), features=made.features)
        writer.write_table(made.data.table)
        count, size = writer.finalize()
        infos[split] = datasets.SplitInfo(name=split, num_bytes=size, num_examples=count, dataset_name=name)
    info = datasets.DatasetInfo(
        features=made.features,
        splits=datasets.SplitDict(infos),
        config_name=config,
        dataset_name=name,
        builder_name="json",
        version="0.0.0",
    )
    info.write_to_directory(str(folder))
