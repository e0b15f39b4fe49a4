"""A hub without a network: models and data sets in the folders that Hugging Face's own caches are made of.

Read with HF_HUB_OFFLINE=1 (tests/conftest.py) and HF_HOME, or the paths that `use` sets, naming the folder.
"""

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

WORDS = ("one", "two", "three", "four")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def add_model(home: Path, name: str, files: Path, *, revision: str = "main") -> Path:
    """The model in the folder `files` as `name` (owner/model) of the hub; returns its snapshot.

    Blobs are named by their content, a snapshot links to them, a reference says which snapshot a revision is.
    """
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (repository / "blobs", repository / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(COMMIT)
    for file in files.iterdir():
        blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def add_data(home: Path, name: str, splits: Mapping[str, Sequence[Mapping]], *, config: str = "default") -> None:
    """A data set (owner/name) of the hub, as `datasets` leaves one that it has loaded."""
    from datasets import Dataset, DatasetInfo, SplitDict, SplitInfo
    from datasets.arrow_writer import ArrowWriter
    from datasets.naming import camelcase_to_snakecase

    owner, _, short = name.partition("/")
    short = camelcase_to_snakecase(short)
    folder = home / "datasets" / f"{owner}___{short}" / config / "0.0.0" / COMMIT
    folder.mkdir(parents=True)
    infos = SplitDict(dataset_name=short)
    for split, documents in splits.items():
        made = Dataset.from_list([dict(document) for document in documents])
        with ArrowWriter(features=made.features, path=str(folder / f"{short}-{split}.arrow")) as writer:
            for document in made:
                writer.write(document)
            writer.finalize()
        infos.add(SplitInfo(split, num_examples=len(documents), dataset_name=short))
    DatasetInfo(
        features=made.features, dataset_name=short, config_name=config, version="0.0.0", splits=infos
    ).write_to_directory(str(folder))


def use(home: Path, monkeypatch) -> None:
    """Let this process find what lies in `home`."""
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(home / "datasets"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))


def arc(number: int, right: int = 0) -> dict:
    """A made-up question as ARC's."""
    texts = [f"thing {number}{letter}" for letter in "wxyz"]
    return {
        "id": f"q{number}",
        "question": f"Which is kept in cup {number}?",
        "choices": {"text": texts, "label": list("ABCD")},
        "answerKey": "ABCD"[right],
    }


def question(task: str, number: int) -> dict:
    """A made-up document as the data set of one of lm-eval's tasks has it."""
    words = [f"{word} {number}" for word in WORDS]
    if task.startswith("arc"):
        return arc(number, number % 4)
    if task.startswith("cmmlu"):
        return {"Question": f"{task} {number}?", **dict(zip("ABCD", words, strict=True)), "Answer": "ABCD"[number % 4]}
    if task.startswith("mmlu"):
        return {"question": f"{task} {number}?", "subject": task, "choices": words, "answer": number % 4}
    if task == "hellaswag":
        return {"ctx_a": f"The cup {number}", "ctx_b": "is", "activity_label": "Cups", "endings": words,
            "label": str(number % 4)}  # fmt: skip
    if task == "medqa_4options":
        endings = {f"ending{place}": word for place, word in enumerate(words)}
        return {"sent1": f"Which is {number}?", **endings, "label": number % 4}
    if task == "medmcqa":
        options = {f"op{letter}": word for letter, word in zip("abcd", words, strict=True)}
        return {"question": f"Which is {number}?", **options, "cop": number % 4}
    return {"question": f"What is {number} + 1?", "answer": f"It is {number + 1}.\n#### {number + 1}"}


def add_stock(home: Path, tasks: Iterable[str]) -> None:
    """The data of lm-eval's tasks, two documents to test on."""
    from adaptbench.graph import lm_eval_index, stock_tasks

    for task in tasks:
        index = lm_eval_index.task_manager((task,)).task_index
        for leaf in stock_tasks.describe(task).tasks:
            options = index[leaf].cfg
            splits = {
                options[f"{use}_split"]: [question(leaf, i + 10 * place) for i in range(2 if use == "test" else 6)]
                for place, use in enumerate(("training", "fewshot", "validation", "test"))
                if options.get(f"{use}_split")
            }
            add_data(home, options["dataset_path"], splits, config=options.get("dataset_name") or "default")


def add_texts(home: Path, name: str, *, field: str = "text", config: str = "default") -> None:
    """A corpus of sixty short texts."""
    texts = [{field: f"{name} {i}: the cup number {i * i} is kept by {'ab'[i % 2]}."} for i in range(60)]
    add_data(home, name, {"train": texts}, config=config)
