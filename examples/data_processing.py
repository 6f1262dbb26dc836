"""A table in 100 chunks: data frames in; one aggregate for each chunk, then one for the whole table out.

    python examples/data_processing.py

The table is scikit-learn's handwritten digits: 1,797 scanned images, 64 grey values (0 to 16) each. The items are
pandas data frames; their columns travel as raw buffers, without a copy into the pickle.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from starburst_common import starburst_map

CHUNKS = 100
AGGREGATES = {"images": "sum", "ink": "sum", "ink_squared": "sum", "blackest": "max"}


def chunks() -> list[pd.DataFrame]:
    """The table's rows, in 100 frames of 17 or 18."""
    table = load_digits(as_frame=True).frame
    edges = np.linspace(0, len(table), CHUNKS + 1).astype(int)
    return [table.iloc[start:stop] for start, stop in pairwise(edges)]


def summarise(images: pd.DataFrame) -> pd.DataFrame:
    """For each digit: how many images, the ink in them, its square, and the blackest image."""
    ink = images.drop(columns="target").sum(axis="columns")
    table = pd.DataFrame({"images": 1, "ink": ink, "ink_squared": ink**2, "blackest": ink})
    return table.groupby(images["target"]).agg(AGGREGATES)


def combine(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """The whole table's figures from those of its chunks."""
    total = pd.concat(parts).groupby(level="target").agg(AGGREGATES)
    mean = total["ink"] / total["images"]
    spread = np.sqrt(total["ink_squared"] / total["images"] - mean**2)
    return pd.DataFrame({"images": total["images"], "mean ink": mean, "spread": spread, "blackest": total["blackest"]})


def main(**options: Any) -> None:
    """Aggregate the chunks on the workers, combine the aggregates here."""
    report(starburst_map(summarise, chunks(), **options))


def report(parts: list[pd.DataFrame]) -> None:
    """The whole table's figures."""
    digits = combine(parts)
    print(f"{digits['images'].sum():,} images in {CHUNKS} chunks; ink by digit")
    print(digits.round(1).to_string())


if __name__ == "__main__":
    main(workers=2)
