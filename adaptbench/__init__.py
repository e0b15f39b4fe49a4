"""Reruns whole language-model adaptation methods and compares what they learn, forget and cost.

In a checkout, kernels/, methods/ and benchmarks/ are beside this folder; in an installed package they are inside it.
Both are imported as `adaptbench.kernels`, `adaptbench.methods` and `adaptbench.benchmarks`, because their short names
belong to other packages.
"""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "pyproject.toml").is_file():
    __path__.append(str(_CHECKOUT))
