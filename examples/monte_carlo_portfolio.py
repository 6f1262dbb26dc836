"""10,000 simulated years of a portfolio: seeds in; mean return, value at risk and expected shortfall out.

    python examples/monte_carlo_portfolio.py

Every item is a seed, so the same seeds give the same figures, on any number of workers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from starburst_common import starburst_map

SEEDS = range(10_000)
DAYS = 252  # trading days in a year

#            shares  bonds  gold   property
WEIGHTS = (0.50, 0.30, 0.10, 0.10)
YEARLY_RETURN = (0.07, 0.03, 0.04, 0.05)
YEARLY_VOLATILITY = (0.18, 0.06, 0.15, 0.14)
CORRELATION = (
    (1.00, 0.10, 0.05, 0.60),
    (0.10, 1.00, 0.20, 0.20),
    (0.05, 0.20, 1.00, 0.10),
    (0.60, 0.20, 0.10, 1.00),
)


def simulate(seed: int) -> float:
    """The portfolio's return over one simulated year, bought once and held."""
    normal = np.random.default_rng(seed).standard_normal((DAYS, len(WEIGHTS)))
    volatility = np.array(YEARLY_VOLATILITY) / np.sqrt(DAYS)
    drift = np.array(YEARLY_RETURN) / DAYS - volatility**2 / 2
    log_returns = drift + volatility * (normal @ np.linalg.cholesky(CORRELATION).T)
    growth = np.exp(log_returns.sum(axis=0))
    return float(growth @ WEIGHTS - 1)


def tail_risk(returns: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """Value at risk (the loss not exceeded with this confidence) and CVaR (the mean of the losses beyond it)."""
    losses = -np.array(returns)
    at_risk = np.quantile(losses, confidence)
    return float(at_risk), float(losses[losses >= at_risk].mean())


def main(**options: Any) -> None:
    """Simulate on the workers, sum up here."""
    report(starburst_map(simulate, SEEDS, **options))


def report(returns: list[float]) -> None:
    """The figures of all years."""
    at_risk, beyond = tail_risk(returns)
    print(f"{len(returns):,} simulated years of {DAYS} days")
    print(f"mean return  {np.mean(returns):7.2%}")
    print(f"VaR 95%      {at_risk:7.2%}   one year in twenty loses more")
    print(f"CVaR 95%     {beyond:7.2%}   and then loses this much on average")


if __name__ == "__main__":
    main(workers=2)
