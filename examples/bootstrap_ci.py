"""10,000 resamples of a real data set: seeds in; 95% confidence intervals of regression coefficients out.

    python examples/bootstrap_ci.py

The data are scikit-learn's diabetes patients (442 people, ten measurements, progression of the disease a year later).
They ride along with the function, which is sent once, not with every item.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from sklearn.datasets import load_diabetes

from starburst_common import starburst_map

SEEDS = range(10_000)
NAMES = ("age", "sex", "bmi", "bp", "tc", "ldl", "hdl", "tch", "ltg", "glu")


def patients() -> tuple[np.ndarray, np.ndarray]:
    """Measurements, a row a patient, each column with mean 0 and standard deviation 1; and the progression."""
    x, y = load_diabetes(return_X_y=True, scaled=False)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


def coefficients(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least squares with an intercept: what one standard deviation of each measurement adds to the progression."""
    solution: np.ndarray = np.linalg.lstsq(np.column_stack([np.ones(len(x)), x]), y, rcond=None)[0]
    return solution[1:]


def resample(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """The coefficients of as many patients, drawn with replacement."""
    drawn = np.random.default_rng(seed).integers(0, len(y), len(y))
    return coefficients(x[drawn], y[drawn])


def main(**options: Any) -> None:
    """Resample on the workers, take the percentiles here."""
    x, y = patients()
    report(x, y, starburst_map(partial(resample, x, y), SEEDS, **options))


def report(x: np.ndarray, y: np.ndarray, estimates: list[np.ndarray]) -> None:
    """Each coefficient with its interval."""
    low, high = np.percentile(np.array(estimates), [2.5, 97.5], axis=0)
    print(f"{len(estimates):,} resamples of {len(y)} patients; progression per standard deviation of")
    for name, estimate, least, most in zip(NAMES, coefficients(x, y), low, high, strict=True):
        sure = "*" if least > 0 or most < 0 else ""
        print(f"  {name:4} {estimate:7.1f}   95% interval {least:7.1f} to {most:6.1f} {sure}")
    print("* the interval leaves out zero")


if __name__ == "__main__":
    main(workers=2)
