"""Files of a user's data folder that `datasets` may open: plain ones, of that folder. By their name alone it would open more: it unpacks what
begins as an archive does, whatever its suffix, and follows links.
"""

import glob
from collections.abc import Iterable
from pathlib import Path

from adaptbench.contracts import AdaptbenchError


def checked(name: str, folder: Path, files: Iterable[Path]) -> list[str]:
    """These files of the folder that data.<name>.path names, as the patterns for which `datasets` takes every path.

    Raises:
        AdaptbenchError: one line: one of them is no plain file, lies elsewhere, or is packed.
    """
    from datasets.utils.extract import Extractor  # what it would unpack is what is refused

    found = []
    places = _places(folder)
    for file in files:
        where = file.resolve()
        if not any(where.is_relative_to(place) for place in places):
            said = f"a link to {where}, which is outside of the folder; copy it there"
        elif not where.is_file():
            said = "no plain file; leave it out of the folder"
        elif packed := Extractor.infer_extractor_format(where):
            said = f"packed ({packed}), and nothing is unpacked here; unpack it first"
        else:
            found.append(glob.escape(str(file)))
            continue
        raise AdaptbenchError(f"data.{name}.path: {file}: {said}")
    return found


def _places(folder: Path) -> list[Path]:
    """Where the folder's files may lie: in it, and those of a snapshot in the hub's cache among the blobs of its repository."""
    whole = folder.resolve()
    parents = [whole, *whole.parents]
    repositories = [
        one.parent for one in parents if one.name == "snapshots" and one.parent.name.startswith("datasets--")
    ]
    return [whole, *(repository / "blobs" for repository in repositories)]
