"""Draw the speed of operations against what they replace."""

from pathlib import Path
from typing import Any


def draw(rows: list[dict[str, Any]], stem: Path) -> None:
    """Draw a panel for each operation: the speed of each way relative to the first, 20th to 80th percentile."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    from adaptbench.report.figures import layout, palette

    compared = {
        row["operation"] for row in rows if row["times_faster"] != 1
    }  # the others have a single way on this device
    rows = [row for row in rows if row["operation"] in compared] or rows
    operations = list(dict.fromkeys(row["operation"] for row in rows))
    counts = [sum(row["operation"] == one for row in rows) for one in operations]
    with plt.rc_context(palette.STYLE):
        figure, panels = plt.subplots(
            len(operations),
            1,
            figsize=(8.6, 0.19 * sum(counts) + 0.7 * len(counts)),
            squeeze=False,
            height_ratios=counts,
        )
        for axes, operation in zip(panels[:, 0], operations, strict=True):
            mine = [row for row in rows if row["operation"] == operation]
            cases = list(dict.fromkeys((row["shape"], row["dtype"]) for row in mine))
            first = {case: next(row for row in mine if (row["shape"], row["dtype"]) == case) for case in cases}
            ways = list(dict.fromkeys(row["implementation"] for row in mine))
            for place, row in enumerate(mine):
                base = first[row["shape"], row["dtype"]]["median_milliseconds"]
                median, low, high = (
                    base / max(row[f"{name}_milliseconds"], 1e-6) for name in ("median", "high", "low")
                )
                colour = palette.COLOURS[ways.index(row["implementation"]) % len(palette.COLOURS)]
                axes.barh(
                    place,
                    median,
                    xerr=[[max(median - low, 0)], [max(high - median, 0)]],
                    color=colour,
                    error_kw={"linewidth": 0.8},
                )
            names = [f"{row['shape']}, {row['dtype']}: {row['implementation']}" for row in mine]
            axes.set_yticks(range(len(mine)), names, fontsize=6)
            axes.invert_yaxis()
            axes.axvline(1, color="black", linewidth=0.8)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_title(operation, fontsize=9, loc="left")
            axes.grid(axis="y", visible=False)
        panels[-1, 0].set_xlabel("times faster than the first way of each shape")
        layout.title(figure, "Operations against what they replace")
        palette.save_images(figure, stem)
