"""Measures all capabilities of a base model."""

from typing import Any

from adaptbench.config.architectures import NAMES, known
from adaptbench.model.capabilities import measure_general, reason_of


def measure(model: Any) -> dict[str, str]:
    """Return, for every name in NAMES, why the model lacks that capability, "" where it has it.

    The model must be in float32, and is left unchanged. This takes some forty passes over at most 72 tokens.
    """
    from adaptbench.latent import measure as latents
    from adaptbench.model import expansion

    return measure_general(model) | {"expansion": reason_of(expansion.measure, model)} | latents.measure(model)


def lacks(model: Any) -> dict[str, str]:
    """Return the reasons for the capabilities that this base lacks.

    Capabilities that its architecture is known to lack count, too: a limit of thousands of tokens does not show in
    short passes. Whether beginnings can be shared follows from the configuration.
    """
    of_architecture = known().get(model.config.model_type, {})
    measured = measure(model)
    found = {name: measured[name] or (of_architecture.get(name, "") if name != "sharing" else "") for name in NAMES}
    return {name: reason for name, reason in found.items() if reason}
