"""Looks up models and data sets before they are downloaded: in a folder, in the hub's cache, or on the hub.

A model that is complete in the cache is used as it is, without a request to the hub. Messages contain no token.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import read_json

COMMIT = re.compile("[0-9a-f]{40}")
PAGE = "https://huggingface.co/"
WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


@dataclass(frozen=True)
class ModelInfo:
    """A model's configuration and size.

    Attributes:
        config: the content of its config.json.
        parameters: number of parameters.
        bytes: size of its weights.
        missing: bytes that are still to be downloaded.
        origin: where it was found.
    """

    config: Mapping[str, Any]
    parameters: int
    bytes: int
    missing: int
    origin: str


def is_path(model: str) -> bool:
    """Return whether a model is a folder: it exists or looks like a path. Hub ids are `name` or `owner/name`."""
    # Path.exists raises an error if a name is too long for a file.
    return os.path.exists(model) or model.startswith((".", "/", "~")) or model.count("/") > 1


def model_path(model: str, revision: str) -> Path:
    """Return a model's folder: itself if it is one, else its snapshot in the hub's cache, which may not exist."""
    if is_path(model):
        return Path(model)
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(model, "config.json", revision=revision)
    except errors.HFValidationError:
        cached = None
    return Path(cached).parent if isinstance(cached, str) else cache_folder() / "not there"


def find_local(model: str, revision: str) -> ModelInfo | None:
    """Return a model that is in a folder or complete in the hub's cache, else None."""
    where = model_path(model, revision)
    try:
        config = json.loads((where / "config.json").read_text())
        shards = weights(where)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not shards or not all(shard.exists() for shard in shards):
        return None
    origin = "its folder" if is_path(model) else "the hub's cache"
    size = sum(shard.stat().st_size for shard in shards)
    return ModelInfo(config, sum(map(_parameters, shards)), size, 0, origin)


def weights(where: Path) -> list[Path]:
    """Return the files of weights that transformers reads from a model's folder: one file, else those in an index."""
    if (where / WEIGHTS).exists():
        return [where / WEIGHTS]
    return [where / name for name in _shards(where / INDEX)] if (where / INDEX).exists() else []


def _shards(index: Path) -> list[str]:
    """Return the files that an index names.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RecursionError: it is no index.
    """
    return sorted(set(json.loads(index.read_text())["weight_map"].values()))


def _parameters(shard: Path) -> int:
    """Return the number of parameters in a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(shard, framework="numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except SafetensorError:
        raise AdaptbenchError(f"{shard}: no safetensors file") from None


def find_remote(model: str, revision: str) -> ModelInfo:
    """Return what the hub knows of a model, within 10 seconds.

    Raises:
        AdaptbenchError: there is no such model or revision, it is gated, or its weights are in no format that is read.
        Unreachable: the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with hub_errors(model, revision, "model"):
        info = HfApi().model_info(model, revision=revision, files_metadata=True, timeout=10)
        if info.gated:
            HfApi().auth_check(model)
        files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        if "adapter_config.json" in files:
            raise AdaptbenchError(f"{model}: an adapter; merge it into its model and name the folder of the whole")
        if WEIGHTS not in files and INDEX not in files:
            raise AdaptbenchError(f"{model}: neither {WEIGHTS} nor {INDEX} on the hub; pickled weights are not read")
        download = partial(HfApi().hf_hub_download, model, revision=revision)
        try:
            names = [WEIGHTS] if WEIGHTS in files else _shards(Path(download(INDEX)))
            size = sum(files[name] for name in names)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise AdaptbenchError(f"{model}: {INDEX} on the hub does not name the weights that are there") from None
        config = read_json(Path(download("config.json")), strict=False)
    total = info.safetensors.total if info.safetensors else size // 2
    return ModelInfo(config, total, size, size, "the hub")


def check_data_set(name: str, revision: str) -> None:
    """Check that a data set on the hub can be read.

    Raises:
        AdaptbenchError: there is no such data set or revision, or it is gated.
        Unreachable: the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    with hub_errors(name, revision, "dataset"):
        info = HfApi().dataset_info(name, revision=revision, timeout=10)
        if info.gated:
            HfApi().auth_check(name, repo_type="dataset")


def is_prepared(name: str, revision: str) -> bool:
    """Return whether `datasets` has prepared this revision of the data set, and so reads it without the hub.

    Files in the hub's cache are not enough: for them `datasets` sends a request. For `main`, any prepared revision
    counts if its commit is unknown.
    """
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    *owner, short = name.split("/")
    folder = Path(os.path.expanduser(config.HF_DATASETS_CACHE)) / "___".join((*owner, camelcase_to_snakecase(short)))
    commits = {one.name for one in folder.glob("*/*/*") if one.is_dir()}  # configuration, version, commit
    wanted = data_commit(name, revision)
    return bool(commits) if wanted is None and revision == "main" else wanted in commits


def data_commit(name: str, revision: str) -> str | None:
    """Return the commit of a data set's revision when it was last read from the hub; None if that is unknown."""
    if COMMIT.fullmatch(revision):
        return revision
    reference = cache_folder() / f"datasets--{name.replace('/', '--')}" / "refs" / revision
    return reference.read_text().strip() if reference.is_file() else None


