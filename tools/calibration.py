"""How often the intervals cover the truth, and how often the tests see a difference where none is: simulated.

Two methods answer the same documents, each under its own seeds. The log-odds of a right answer are a document's
difficulty, plus what the method makes of that document, plus a seed's luck. Beside ours stands the plain two-level
bootstrap, which draws seeds and then documents: with few seeds its intervals are too narrow, since n seeds drawn with
replacement have (n - 1) / n of their variance.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench.io.files import write_text
from adaptbench.statistics.answers import Answers
from adaptbench.statistics.comparisons import LEVEL, compare, family
from adaptbench.statistics.intervals import interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

SETTINGS = [
    (seeds, documents, luck)
    for seeds in (1, 3, 5)
    for documents in (50, 400)
    for luck in (0.0, 0.1, 0.3, 1.0)
    if seeds > 1 or luck == 0  # the luck of one seed cannot be told from the method
]
SIMULATIONS = 2000
DIFFICULTY, TASTE = 1.5, 0.75
"""Standard deviations of log-odds: of the documents, and of what a method makes of each."""
GAIN = 0.5
"""The better method's log-odds above the other's, for power."""
HEADINGS = {
    "seeds": "seeds", "documents": "documents", "luck": "seeds' spread (log-odds)", "covered": "interval covers", "rejected":
    "test sees a difference that is not there", "found": f"sees one of {GAIN} log-odds", "bootstrap_covered": "bootstrap covers",
    "bootstrap_rejected": "bootstrap sees one that is not there",
}  # fmt: skip


FAMILIES = [
    (seeds, luck, uneven)
    for seeds in (1, 3, 5)
    for luck in (0.0, 0.1, 0.3, 1.0)
    for uneven in (False, True)
    if luck > 0 or not uneven
    if seeds > 1 or luck == 0
]
FAMILY_DOCUMENTS, FAMILY_RUNS, FAMILY_SIMULATIONS = 400, 16, 300
FAMILY_HEADINGS = {
    "seeds": "seeds", "luck": "seeds' spread (log-odds)", "of": "of which runs", "any": "a verdict that is wrong", "found": f"a run that is {GAIN} log-odds better is found",
}  # fmt: skip


def measure(out: Path) -> None:
    """Write calibration.csv and families.csv, each with its Markdown; takes minutes."""
    from tqdm import tqdm

    families = [
        simulate_family(seeds, luck, FAMILY_SIMULATIONS, uneven=uneven)
        for seeds, luck, uneven in tqdm(FAMILIES, unit="family")
    ]
    caption = (
        f"Shares of {FAMILY_SIMULATIONS:,} simulated tables: {FAMILY_RUNS} runs that are as good as the baseline, and one that is better,"
        f" {FAMILY_DOCUMENTS} documents, tests at 5 % after Holm over all of a table."
    )
    _keep(families, FAMILY_HEADINGS, out / "families.csv", caption)
    rows = [simulate(seeds, n, luck, SIMULATIONS) for seeds, n, luck in tqdm(SETTINGS, unit="setting")]
    _keep(
        rows,
        HEADINGS,
        out / "calibration.csv",
        f"Shares of {SIMULATIONS:,} simulations: intervals at 95 %, tests at 5 %.",
    )


def _keep(rows: "Sequence[Mapping[str, Any]]", headings: "Mapping[str, str]", out: Path, caption: str) -> None:
    import pandas as pd

    write_text(out, pd.DataFrame(rows).to_csv(index=False))
    lines = [list(headings.values()), ["---:"] * len(headings)]
    lines += [
        [
            row[name]
            if name == "of"
            else f"{row[name]:g}"
            if name in ("seeds", "documents", "luck")
            else f"{row[name]:.3f}"
            for name in headings
        ]
        for row in rows
    ]
    write_text(out.with_suffix(".md"), "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{caption}\n")


def simulate_family(seeds: int, luck: float, simulations: int, *, uneven: bool = False) -> dict[str, Any]:
    """Shares of tables in which some run is said to differ from a baseline that is as good, and in which the better one
    is found.

    `uneven`: only every second run depends on its seed, the baseline and the better one not.
    """
    import numpy as np

    rng = np.random.default_rng([seeds, int(10 * luck)])
    depends = [not uneven or number % 2 == 1 for number in range(FAMILY_RUNS)] + [not uneven]
    gains = [0.0] * FAMILY_RUNS + [GAIN]
    wrong = found = 0
    for _ in range(simulations):
        difficulty = rng.normal(0, DIFFICULTY, FAMILY_DOCUMENTS)
        baseline = _rights(rng, difficulty, seeds, luck * (not uneven))
        runs = [
            _rights(rng, difficulty + gain, seeds, luck * by_seed) for gain, by_seed in zip(gains, depends, strict=True)
        ]
        *alike, better = [p for _, p in family([_answers(run - baseline) for run in runs])]
        wrong += min(alike) < LEVEL
        found += better < LEVEL
    of = "every second" if uneven else "all" if luck else ""
    return {"seeds": seeds, "luck": luck, "of": of, "any": wrong / simulations, "found": found / simulations}


def simulate(seeds: int, documents: int, luck: float, simulations: int) -> dict[str, float]:
    """Shares of simulations in which intervals cover the truth and tests see a difference; `luck` is a deviation of log-odds."""
    import numpy as np

    rng = np.random.default_rng([seeds, documents, int(10 * luck)])
    truth = _mean_of_rights(luck)
    counts = dict.fromkeys(("covered", "rejected", "found", "bootstrap_covered", "bootstrap_rejected"), 0)
    for _ in range(simulations):
        difficulty = rng.normal(0, DIFFICULTY, documents)
        ours, theirs, better = (_rights(rng, difficulty + gain, seeds, luck) for gain in (0.0, 0.0, GAIN))
        found = interval(ours)
        counts["covered"] += found.low <= truth <= found.high
        counts["rejected"] += _tested(ours - theirs) < LEVEL
        counts["found"] += _tested(better - theirs) < LEVEL
        low, high = two_level_bootstrap(ours, rng)
        counts["bootstrap_covered"] += low <= truth <= high
        low, high = two_level_bootstrap(ours - theirs, rng)
        counts["bootstrap_rejected"] += not low <= 0 <= high
    shares = {name: float(count) / simulations for name, count in counts.items()}
    return {"seeds": seeds, "documents": documents, "luck": luck} | shares


def two_level_bootstrap(
    values: "np.ndarray", rng: "np.random.Generator", resamples: int = 200, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of `values` (seeds, documents), the same drawn documents for every drawn seed."""
    import numpy as np

    by_seed, by_document = (rng.multinomial(size, np.full(size, 1 / size), resamples) / size for size in values.shape)
    drawn = ((by_seed @ values) * by_document).sum(axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _rights(rng: "np.random.Generator", difficulty: "np.ndarray", seeds: int, luck: float) -> "np.ndarray":
    """Rights and wrongs (seeds, documents) of one method."""
    taste, fortune = rng.normal(0, TASTE, len(difficulty)), rng.normal(0, luck, (seeds, 1))
    return (rng.logistic(size=(seeds, len(difficulty))) < difficulty + taste + fortune).astype(float)


def _mean_of_rights(luck: float) -> float:
    """The share of right answers over all documents and seeds there could be."""
    import numpy as np

    spread = (DIFFICULTY**2 + TASTE**2 + luck**2) ** 0.5
    places, weights = np.polynomial.hermite_e.hermegauss(60)
    return float((weights / (1 + np.exp(-spread * places))).sum() / weights.sum())


def _tested(differences: "np.ndarray") -> float:
    return compare(_answers(differences)).p


def _answers(differences: "np.ndarray") -> Answers:
    import numpy as np

    documents = differences.shape[1]
    return Answers(differences, np.ones(documents), np.arange(documents))
