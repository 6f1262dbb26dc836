"""What may be asked of a map, as one table: each option's type, check, default, meaning, and where it is set. Pure."""

# no annotations as text here: `rows` reads them
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

from starburst_common.limits import LimitOptions
from starburst_common.rows import YES_NO, Row, Rule, number, of_type, rows, whole
from starburst_common.shapes import are_arguments, is_files, is_kinds, is_paths, is_place, is_tags
from starburst_common.tolerance import TOLERABLE
from starburst_common.workers_offered import WorkerOptions

_MOST_ITEMS = 10**12 - 1  # an index has twelve digits
_LONGEST_S = 10 * 365 * 86400.0


class CallOptions(LimitOptions, total=False):
    """Of a map, or of an executor's calls."""

    chunk_size: Annotated[
        int | None,
        Row(
            "items leased together; None chooses from how long items take.",
            (whole(1, _MOST_ITEMS, f"a whole number of items, at least 1, at most {_MOST_ITEMS}"),),
            None,
            outside="a whole number of items",
            shell="Items leased together; else by how long they take.",
        ),
    ]
    retries: Annotated[
        int,
        Row(
            "further tries for an item that raises a `retry_on`, or that runs into its `timeout`.",
            (whole(0, 100),),
            0,
            outside="a whole number of tries",
            shell="Further tries for an item that raised, or ran into --timeout; else none.",
        ),
    ]
    retry_delay: Annotated[
        float,
        Row(
            "seconds before each further try of an item that raised; one that timed out is tried at once.",
            (number(lambda value: 0 <= value <= 3600, "seconds from 0 to 3600"),),
            0.0,
            outside="seconds",
            shell="Seconds before a further try of one that raised; else 0.",
        ),
    ]
    retry_on: Annotated[
        type[BaseException] | tuple[type[BaseException], ...],
        Row(
            "the exception type, or types, that are tried again; those that leave out `ItemTimeout` leave out what "
            "timed out.",
            (Rule(is_kinds, ": give an exception type, or a tuple of them"),),
            Exception,
        ),
    ]
    timeout: Annotated[
        float | None,
        Row(
            "seconds one item may run, or the initializer; then its slot is killed.",
            (number(lambda value: 0 < value <= _LONGEST_S, f"seconds above 0, at most {_LONGEST_S:.0f}, or None"),),
            None,
            outside="seconds for one item",
            shell="Seconds one item may run.",
        ),
    ]
    priority: Annotated[
        float,
        Row(
            "its share where several runs of a site wait to start workers, or share a full quota: one of 2 has twice "
            "as many as one of 1.",
            (number(lambda value: 0.01 <= value <= 100, "a number from 0.01 to 100"),),
            1.0,
            outside="a number from 0.01 to 100",
            shell="Its share where several runs wait to start workers; else 1.",
        ),
    ]
    speculate: Annotated[
        bool,
        Row(
            "near the end, what takes far longer than items do is given to an idle worker, too, once; the first answer "
            "counts. For functions that may run twice.",
            (YES_NO,),
            False,
            outside="true or false",
            shell="Near the end, give what takes far longer than items do to an idle worker, too.",
        ),
    ]
    escalate: Annotated[
        bool,
        Row(
            "items that run out of memory go on, once, on workers of the next size: with twice the memory, or as much "
            "as former runs of the function took if that is more. These start when nothing else is left to be run. On "
            "this machine only where `memory` is named.",
            (YES_NO,),
            False,
            outside="true or false",
            shell="Have items that run out of memory go on, once, on workers with twice as much.",
        ),
    ]
    driver_ttl: Annotated[
        float | None,
        Row(
            "seconds that workers go on without a driver, as the process is that began the run, or any that waits for "
            "it; then they stop, and who attaches goes on. None has them work to its end. On AWS less than 40 is 40.",
            (number(lambda value: 1 <= value <= _LONGEST_S, f"seconds from 1 to {_LONGEST_S:.0f}, or None"),),
            None,
            outside="seconds",
            shell="Seconds after which workers stop where nobody drives the run any more; else they go on to its end.",
        ),
    ]
    seed: Annotated[
        int | None,
        Row(
            "gives each item a seed of its own, which depends on this number and the item's only. `random` starts from "
            "it, and numpy's global generator; `starburst_common.item_seed()` tells it for others.",
            (whole(0, 2**63 - 1, f"a whole number from 0 to {2**63 - 1}, or None"),),
            None,
            shell="Gives each item a seed of its own, made of this number.",
        ),
    ]
    initializer: Annotated[
        Callable[..., Any] | None,
        Row(
            "called as `initializer(*initargs)` once a slot, before its first item; where that fails, items do.",
            (Rule(callable, ": give a function, or None"),),
            None,
        ),
    ]
    initargs: Annotated[
        Sequence[Any],
        Row(
            "its arguments, in a tuple or a list.",
            (Rule(are_arguments, ": give the initializer's arguments in a tuple or a list, with an initializer"),),
            (),
        ),
    ]
    files: Annotated[
        str | Path | Sequence[str | Path],
        Row(
            'paths and patterns, such as "data/*.csv", of files and folders that are sent to workers on AWS, where '
            "each lies relative to the working directory as at home; here they are there.",
            (Rule(is_paths, ': give paths or patterns such as "data/*.csv", in a list'),),
            (),
        ),
    ]
    label: Annotated[
        str | None,
        Row(
            "yours, shown in listings.",
            (of_type(str, "text"),),
            None,
            outside="text",
            shell="What listings show; else MODULE:FUNCTION.",
        ),
    ]
    tags: Annotated[
        dict[str, str] | None,
        Row(
            "yours, names and values as text, shown with the run; in a variable, a JSON object.",
            (Rule(is_tags, ": give a dictionary whose names and values are text"),),
            None,
            outside='a JSON object of texts, such as {"team": "forecast"}',
        ),
    ]


