"""Every option is checked before anything is launched, and a refusal says what was wrong and what would be right."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starburst_common import Cluster, StarburstExecutor, list_runs, starburst_map
from starburst_common.errors import BadInput
from starburst_common.limits import Limits
from starburst_common.local import local_backend
from starburst_common.options import Options
from starburst_common.resources import FARGATE_MEMORY_MIB, Resources, memory_mib
from starburst_common.tolerance import Tolerance
from starburst_common.wire.fields import LAST_MOMENT
from starburst_common.workers_offered import MOST_WORKERS

cpus = st.sampled_from(sorted(FARGATE_MEMORY_MIB))


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "mib"),
    [
        ("8GB", 8192),
        (8, 8192),
        (8.0, 8192),
        ("8", 8192),
        ("8G", 8192),
        ("8 GiB", 8192),
        (" 8gb ", 8192),
        ("512MB", 512),
        ("512 MiB", 512),
        ("512m", 512),
        (0.5, 512),
        ("1.5GB", 1536),
    ],
)
def test_a_memory_size_is_read_as_meant(size: str | float, mib: int) -> None:
    """A bare number is GB; letters may be large or small."""
    assert memory_mib(size) == mib


@pytest.mark.parametrize(
    "size", ["", "GB", "8XB", "8PB", "-8GB", "0", 0, -1, "8GB8", True, float("nan"), float("inf"), "1e3"]
)
def test_a_wrong_memory_size_is_refused(size: Any) -> None:
    """By name, with its value and examples of right ones."""
    with pytest.raises(BadInput, match=r'memory=.* is not a size: write "8GB"'):
        memory_mib(size)


@given(st.integers(1, 10**6))
def test_megabytes_are_exact(mib: int) -> None:
    """No size is rounded away."""
    assert memory_mib(f"{mib}MB") == mib
    assert memory_mib(mib / 1024) == mib


@given(cpus, st.integers(1, 122_880))
@example(0.25, 1536)  # a step that is not sold
@example(0.5, 1536)
def test_what_is_accepted_is_a_fargate_size(cpu: float, mib: int) -> None:
    """And what is refused names a size that would be accepted, with this cpu or another."""
    least, most, step = FARGATE_MEMORY_MIB[cpu]
    refused = ""
    try:
        resources = Resources.of(cpu, f"{mib}MB")
    except BadInput as error:
        refused = str(error)
    if not refused:
        assert least <= resources.memory_mib == mib <= most
        assert mib % step == 0 or mib == least
        assert resources.memory_given
        return
    right = f"use {least} to {most} MiB in steps of {step}" if cpu != 0.25 else "use 512, 1024 or 2048 MiB"
    assert refused.startswith(f"memory={mib} MiB does not go with cpu={cpu}: {right}")
    if ", or cpu=" in refused:
        assert Resources.of(float(refused.rsplit("=", 1)[1]), f"{mib}MB").memory_mib == mib


@pytest.mark.parametrize(
    ("cpu", "takes", "refuses"),
    [(0.25, (512, 1024, 2048), (1536, 2560)), (0.5, (1024, 4096), (512, 1536)), (16, (32768, 122880), (33792, 131072))],
)
def test_the_table_holds_at_its_edges(cpu: float, takes: tuple[int, ...], refuses: tuple[int, ...]) -> None:
    """As the Fargate documentation lists them; 0.25 vCPU has three sizes and no others."""
    for mib in takes:
        assert Resources.of(cpu, f"{mib}MB").memory_mib == mib
    for mib in refuses:
        with pytest.raises(BadInput):
            Resources.of(cpu, f"{mib}MB")


@pytest.mark.parametrize("cpu", [0, 3, -1, 32, "4", None, True, float("nan")])
def test_a_cpu_that_fargate_lacks_is_refused(cpu: Any) -> None:
    """With the list of those it has."""
    with pytest.raises(BadInput, match=r"cpu=.* is not a Fargate size: use one of 0.25, 0.5, 1, 2, 4, 8, 16"):
        Resources.of(cpu)


@given(cpus)
def test_defaults_are_the_least_memory_and_a_slot_a_vcpu(cpu: float) -> None:
    """So that `cpu=` alone is enough; only a named memory is enforced on a laptop."""
    resources = Resources.of(cpu)
    assert resources.memory_mib == FARGATE_MEMORY_MIB[cpu][0]
    assert resources.slots == max(1, int(cpu))
    assert not resources.memory_given


# --- tolerance --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_a_tolerated_count_is_a_count(limit: int, failed: int, items: int) -> None:
    """However many items there are."""
    assert Tolerance.of(limit).allows(failed=failed, items=items) == (failed <= limit)


@given(st.integers(0, 10_000), st.integers(0, 1000), st.integers(0, 1000))
@example(29_00, 29, 100)  # 0.29 * 100 < 29
@example(1_13, 113, 10_000)
def test_a_tolerated_share_is_of_the_items(hundredths: int, failed: int, items: int) -> None:
    """2% of 100 items are 2."""
    tolerance = Tolerance.of(f"{hundredths / 100:.2f}%")
    assert tolerance.allows(failed=failed, items=items) == (10_000 * failed <= hundredths * items)


@pytest.mark.parametrize("tolerate", [-1, 1.5, "1.5", "101%", "-1%", "%", "", True, [1]])
def test_a_wrong_tolerance_is_refused(tolerate: Any) -> None:
    """With an example of each kind."""
    with pytest.raises(BadInput, match=r'tolerate=.*: give a count such as 5, or a share such as "2%"'):
        Options.of(tolerate=tolerate)


# --- options ----------------------------------------------------------------------------------------------------------


def test_nothing_given_is_fine() -> None:
    """Every option has a default, and the defaults are those of a plain map."""
    options = Options.of()
    assert options.workers is None
    assert options.chunk_size is None
    assert (options.retries, options.timeout_s, options.tolerate) == (0, None, Tolerance())
    assert options.retry_on == (Exception,)
    assert not options.return_exceptions
    assert options.ordered
    assert pickle.loads(pickle.dumps(options)) == options


def test_tolerating_failures_returns_them() -> None:
    """They have to go somewhere."""
    assert Options.of(tolerate=3).return_exceptions
    assert Options.of(tolerate=" 3").tolerate == Tolerance.of(3)  # as a shell has it
    assert Options.of(tolerate=0).return_exceptions
    assert not Options.of().return_exceptions


@pytest.mark.parametrize(
    ("option", "wrong"),
    [(name, value) for name in ("workers", "chunk_size") for value in (0, -1, 2.0, "4", True)]
    + [
        ("workers", MOST_WORKERS + 1),
        ("slots", 0),
        ("slots", 65),
        ("slots", 1.0),
        ("slots", True),
        ("retries", -1),
        ("retries", 101),
        ("retries", 1.0),
        ("retries", True),
        ("retry_delay", -0.1),
        ("retry_delay", 3601),
        ("retry_delay", float("nan")),
        ("retry_delay", float("inf")),
        ("retry_delay", "1"),
        ("retry_on", ()),
        ("retry_on", "ValueError"),
        ("retry_on", ValueError("x")),
        ("retry_on", (ValueError, 1)),
        ("retry_on", int),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("timeout", float("inf")),
        ("timeout", "5"),
        ("timeout", True),
        ("driver_ttl", 0),
        ("priority", 0),
        ("priority", 101),
        ("priority", "2"),
        ("driver_ttl", float("inf")),
        ("keep_warm", -1),
        ("keep_warm", 43_201),
        ("keep_warm", None),
        ("driver_ttl", "900"),
        ("return_exceptions", "no"),
        ("return_exceptions", 1),
        ("ordered", "false"),
        ("ordered", None),
        ("progress", "bar"),
        ("progress", 0),
        *(("alert_at", wrong) for wrong in ("", "half", 0.8, 0, 101, "50, 120", "50;80", [50, None], True)),
        ("max_hourly_cost", 0),
        ("max_hourly_cost", "10"),
        ("budget", 0),
        ("budget", -1),
        ("budget", 1e13),
        ("budget", float("nan")),
        ("budget", float("inf")),
        ("budget", "5"),
        ("deadline", 0),
        ("deadline", "soon"),
        ("deadline", "2027-01-31T06:00"),
        ("deadline", datetime(2027, 1, 1)),
        ("deadline", timedelta(seconds=-1)),
        ("seed", -1),
        ("seed", 2**63),
        ("seed", True),
        ("seed", "7"),
        ("initializer", "load"),
        ("initargs", "a"),
        ("files", 5),
        ("files", [""]),
        ("initargs", (1,)),
        ("label", 5),
        ("tags", {"a": 1}),
        ("tags", {1: "a"}),
        ("tags", ["a"]),
        ("tags", "a"),
        ("env", {"A": 1}),
        ("env", "A=1"),
        ("task_role", "workers"),
    ],
)
def test_a_wrong_option_is_refused_by_name(option: str, wrong: Any) -> None:
    """The message begins with the option and its value as given, and says what to give; it is a ValueError too."""
    with pytest.raises(BadInput) as refused:
        Options.of(**{option: wrong})
    assert str(refused.value).startswith(f"{option}={wrong!r}: give ")
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    ("given_options", "field", "value"),
    [
        ({"workers": 1}, "workers", 1),
        ({"workers": MOST_WORKERS}, "workers", MOST_WORKERS),
        ({"chunk_size": 1}, "chunk_size", 1),
        ({"retries": 100}, "retries", 100),
        ({"retry_delay": 3600}, "retry_delay_s", 3600.0),
        ({"retry_on": KeyError}, "retry_on", (KeyError,)),
        ({"retry_on": (KeyError, OSError)}, "retry_on", (KeyError, OSError)),
        ({"timeout": 0.5}, "timeout_s", 0.5),
        ({"budget": 25}, "limits", Limits(budget_usd=25.0)),
        ({"max_hourly_cost": 10}, "limits", Limits(hourly_usd=10.0)),
        ({"alert_at": "90, 25"}, "limits", Limits(alerts=(25.0, 90.0))),
        ({"alert_at": "none"}, "limits", Limits(alerts=())),
        ({"alert_at": (50, 80)}, "limits", Limits(alerts=(50.0, 80.0))),
        ({"deadline": "2h"}, "limits", Limits(deadline_s=7200.0)),
        ({"deadline": timedelta(minutes=1)}, "limits", Limits(deadline_s=60.0)),
        ({"deadline": datetime(2027, 1, 1, tzinfo=UTC)}, "limits", Limits(deadline_at=1798761600.0)),
        ({"deadline": "9999-12-31T23:59-10:00"}, "limits", Limits(deadline_at=LAST_MOMENT)),  # in UTC of no date
        ({"driver_ttl": 900}, "driver_ttl_s", 900.0),
        ({"priority": 3}, "priority", 3.0),
        ({"keep_warm": 600}, "keep_warm_s", 600.0),
        ({"seed": 0}, "seed", 0),
        ({"initializer": print, "initargs": (1,)}, "initargs", (1,)),
        ({"initializer": print, "initargs": [1]}, "initargs", (1,)),
        ({"label": "nightly"}, "label", "nightly"),
        ({"tags": {"team": "risk"}}, "tags", {"team": "risk"}),
        ({"slots": 64}, "resources", Resources(cpu=1, memory_mib=2048, slots=64)),
    ],
)
def test_a_right_option_is_kept(given_options: dict[str, Any], field: str, value: Any) -> None:
    """At the ends of its range too."""
    assert getattr(Options.of(**given_options), field) == value


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"A-B": "1"}, "env='A-B': a variable's name has letters, digits and _"),
        ({"": "1"}, "env='': a variable's name"),
        ({"STARBURST_KEY": "1"}, "env='STARBURST_KEY': .* are the worker's own: leave it out"),
        ({"A": "1", "ECS_CONTAINER_METADATA_URI_V4": "1"}, "env='ECS_CONTAINER_METADATA_URI_V4': .* own"),
        ({"AWS_ACCESS_KEY_ID": "1"}, "env='AWS_ACCESS_KEY_ID': .* own"),
        ({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/"}, "own"),
        ({"AWS_ENDPOINT_URL_S3": "http://here"}, "own"),
        ({"A": "a\0b"}, "env='A': its value has a character that no variable can hold"),
        ({"A": "é" * 1000}, "env= has 6,028 characters as JSON, and 6,000 fit"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(env: dict[str, str], said: str) -> None:
    """What ECS could not set, what is the worker's own, and more than a launch can say."""
    with pytest.raises(BadInput, match=said):
        Options.of(env=env)
    assert Options.of(env={"AWS_REGION": "eu-west-1", "_A1": ""}).resources.env == {
        "AWS_REGION": "eu-west-1",
        "_A1": "",
    }


