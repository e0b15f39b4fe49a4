"""What makes text safe inside a page: data and libraries go in as base64 of compressed bytes, which no text breaks out of.

The browser unpacks a piece when it is asked for. Scripts run by their hashes alone, the libraries' too: so not even a
script that got into the page would run.
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adaptbench.errors import AdaptbenchError


class Chunks:
    """Pieces of data by number; equal ones are one."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def add(self, content: Any) -> int:
        """Keep `content`, which JSON can hold; returns its number.

        Raises:
            ValueError: a number in it is not finite.
        """
        # ASCII, since a lone half of a surrogate pair is no UTF-8. Keys stay in their order: it is that of the preset.
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        packed = zlib.compress(text.encode("ascii"), 9)
        return self._numbers.setdefault(packed, len(self._numbers))

    def encoded(self) -> Iterable[str]:
        """The pieces in the order of their numbers."""
        return map(encode, self._numbers)


def encode(packed: bytes) -> str:
    return base64.b64encode(packed).decode("ascii")


def packed_script(text: str) -> str:
    return encode(zlib.compress(text.encode("utf-8"), 9))


def policy(scripts: Iterable[str]) -> str:
    """The content security policy under which `scripts` run, no other one does, and nothing is fetched.

    Styles stay open: both libraries write style elements, and a style alone can send nothing where no address is allowed.
    """
    hashes = " ".join(f"'sha256-{encode(hashlib.sha256(text.encode('utf-8')).digest())}'" for text in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def data_tables() -> tuple[str, str]:
    """DataTables' script and style, as the package itables ships them.

    Raises:
        AdaptbenchError: the package's file has another form than expected.
    """
    folder = _package("itables") / "html"
    script = (folder / "dt_bundle.js").read_text(encoding="utf-8")
    exported = re.search(r"export\s*\{([^}]*)\}\s*;?", script)
    name = re.search(r"([\w$]+) as jQuery\b", exported.group(1)) if exported else None
    if exported is None or name is None:
        raise AdaptbenchError("itables: its bundle exports no jQuery; install the version that constraints.txt names")
    # A module's names are its own; in a plain script a function keeps them so.
    inner = script[: exported.start()] + script[exported.end() :]
    script = f'(() => {{"use strict";\n{inner}\nwindow.DataTable = {name.group(1)}.fn.dataTable;\n}})();'
    return script, (folder / "dt_bundle.css").read_text(encoding="utf-8")


def plotly() -> str:
    return (_package("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _package(name: str) -> Path:
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise AdaptbenchError(f"{name} is not installed; run `make` or pip install -e .")
    return Path(next(iter(found.submodule_search_locations)))
