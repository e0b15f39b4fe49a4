"""Check what tracked Markdown pages refer to: relative links, anchors, and files of the project in code spans.

Run: python -m tools links. No page is fetched, so that the check needs no network.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

from adaptbench.errors import AdaptbenchError

FOLDERS = "adaptbench|benchmarks|config|docs|envs|kernels|methods|profiles|tests|tools|workflow"
NAMED = re.compile(rf"((?:{FOLDERS})(?:/[\w.-]+)*/?)(?:: (\w+(?:\.\w+)*))?")
"""`adaptbench/train/loop.py` or `adaptbench/train/loop.py: train`: a file or folder, and what a module defines."""

TO_WRITE = {
    "methods/tuners/norms.py",
    "methods/tuners/norms_figures.py",
    "methods/tuners/lora_plus.py",
    "methods/tuners/quiet_layers.py",
    "methods/curricula/short_first.py",
}
"""Files of the project that pages ask their reader to write."""


def check(pages: Sequence[Path] = ()) -> None:
    """Check these pages, or all that git tracks.

    Raises:
        AdaptbenchError: there are dead references; each is a line on standard error.
    """
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], capture_output=True, text=True, check=True).stdout
    found = [
        f"{page}: {problem}" for page in pages or map(Path, filter(None, listed.split("\0"))) for problem in dead(page)
    ]
    if found:
        print(*found, sep="\n", file=sys.stderr)
        raise AdaptbenchError(f"{len(found)} dead references")


def dead(page: Path) -> Iterator[str]:
    """Say which references of a page lead nowhere."""
    for token in _inline(page):
        for part in token.children or ():
            target = str(part.attrs.get("href") or part.attrs.get("src") or "")
            if target and "://" not in target and not target.startswith("mailto:"):
                path, _, anchor = target.partition("#")
                file = page.parent / unquote(path) if path else page
                if not file.exists():
                    yield f"{target}: no such file"
                elif anchor and anchor not in anchors(file.resolve()):
                    yield f"{target}: no such heading"
            is_checked = part.type == "code_inline" and page.name != "CHANGELOG.md"  # which also names what is gone
            named = NAMED.fullmatch(part.content) if is_checked else None
            if named and named[1] not in TO_WRITE and not _is_there(Path(named[1]), named[2]):
                yield f"`{part.content}`: not in the project"


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors that a forge gives to the headings of a page."""
    found: list[str] = []
    for token in _inline(page, "heading_open"):
        text = "".join(part.content for part in token.children or () if part.type in ("text", "code_inline"))
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        before = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", one) is not None for one in found)
        found.append(f"{slug}-{before}" if before else slug)
    return frozenset(found)


def _inline(page: Path, after: str = "") -> list[Token]:
    """Return the inline tokens of a page, or those that follow a token of this type."""
    tokens = MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))
    pairs = zip([Token("", "", 0), *tokens], tokens, strict=False)
    return [token for before, token in pairs if token.type == "inline" and after in ("", before.type)]


def _is_there(path: Path, name: str | None) -> bool:
    if name is None or path.suffix != ".py":
        return path.exists() and (name is None or name in path.read_text(encoding="utf-8"))
    scope: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
    for part in name.split("."):
        found = [one for one in scope if part in _defined(one)]
        if not found:
            return False
        scope = getattr(found[0], "body", [])
    return True


def _defined(statement: ast.stmt) -> list[str]:
    """Return the names that a statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return [one.id for one in targets if isinstance(one, ast.Name)]
