"""Simulate the coverage of intervals and the error rates of tests.

Two methods answer the same documents, each under its own seeds. The log-odds of a right answer are the sum of three
normal effects: of the document, of the interaction of method and document, and of the seed. The two-level bootstrap,
which resamples seeds and then documents, is simulated for comparison: with few seeds its intervals are too narrow,
since a sample of n seeds with replacement has (n - 1) / n of their variance.
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
    (seeds, documents, seed_sd)
    for seeds in (1, 3, 5)
    for documents in (50, 400)
    for seed_sd in (0.0, 0.1, 0.3, 1.0)
    if seeds > 1 or seed_sd == 0  # the effect of a single seed is part of the method's effect
]
SIMULATIONS = 2000
DOCUMENT_SD, INTERACTION_SD = 1.5, 0.75
"""Standard deviations of the log-odds: between documents, and of the interaction of method and document."""
GAIN = 0.5
"""Log-odds by which the better method exceeds the other, to simulate power."""
HEADINGS = {
    "seeds": "seeds",
    "documents": "documents",
    "seed_sd": "seeds' spread (log-odds)",
    "covered": "interval covers",
    "rejected": "test sees a difference that is not there",
    "found": f"sees one of {GAIN} log-odds",
    "bootstrap_covered": "bootstrap covers",
    "bootstrap_rejected": "bootstrap sees one that is not there",
}


FAMILIES = [
    (seeds, seed_sd, uneven)
    for seeds in (1, 3, 5)
    for seed_sd in (0.0, 0.1, 0.3, 1.0)
    for uneven in (False, True)
    if seed_sd > 0 or not uneven
    if seeds > 1 or seed_sd == 0
]
FAMILY_DOCUMENTS, FAMILY_RUNS, FAMILY_SIMULATIONS = 400, 16, 300
FAMILY_HEADINGS = {
    "seeds": "seeds",
    "seed_sd": "seeds' spread (log-odds)",
    "of": "of which runs",
    "any": "a verdict that is wrong",
    "found": f"a run that is {GAIN} log-odds better is found",
}


def measure(out: Path) -> None:
    """Write calibration.csv and families.csv to the folder `out`, each with its Markdown. Takes minutes."""
    from tqdm import tqdm

    families = [
        simulate_family(seeds, seed_sd, FAMILY_SIMULATIONS, uneven=uneven)
        for seeds, seed_sd, uneven in tqdm(FAMILIES, unit="family")
    ]
    caption = (
        f"Shares of {FAMILY_SIMULATIONS:,} simulated tables: {FAMILY_RUNS} runs that are as good as the baseline, and"
        f" one that is better, {FAMILY_DOCUMENTS} documents, tests at 5 % after Holm over all of a table."
    )
    _write(families, FAMILY_HEADINGS, out / "families.csv", caption)
    rows = [simulate(seeds, n, seed_sd, SIMULATIONS) for seeds, n, seed_sd in tqdm(SETTINGS, unit="setting")]
    _write(
        rows,
        HEADINGS,
        out / "calibration.csv",
        f"Shares of {SIMULATIONS:,} simulations: intervals at 95 %, tests at 5 %.",
    )


def _write(rows: "Sequence[Mapping[str, Any]]", headings: "Mapping[str, str]", out: Path, caption: str) -> None:
    import pandas as pd

    write_text(out, pd.DataFrame(rows).to_csv(index=False))
    forms = {"of": "", "seeds": "g", "documents": "g", "seed_sd": "g"}
    lines = [list(headings.values()), ["---:"] * len(headings)]
    lines += [[format(row[name], forms.get(name, ".3f")) for name in headings] for row in rows]
    write_text(out.with_suffix(".md"), "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{caption}\n")


def simulate_family(seeds: int, seed_sd: float, simulations: int, *, uneven: bool = False) -> dict[str, Any]:
    """Return the shares of tables with a false positive and with the better run found.

    A table compares runs that equal the baseline, and one that is better, with that baseline. `seed_sd` is the standard
    deviation of the log-odds between seeds. `uneven`: only every second run depends on its seed; the baseline and the
    better run do not.
    """
    import numpy as np

    rng = np.random.default_rng([seeds, int(10 * seed_sd)])
    depends = [not uneven or number % 2 == 1 for number in range(FAMILY_RUNS)] + [not uneven]
    gains = [0.0] * FAMILY_RUNS + [GAIN]
    wrong = found = 0
    for _ in range(simulations):
        difficulty = rng.normal(0, DOCUMENT_SD, FAMILY_DOCUMENTS)
        baseline = _answer(rng, difficulty, seeds, seed_sd * (not uneven))
        runs = [
            _answer(rng, difficulty + gain, seeds, seed_sd * by_seed)
            for gain, by_seed in zip(gains, depends, strict=True)
        ]
        *alike, better = [p for _, p in family([_answers(run - baseline) for run in runs])]
        wrong += min(alike) < LEVEL
        found += better < LEVEL
    of = "every second" if uneven else "all" if seed_sd else ""
    return {"seeds": seeds, "seed_sd": seed_sd, "of": of, "any": wrong / simulations, "found": found / simulations}


def simulate(seeds: int, documents: int, seed_sd: float, simulations: int) -> dict[str, float]:
    """Return the shares of simulations in which intervals cover the truth and tests find a difference.

    `seed_sd` is the standard deviation of the log-odds between seeds.
    """
    import numpy as np

    rng = np.random.default_rng([seeds, documents, int(10 * seed_sd)])
    truth = _true_share(seed_sd)
    counts = dict.fromkeys(("covered", "rejected", "found", "bootstrap_covered", "bootstrap_rejected"), 0)
    for _ in range(simulations):
        difficulty = rng.normal(0, DOCUMENT_SD, documents)
        ours, theirs, better = (_answer(rng, difficulty + gain, seeds, seed_sd) for gain in (0.0, 0.0, GAIN))
        found = interval(ours)
        counts["covered"] += found.low <= truth <= found.high
        counts["rejected"] += _p_value(ours - theirs) < LEVEL
        counts["found"] += _p_value(better - theirs) < LEVEL
        low, high = two_level_bootstrap(ours, rng)
        counts["bootstrap_covered"] += low <= truth <= high
        low, high = two_level_bootstrap(ours - theirs, rng)
        counts["bootstrap_rejected"] += not low <= 0 <= high
    shares = {name: float(count) / simulations for name, count in counts.items()}
    return {"seeds": seeds, "documents": documents, "seed_sd": seed_sd} | shares


def two_level_bootstrap(
    values: "np.ndarray", rng: "np.random.Generator", resamples: int = 200, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of the mean of `values` (seeds, documents); seeds share the drawn documents."""
    import numpy as np

    by_seed, by_document = (rng.multinomial(size, np.full(size, 1 / size), resamples) / size for size in values.shape)
    drawn = ((by_seed @ values) * by_document).sum(axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _answer(rng: "np.random.Generator", difficulty: "np.ndarray", seeds: int, seed_sd: float) -> "np.ndarray":
    """Draw right and wrong answers (seeds, documents) of one method, 1 and 0."""
    interaction, seed_effect = rng.normal(0, INTERACTION_SD, len(difficulty)), rng.normal(0, seed_sd, (seeds, 1))
    return (rng.logistic(size=(seeds, len(difficulty))) < difficulty + interaction + seed_effect).astype(float)


def _true_share(seed_sd: float) -> float:
    """Return the expected share of right answers over all documents and seeds."""
    import numpy as np

    spread = (DOCUMENT_SD**2 + INTERACTION_SD**2 + seed_sd**2) ** 0.5
    places, weights = np.polynomial.hermite_e.hermegauss(60)
    return float((weights / (1 + np.exp(-spread * places))).sum() / weights.sum())


def _p_value(differences: "np.ndarray") -> float:
    return compare(_answers(differences)).p


def _answers(differences: "np.ndarray") -> Answers:
    import numpy as np

    documents = differences.shape[1]
    return Answers(differences, np.ones(documents), np.arange(documents))