@pytest.mark.parametrize("taker", [Options.of, Cluster, StarburstExecutor, partial(starburst_map, abs, [1])])
def test_an_unknown_option_is_refused_by_name(taker: Callable[..., Any]) -> None:
    """As Python refuses any argument, and as we refuse any wrong one; with the option that was probably meant."""
    with pytest.raises(TypeError, match="worker_count"):
        taker(worker_count=3)
    with pytest.raises(BadInput, match=r"no option 'retrys': did you mean 'retries'\?"):
        taker(retrys=3)
    with pytest.raises(BadInput, match=r"no option 'urgency': there are .*workers, cpu, "):
        taker(urgency=3)


@pytest.mark.parametrize("taker", [Cluster, StarburstExecutor, partial(starburst_map, abs, [1])])
def test_a_misspelt_backend_is_seen_as_one(taker: Callable[..., Any]) -> None:
    """It is an option like any other to who calls."""
    with pytest.raises(BadInput, match=r"no option 'backnd': did you mean 'backend'\?"):
        taker(backnd="local")


def test_what_is_the_clusters_is_refused_for_one_call() -> None:
    """Nothing is opened for it."""
    cluster = Cluster(backend="local")
    with pytest.raises(BadInput, match=r"no option 'retrys': did you mean 'retries'\?"):
        cluster.map(abs, [1], retrys=3)
    with pytest.raises(BadInput, match="backend, cpu: give these to the Cluster"):
        cluster.map(abs, [1], cpu=2, backend="local")


