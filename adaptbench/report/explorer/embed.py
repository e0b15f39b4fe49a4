"""Embed data and libraries in a page as base64 of compressed bytes, from which no text can break out.

The browser unpacks a chunk when it is needed. Scripts run only if the policy has their hash, so an injected script
would not run.
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
    """Numbered chunks of data; equal ones share a number."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}

    def add(self, content: Any) -> int:
        """Add JSON content and return its number.

        Raises:
            ValueError: a number in it is not finite.
        """
        # ASCII, since a lone surrogate is not valid UTF-8. Keys keep their order, which is that of the preset.
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
        packed = zlib.compress(text.encode("ascii"), 9)
        return self._numbers.setdefault(packed, len(self._numbers))

    def encoded(self) -> Iterable[str]:
        """Return the encoded chunks in the order of their numbers."""
        return map(encode, self._numbers)


def encode(packed: bytes) -> str:
    return base64.b64encode(packed).decode("ascii")


def packed_script(text: str) -> str:
    return encode(zlib.compress(text.encode("utf-8"), 9))


def policy(scripts: Iterable[str]) -> str:
    """Return a content security policy that allows only `scripts` to run and fetches nothing.

    Inline styles are allowed because both libraries write style elements; without any allowed address a style cannot
    send data.
    """
    hashes = " ".join(f"'sha256-{encode(hashlib.sha256(text.encode('utf-8')).digest())}'" for text in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def data_tables() -> tuple[str, str]:
    """Return the script and the style of DataTables, which the package itables contains.

    Raises:
        AdaptbenchError: the package's file has an unknown format.
    """
    folder = _package("itables") / "html"
    script = (folder / "dt_bundle.js").read_text(encoding="utf-8")
    exported = re.search(r"export\s*\{([^}]*)\}\s*;?", script)
    name = re.search(r"([\w$]+) as jQuery\b", exported.group(1)) if exported else None
    if exported is None or name is None:
        raise AdaptbenchError("itables: its bundle exports no jQuery; install the version that constraints.txt names")
    # The bundle is a module with private names; in a plain script a function keeps them private.
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