class AnswerOptions(TypedDict, total=False):
    """Of a map as a whole, and not of an executor: that one's answers are futures, one a call."""

    batch: Annotated[
        int | None,
        Row(
            "hands the function a list of up to so many items at once; it answers a list of as many values, in which "
            "an exception is its item's failure. `timeout` is then for such a call.",
            (whole(1, 20_000, "a whole number of items, from 1 to 20000, or None"),),
            None,
            shell="Items that the function is given at once, at most, in a list; it answers a list of as many.",
        ),
    ]
    results_to: Annotated[
        str | Path | None,
        Row(
            'writes values to files, as in "s3://bucket/out/*.jsonl" or "….parquet", and a manifest beside them; the '
            "answer is the list of the files.",
            (Rule(is_files, ': name files with one * in their name, as in "s3://bucket/out/*.jsonl" or "….parquet"'),),
            None,
            shell='Have workers write results to files, as in "s3://bucket/out/*.jsonl", whose names are printed.',
        ),
    ]
    failures_to: Annotated[
        str | Path | None,
        Row(
            "where the items that failed, or have no answer, are written in the end, a line of JSON each.",
            (Rule(is_place, ": give s3://BUCKET/KEY, or a path"),),
            None,
        ),
    ]
    return_exceptions: Annotated[
        bool,
        Row(
            "put exceptions in place of the values instead of raising the first. Every item is answered then: no "
            "failures stop the run, however many are alike.",
            (YES_NO,),
            False,
            shell="Answer every item, even if all of the first fail alike.",
        ),
    ]
    ordered: Annotated[bool, Row("results in the order of the items, else as they complete.", (YES_NO,), True)]
    tolerate: Annotated[
        int | str | None,
        Row(
            'failures that do not stop the run, a count or "2%", returned in place; so many may all be alike.',
            (TOLERABLE,),
            None,
            outside='a count such as 5, or a share such as "2%"',
            shell='Failures that stop nothing, such as 5 or "2%"; else any, unless the first 20 or more are alike.',
        ),
    ]
    progress: Annotated[
        bool | None,
        Row(
            "on stderr, a bar on a terminal, elsewhere a line every 5 s, or 30 s while nothing happens; "
            "True gives one line at least, False none.",
            (YES_NO._replace(wrong=": give True, False or None"),),
            None,
            outside="true or false",
        ),
    ]


class ExecutorOptions(WorkerOptions, CallOptions, total=False):
    """What `StarburstExecutor` takes."""


class RunOptions(CallOptions, AnswerOptions, total=False):
    """What one call of `Cluster.map`, `starmap` or `start` takes."""


class MapOptions(WorkerOptions, RunOptions, total=False):
    """What `starburst_map` and `Cluster` take."""


#: All options by name.
OPTIONS: dict[str, Row] = rows(MapOptions)
