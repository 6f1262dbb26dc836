"""An estimate, a plan, or costs, in; a picture of it in a file, out: matplotlib's, which the extra `plot` brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starburst_common.dollars import usd_text
from starburst_common.errors import BadInput
from starburst_common.fleets.frontier import Frontier
from starburst_common.fleets.waves import Plan, about
from starburst_common.phrases import each_text, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from starburst_common.runs.costs import Cost

_KINDS = (".png", ".svg")
_COLOURS = ("#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73", "#8fd4b8")  # told apart by the colour-blind, too
_GREY = "#666666"
_DPI = 150
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
_ROUND_S = [
    *(1.0, 2.0, 5.0, 10.0, 20.0, 30.0),
    *(_MINUTE * number for number in (1, 2, 5, 10, 20, 30)),
    *(_HOUR * number for number in (1, 2, 4, 8, 12)),
    *(_DAY * 2**power for power in range(9)),
]
_MOST_TICKS = 6
_MOST_BARS = 30
_NAME = 30  #: characters of one


def frontier_plot(found: Frontier, file: Path, name: str = "") -> None:
    """Cost over time, a line for each way to have workers, a point for each number of them.

    Raises `BadInput` for a file of another kind, and without matplotlib.
    """
    figure, axes = _drawing(file)
    for number, offer in enumerate(found.offers):
        plans = [each[number] for each in found.rows if each[number].ends_s is not None]
        colour = _COLOURS[number % len(_COLOURS)]
        times = [each.ends_s or 0.0 for each in plans]
        usd = [float(each.usd or 0) for each in plans]
        between = [each.fields["usd_between"] or (0.0, 0.0) for each in plans]
        axes.fill_between(
            times, [low for low, _ in between], [high for _, high in between], color=colour, alpha=0.12, lw=0
        )
        inside = [each.workers <= offer.room.free for each in plans]
        axes.plot(times, usd, color=colour, lw=1.8, label=offer.name)
        for at_s, cost, there in zip(times, usd, inside, strict=True):
            axes.plot(at_s, cost, "o", ms=5, color=colour, mfc=colour if there else "white")
    if any(each.workers > offer.room.free for row in found.rows for offer, each in zip(found.offers, row, strict=True)):
        axes.plot([], [], "o", ms=5, color=_GREY, mfc="white", label="more than there is room for now")
    _number_workers(axes, found)
    if found.here.ends_s:
        axes.axvline(
            found.here.ends_s, color=_GREY, ls="--", lw=1.2, label=f"here, {found.here.cores} cores, for nothing"
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    _time_ticks(axes)
    _money_ticks(axes)
    by = [
        f"{priced}: {', '.join(offer.name for offer in found.offers if offer.priced == priced)}"
        for priced in dict.fromkeys(offer.priced for offer in found.offers)
    ]
    axes.set_xlabel("\n".join(["until all items are answered; numbers are workers", *by]), fontsize=9)
    axes.set_ylabel("cost, US dollars")
    items = f"{found.wish.items:,} items" if found.wish.items is not None else "items"
    each = each_text(found.wish.item_s or 0)
    axes.set_title(f"{name or 'Estimate'}: {items} of {each} on workers of {found.wish.resources.size}", fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    _save(figure, file)


def timeline_plot(found: Plan, file: Path, name: str = "") -> None:
    """Workers at work, and items answered, over the time that a plan takes. Raises as above."""
    figure, axes = _drawing(file)
    points = found.curve(240)
    times = [point.at_s for point in points]
    axes.fill_between(times, [point.workers for point in points], step="post", color=_COLOURS[0], alpha=0.25, lw=0)
    axes.step(times, [point.workers for point in points], where="post", color=_COLOURS[0], lw=1.8)
    axes.set_ylabel("workers at work", color=_COLOURS[0])
    axes.set_ylim(0, max(found.workers, 1) * 1.12)
    axes.set_xlim(0, times[-1])
    if found.ends_s is not None:
        items = axes.twinx()
        items.plot(times, [point.answered for point in points], color=_COLOURS[2], lw=1.8)
        items.set_ylabel("items answered", color=_COLOURS[2])
        items.set_ylim(0, max(found.wish.items or 1, 1) * 1.12)
        items.spines[["top"]].set_visible(False)
        _whole_ticks(items)
    _whole_ticks(axes)
    _time_ticks(axes)
    axes.set_xlabel("since the first launch")
    usd = "" if found.usd is None else f", {usd_text(found.usd)}"
    ends = "" if found.ends_s is None else f": about {about(found.ends_s)}{usd}"
    axes.set_title(f"{name or 'Plan'}, {found.workers:,} of {found.wish.workers:,} workers{ends}", fontsize=11)
    if small := "\n".join(filter(None, [found.bound, found.wish.priced if found.usd is not None else ""])):
        axes.annotate(small, (0.01, 0.98), xycoords="axes fraction", va="top", fontsize=8.5, color=_GREY)
    _save(figure, file)


def costs_plot(rows: Sequence[Cost], file: Path, title: str = "Costs") -> None:
    """A bar for each row, of its components; of more than thirty rows the first. Raises as above."""
    figure, axes = _drawing(file)
    shown = rows[:_MOST_BARS][::-1]  # the first on top
    names = [one_line(row.name or "-", _NAME) for row in shown]
    parts = sorted(
        {part for row in shown for part in row.parts}, key=lambda part: -sum(_usd(row, part) for row in shown)
    )
    begun = [0.0] * len(shown)
    for number, part in enumerate(parts):
        widths = [_usd(row, part) for row in shown]
        axes.barh(range(len(shown)), widths, 0.6, left=begun, color=_COLOURS[number % len(_COLOURS)], label=part)
        begun = [begin + width for begin, width in zip(begun, widths, strict=True)]
    for at, (row, end) in enumerate(zip(shown, begun, strict=True)):
        axes.annotate(
            usd_text(row.usd), (end, at), textcoords="offset points", xytext=(4, 0), va="center", fontsize=8.5
        )
    axes.set_yticks(range(len(shown)), names, fontsize=9)
    axes.set_xlim(0, max(begun, default=0.0) * 1.15 or 1.0)
    axes.set_xlabel("US dollars")
    axes.grid(visible=False, axis="y")
    axes.set_title(title, fontsize=11)
    if len(parts) > 1:
        axes.legend(frameon=False, fontsize=9, loc="lower right")
    _save(figure, file)


def _usd(row: Cost, part: str) -> float:
    return float(row.parts.get(part, 0))


def _drawing(file: Path) -> tuple[Any, Axes]:
    """Without pyplot, which would want a display."""
    if file.suffix not in _KINDS:
        raise BadInput(f"--plot {file}: give a file that ends with {' or '.join(_KINDS)}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise BadInput("a plot needs matplotlib: `pip install 'starburst-ecs[plot]'`") from None
    figure = Figure(figsize=(8, 5), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, which="major", color="#e6e6e6", lw=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _number_workers(axes: Axes, found: Frontier) -> None:
    """How many workers each point of the dearest line stands for, above it."""
    dearest = max(range(len(found.offers)), key=lambda number: found.offers[number].usd_an_hour or 0, default=None)
    if dearest is None:
        return
    for plans in found.rows:
        each = plans[dearest]
        if each.ends_s is not None and each.usd:
            axes.annotate(
                f"{each.workers:,}",
                (each.ends_s, float(each.usd)),
                textcoords="offset points",
                xytext=(0, 7),
                ha="center",
                fontsize=8,
                color=_GREY,
            )


def _time_ticks(axes: Axes) -> None:
    """At round times, as people say them."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = axes.get_xlim()
    if axes.get_xscale() == "linear":
        step = next((each for each in _ROUND_S if high / each <= _MOST_TICKS), _ROUND_S[-1])
        ticks = [step * number for number in range(int(high / step) + 1)]
    else:
        inside = [each for each in _ROUND_S if low <= each <= high]
        ticks = inside[:: -(-len(inside) // _MOST_TICKS)] if inside else [low]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: about(value) if value else "0"))


def _money_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    steps = (1.0, 2.0, 5.0) if high / max(low, 1e-12) < 1000 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"${value:,.2f}" if value >= 0.01 else f"${value:.2g}")
    )


def _whole_ticks(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=_MOST_TICKS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _save(figure: Any, file: Path) -> None:
    try:
        figure.savefig(file)
    except OSError as error:
        raise BadInput(f"--plot {file}: {error.strerror}") from None