@pytest.mark.parametrize("name", ["return_exceptions", "ordered", "tolerate", "progress"])
def test_an_executor_refuses_what_is_about_a_map(name: str) -> None:
    """When it is made; it says where this goes."""
    with pytest.raises(BadInput, match=rf"{name}=1: .* futures, one a call: this goes with starburst_map"):
        StarburstExecutor(2, **{name: 1})


def test_a_budget_stops_nothing_where_nothing_is_charged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run of this machine says so, for whoever listens; one without a budget says nothing."""
    caplog.set_level("INFO", logger="starburst")
    backend = local_backend(tmp_path)
    assert starburst_map(abs, [-1], backend=backend, budget=1e-9) == [1]
    assert starburst_map(abs, [-1], backend=backend) == [1]
    backend.close()
    (said,) = [message for message in caplog.messages if "budget" in message]
    assert "budget=1e-09 stops nothing here" in said


def test_a_deadline_that_has_passed_is_refused(tmp_path: Path) -> None:
    """Before anything is stored."""
    backend = local_backend(tmp_path)
    with pytest.raises(BadInput, match=r"deadline: it was .* s ago: give one that is to come"):
        starburst_map(abs, [1], backend=backend, deadline="2020-01-01T00:00+00:00")
    assert list_runs(backend=backend) == []
    backend.close()


@pytest.mark.parametrize("tags", [["team"], "team", {"team": 1}])
def test_tags_to_look_for_are_checked_alike(tags: Any) -> None:
    """Before anything is opened, and whatever there may be."""
    with pytest.raises(BadInput, match=r"tags=.*: give a dictionary whose names and values are text"):
        list_runs(tags=tags)


def test_tags_are_the_options_own() -> None:
    """Who changes their dictionary later changes no run."""
    tags = {"a": "b"}
    options = Options.of(tags=tags)
    tags["a"] = "c"
    assert options.tags == {"a": "b"}
