"""Why a run ends before all its items are answered, in words. Pure."""

from __future__ import annotations

from starburst_common.runs.barren import Barren
from starburst_common.runs.view import Policy, View

#: Why no more input comes where nobody has said why.
DIED = "the driver died while reading its input"
GIVEN_UP = "who began it gave it up before its input was whole"  #: to whoever meets it on its way out


def never_came(why: str, stored: int) -> str:
    """The reason of a run whose input is lost but for so many items."""
    return f"{why}: {stored} items were stored and are answered, later ones never came: start a new run for those"


def too_barren(row: Barren) -> str:
    """Where workers end for nothing."""
    return (
        f"{row.count} workers in a row settled nothing and ended, each within {-(-row.longest_s // 1):.0f} s, the last "
        f"with {row.why}: what they printed is in the warnings before, on AWS also in the log group: "
        "mend that, and start the run again"
    )


def unreached(row: Barren) -> str:
    """Where none reaches what it needs, or may."""
    do = "start" if row.unbegun else "work"
    return f"{row.shut_out} workers could not {do}, nor could others: {row.why}: start the run again then"


def all_dead(view: View) -> str:
    """Where no worker is done with its messages."""
    run = view.run
    return (
        f"{run.owed} chunks are owed, and their messages end as dead letters ({run.dead}), though they were sent "
        f"again {run.resent} times: no worker can read them or lives to finish one; the workers' logs say why"
    )


def too_many(view: View, policy: Policy) -> str:
    """Where more failed than was tolerated."""
    limit = policy.tolerate
    allowed = f"{limit.percent:g}%" if limit.percent is not None else str(limit.count)
    of = f" of {view.run.items}" if view.run.items is not None else ""
    since = " since it was resumed" if policy.forgiven else ""
    return f"{view.run.failed - policy.forgiven}{of} items failed{since}, more than the {allowed} tolerated"