def check_id(name: str) -> None:
    """Check that `datasets` looks up this name on the hub instead of opening something local.

    Raises:
        AdaptbenchError: a file or folder has that name, which may lead anywhere, or a file reader of `datasets` has it.
    """
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    if os.path.exists(name):
        raise AdaptbenchError(
            f"{name}: there is a file or folder {os.path.abspath(name)}, which would be read instead of the hub's data "
            "set; start elsewhere or rename it"
        )
    if name in _PACKAGED_DATASETS_MODULES:
        raise AdaptbenchError(f"{name}: is a reader of files, no data set of the hub")


def check_commit(name: str, revision: str, read: str) -> None:
    """Check that the commit that `datasets` has `read` is the revision's.

    Without the hub, `datasets` reads the commit that it prepared last.

    Raises:
        AdaptbenchError: it is another commit.
    """
    wanted = data_commit(name, revision)
    # Older versions of `datasets` name folders differently, not by commit.
    if wanted is not None and wanted != read and COMMIT.fullmatch(read):
        raise AdaptbenchError(
            f"{name}: revision {revision!r} is commit {wanted}, what `datasets` has prepared last is {read}; "
            "load the revision with `datasets` once while online"
        )


class Unreachable(AdaptbenchError):
    """The hub cannot be reached."""


@contextmanager
def hub_errors(name: str, revision: str, kind: str) -> Iterator[None]:
    """Translate hub exceptions into AdaptbenchError.

    Args:
        name: the model or data set.
        revision: its revision.
        kind: "model" or "dataset".

    Raises:
        AdaptbenchError: there is no such model or data set, or revision, or it is gated.
        Unreachable: the hub cannot be reached.
    """
    from huggingface_hub import errors, get_token
    from huggingface_hub.errors import HTTPError

    page = PAGE + ("datasets/" if kind == "dataset" else "") + name
    try:
        yield
        return
    except errors.GatedRepoError:
        token = "the token that is set has no access" if get_token() else "no token is set"
        said = f"is gated and {token}; accept its terms at {page} and log in with `hf auth login` (or set HF_TOKEN)"
    except errors.RepositoryNotFoundError:
        said = f"the hub has no such {kind}, or it is private and no token for it is set"
    except errors.RevisionNotFoundError:
        said = f"has no revision {revision!r} on the hub"
    except UnicodeEncodeError:
        said = "cannot be asked for: the token that is set (HF_TOKEN) holds characters that no token has"
    except errors.HFValidationError:
        said = "is neither a folder nor an id of the hub (name, or owner/name)"
    except errors.RemoteEntryNotFoundError as error:
        said = f"lacks a file on the hub: {' '.join(str(error).split())[:200]}"
    except (errors.LocalEntryNotFoundError, HTTPError, ConnectionError, TimeoutError) as error:
        why = "HF_HUB_OFFLINE is set" if _offline() else f"the hub cannot be reached ({type(error).__name__})"
        if kind == "dataset":
            said = f"is not in the cache of `datasets`, and {why}; load it with `datasets` once while online"
        else:
            said = f"is not in the hub's cache, and {why}"
        raise Unreachable(f"{name}: {said}") from None
    raise AdaptbenchError(f"{name}: {said}")


def unavailable(name: str, source: Mapping[str, Any], error: Exception) -> AdaptbenchError:
    """Return an error for the data set `source` of data.<name>, which `datasets` failed to read with `error`."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    said = AdaptbenchError(f"{source['path'] or source['hub_id']}: {reason}")
    return AdaptbenchError(f"data.{name}: {said}") if source["path"] else with_folder_hint(name, said)


def with_folder_hint(name: str, error: AdaptbenchError) -> AdaptbenchError:
    """Return the error with data.<name> before it, and the hint to set data.<name>.path after it."""
    return AdaptbenchError(f"data.{name}: {error}; or set data.{name}.path to a local folder")


def _offline() -> bool:
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def cache_folder() -> Path:
    """Return the folder of the hub's cache."""
    from huggingface_hub import constants

    return Path(os.path.expanduser(constants.HF_HUB_CACHE))
