"""Measure the capabilities of every causal architecture of the installed transformers, on a small random model of each.

Run: make architectures (about two minutes). Writes adaptbench/config/architectures.json, which presets are checked
against before any job, and the table of docs/bases.md.
"""

import json
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from adaptbench.config.architectures import TABLE
from adaptbench.io.files import write_text
from adaptbench.stages import measuring
from tools import small_models
from tools.reference import show

PROJECT = Path(__file__).resolve().parent.parent
SHOWN = PROJECT / "results/reference/architectures.md"
COLUMNS = {
    "packing": "packs",
    "padding": "batches of prompts",
    "caching": "cached decoding",
    "expansion": "expands",
    "embeddings": "decodes from embeddings",
    "latents": "latents",
    "wavefront": "wavefront",
}


def measure(kind: str) -> dict[str, str]:
    """Return the reasons for what a small model of this `model_type` lacks, by capability."""
    measured = measuring.measure(small_models.small_model(kind))
    return {name: reason for name, reason in measured.items() if reason}


def table(architectures: Mapping[str, Mapping[str, str]], unbuilt: Mapping[str, str]) -> str:
    """Return the table in Markdown: a row an architecture, a footnote a reason."""
    notes: dict[str, int] = {}
    lines = [
        "| architecture | " + " | ".join(COLUMNS.values()) + " |",
        "| --- |" + " :-: |" * len(COLUMNS),
    ]
    for kind, lacks in architectures.items():
        if reason := lacks.get("causal"):
            cells = [f"no base ({notes.setdefault(reason, len(notes) + 1)})", *[""] * (len(COLUMNS) - 1)]
        else:
            reasons = [lacks.get(name, "") for name in COLUMNS]
            cells = [f"no ({notes.setdefault(one, len(notes) + 1)})" if one else "yes" for one in reasons]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{number}. {reason}" for reason, number in notes.items())]
    lines += ["", "Not measured: " + "; ".join(f"{kind} ({why})" for kind, why in sorted(unbuilt.items())) + "."]
    return "\n".join(lines) + "\n"


def main() -> None:
    warnings.filterwarnings("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    found = {}
    for kind in small_models.TYPES:
        if kind in small_models.UNBUILT:
            continue
        found[kind] = measure(kind)
        print(f"{kind}: {'; '.join(f'{name}: {why}' for name, why in found[kind].items()) or 'all'}", file=sys.stderr)
    content = {"transformers": version("transformers"), "architectures": found, "unbuilt": small_models.UNBUILT}
    write_text(TABLE, json.dumps(content, indent=1) + "\n")
    write_text(SHOWN, table(found, small_models.UNBUILT))
    show(PROJECT / "docs/bases.md")


if __name__ == "__main__":
    main()
