"""`starburst estimate`: a few items measured here, and what ever more workers on AWS would make of all of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from starburst_common.cli.map import Format
from starburst_common.cli.options import with_map_options
from starburst_common.cli.words import BackendWord, Json, Plot

if TYPE_CHECKING:
    from starburst_common.cluster import Cluster
    from starburst_common.fleets.frontier import Frontier
    from starburst_common.fleets.waves import Plan
    from starburst_common.measured import Sample
    from starburst_common.resources import Resources

Measure = Annotated[
    int | None, typer.Option("--measure", min=1, max=1000, help="So many items are run here first, one after another.")
]
Within = Annotated[float, typer.Option("--within", min=1, help="Seconds that these may take together.")]
_MEASURED = 5


@with_map_options
def estimate(
    function: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="Found from the current folder.")],
    items: Annotated[str, typer.Option("--items", "-i", metavar="FILE", help="As of `starburst map`.")],
    kind: Format = None,
    *,
    options: dict[str, Any],
    measure: Measure = None,
    within: Within = 60.0,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.0, help="An item takes: nothing is measured.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="As in former runs: nothing is measured.")] = False,
    ec2: Annotated[bool, typer.Option("--ec2", help="With the cheapest EC2 types that hold such workers.")] = False,
    plot: Plot = None,
    backend: BackendWord = "auto",
    json: Json = False,
) -> None:
    """Tell how soon all items would be answered, and for how much, by ever more workers on each kind of Fargate.

    Five of the items are run on this machine first, and how long they take and what memory they need is taken to hold
    for all, on AWS as here, on ARM as on x86. Nothing is launched there. Up to --workers, else up to as many as are
    useful. A cost is told as it is likely, with the least and the most it may be: by how much the items differ, and how
    soon workers come.
    """
    from starburst_common.cli.function import find_function
    from starburst_common.cli.items import open_items
    from starburst_common.cli.lines import print_json
    from starburst_common.cluster import Cluster

    called, given = find_function(function), open_items(items, kind, whole=True)
    cluster = Cluster(backend=backend, **options)
    known = seconds is not None or history
    sample = None if known else measured_here(cluster, called, given, measure or _MEASURED, within)
    found = cluster.estimate(called, given, seconds=seconds, sample=sample, instances=ec2)
    say_memory(sample, found.wish.resources)
    if plot is not None:
        from starburst_common.plots import frontier_plot

        frontier_plot(found, plot, name=function)
    if json:
        print_json({**found.fields, "measured": sample_fields(sample)})
        return
    _print(found)


def measured_here(cluster: Cluster, fn: Any, items: Any, count: int, within_s: float) -> Sample | None:
    """A few of the items, and what they tell of all, said; None where workers read the items."""
    from starburst_common.cli.show import say
    from starburst_common.data.given import Rows

    if isinstance(items, Rows):
        say("these items are read by workers, and not measured here: say --seconds, or --history")
        return None
    sample = cluster.measure(fn, items, count=count, within_s=within_s)
    say(_measured_text(sample))
    return sample


def say_memory(sample: Sample | None, resources: Resources) -> None:
    """Whether workers have enough of it."""
    from starburst_common.cli.show import say

    needs = 0 if sample is None else sample.needs_mib(resources.slots)
    if needs > resources.memory_mib:
        slots = f"{resources.slots} slot{'s' * (resources.slots != 1)}"
        say(
            f"a worker has {resources.memory_mib:,} MiB for {slots}, and these items would need {needs:,} MiB: say "
            f"--memory {-(-needs // 1024)}GB, or fewer --slots"
        )


def _measured_text(sample: Sample) -> str:
    from starburst_common.fleets.waves import about
    from starburst_common.phrases import each_text

    low, high = sample.spread
    count, of = len(sample.seconds), "" if sample.of is None else f" of {sample.of:,}"
    failed = f"; {sample.failed} failed ({sample.why})" if sample.failed else ""
    return (
        f"measured here: {count}{of} items, {each_text(sample.mean_s)} each "
        f"(the mean of all is from {each_text(low)} to {each_text(high)}), {sample.peak_mib:,.0f} MiB at most{failed}"
        + f", the longest {about(sample.longest_s)}"
        * (sample.longest_s > 2 * sample.mean_s)
    )


def sample_fields(sample: Sample | None) -> dict[str, Any] | None:
    """As JSON."""
    if sample is None:
        return None
    return {
        "items": len(sample.seconds),
        "seconds": [round(each, 6) for each in sample.seconds],
        "mean_s": round(sample.mean_s, 6),
        "mean_s_between": [round(end, 6) for end in sample.spread],
        "peak_mib": round(sample.peak_mib, 1),
        "failed": sample.failed,
    }


def _print(found: Frontier) -> None:
    from starburst_common.cli.show import say, simple_table, width_of
    from starburst_common.fleets.frontier import bottleneck
    from starburst_common.fleets.waves import about

    if found.wish.item_s is None:
        say("nobody knows how long an item takes: leave out --history, or say --seconds")
        raise typer.Exit(2)
    names = ["workers", *_times(found), *(offer.name for offer in found.offers)]
    rows = [[f"{plans[0].workers:,}", *_ends(found, plans), *map(_cell, plans)] for plans in found.rows]
    print(simple_table(names, rows, right=names, flexible="workers", width=width_of(sys.stdout)))
    soonest, cheapest = found.soonest, found.cheapest
    for word, pair in (("soonest", soonest), ("cheapest", cheapest)):
        if pair is not None:
            offer, each = pair
            count = f"{each.workers:,} worker{'s' * (each.workers != 1)}"
            say(f"{word}: {count} on {offer.name}, about {about(each.ends_s or 0)}, {_cell(each)}")
    if found.rows and found.offers:
        last = found.rows[-1][0]
        count = f"{last.workers:,} worker{'s' * (last.workers != 1)}"
        say(f"with {count} the bottleneck is {bottleneck(last, found.offers[0].room)}")
    for priced in dict.fromkeys(offer.priced for offer in found.offers):
        say(f"{priced}: {', '.join(offer.name for offer in found.offers if offer.priced == priced)}")
    for offer in found.offers:
        if offer.note:
            say(f"{offer.name}: {offer.note}")
    if found.verdict:
        say(found.verdict)


def _times(found: Frontier) -> list[str]:
    """A column of when all ends; another where instances take longer to come."""
    return ["all in", "on EC2 in"] if _slow(found) is not None else ["all in"]


def _slow(found: Frontier) -> int | None:
    speeds = [offer.speed for offer in found.offers]
    return next((number for number, speed in enumerate(speeds) if speed != speeds[0]), None)


def _ends(found: Frontier, plans: tuple[Plan, ...]) -> list[str]:
    from starburst_common.fleets.waves import about

    slow = _slow(found)
    shown = [plans[0], *([plans[slow]] if slow is not None else [])]
    return [about(each.ends_s or 0.0) for each in shown]


def _cell(each: Plan) -> str:
    from decimal import Decimal

    from starburst_common.dollars import usd_text

    between = each.fields["usd_between"]
    if each.usd is None or between is None:
        return "?"
    low, high = (usd_text(Decimal(str(usd))) for usd in between)
    return f"{usd_text(each.usd)} ({low.removeprefix('$')}-{high.removeprefix('$')})"
