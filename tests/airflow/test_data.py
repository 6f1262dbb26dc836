"""Items that lie elsewhere, named by a text, and results and failures that are written there."""

from __future__ import annotations

import asyncio
import json
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_starburst.errors import StarburstItemsFailed, StarburstRefused
from airflow_provider_starburst.given import given_items
from starburst_common import BadInput, Object, Rows, list_runs
from starburst_common.ports import Backend
from tests.airflow.stage import again, context, deferred, event_of, operator
from tests.airflow.work import sums

CALLED: dict[str, Any] = {"python_callable": abs, "op_args": None}


def rows(folder: Path) -> dict[str, list[int]]:
    """What each file there has."""
    return {file.name: [json.loads(line) for line in file.read_text().splitlines()] for file in folder.glob("*.jsonl")}


def test_a_text_names_rows_and_its_templates_are_filled_in(place: Backend, tmp_path: Path) -> None:
    """Nothing ever maps over its characters; what another task returned is no template."""
    (tmp_path / "2026-11-30").mkdir()
    (tmp_path / "2026-11-30/a.jsonl").write_text("-1\n-2\n")
    task = operator(items=f"file://{tmp_path}/{{{{ ds }}}}/*.jsonl", **CALLED)
    task.render_template_fields({"ds": "2026-11-30"})
    assert [*task.execute(context())] == [1, 2]
    rendered = operator(items=Rows("s3://mine/{{ ds }}/*", "csv"), **CALLED)
    rendered.render_template_fields({"ds": "2026-11-30"})
    assert rendered.items == Rows("s3://mine/2026-11-30/*", "csv")
    xcom = operator(items=SimpleNamespace(resolve=lambda told: "/data/{{ ds }}.jsonl"), **CALLED)
    xcom.render_template_fields({"ds": "2026-11-30"})
    assert xcom.items == "/data/{{ ds }}.jsonl"


def test_a_text_names_objects_or_is_refused(tmp_path: Path) -> None:
    """By a pattern whose names tell no format; with what to do."""
    (tmp_path / "scan.tif").write_bytes(b"1")
    (scan,) = given_items(f"{tmp_path}/*.tif")
    assert isinstance(scan, Object) and scan.read() == b"1"
    (tmp_path / "none.jsonl").touch()
    assert given_items(f"{tmp_path}/none.jsonl") == [], "as where nothing failed that was to be run again"
    assert given_items("file:/data/a%20b*.csv") == given_items(Path("/data/a b*.csv")) == Rows("/data/a b*.csv")
    for kind in ("csv", "parquet", "ndjson", "pq"):
        assert given_items(f"s3://mine/*.{kind}") == Rows(f"s3://mine/*.{kind}")
    for text in ("abc", "calls.jsonl", "gs://mine/*.jsonl", "s3://mine/scans/", "/data/*.json", "[1, 2]"):
        with pytest.raises(BadInput, match="not taken apart into characters: give a list, or where items lie"):
            given_items(text)


@pytest.mark.parametrize("deferrable", [False, pytest.param(True, marks=pytest.mark.rest)])
def test_results_and_failures_are_files_and_tries_add_up(place: Backend, tmp_path: Path, deferrable: bool) -> None:
    """Each value is in one of them, whichever try had it; what failed is items of another task."""
    out, failed = tmp_path / "out", tmp_path / "failed.jsonl"
    options = {"results_to": f"{out}/*.jsonl", "failures_to": str(failed), "deferrable": deferrable}

    def ended() -> Any:
        if not deferrable:
            return operator(tmp_path, **options).execute(context())
        event = asyncio.run(event_of(again(deferred(operator(tmp_path, **options), context()).trigger)))
        return operator(tmp_path, **options).execute_complete(context(), event)

    with pytest.raises(StarburstItemsFailed):
        ended()
    assert failed.read_text() == "1\n3\n5\n" and sorted(chain.from_iterable(rows(out).values())) == [0, 20, 40]
    assert given_items(str(failed)) == Rows(str(failed))
    (tmp_path / "mended").touch()
    results = ended()
    assert failed.read_text() == "" and sorted(chain.from_iterable(rows(out).values())) == [0, 10, 20, 30, 40, 50]
    told = results.serialize()
    assert (told["results_to"], told["failures_to"]) == (options["results_to"], str(failed))
    assert json.loads(Path(told["results_manifest"]).read_text())["values"] == 6
    assert sorted(results.written()) == sorted(str(out / name) for name in rows(out))


def test_a_run_in_place_of_another_leaves_its_files_alone(place: Backend, tmp_path: Path) -> None:
    """Also where the try that was to begin it died, and where it is of one that never was."""
    out = tmp_path / "out"
    options = {**CALLED, "results_to": f"{out}/*.jsonl"}
    operator(items=[1, 2], **options).execute(context())
    assert [*operator(items=[3], **options).execute(context())] == [3]
    assert list(rows(out).values()) == [[3]]
    with pytest.raises(StarburstRefused, match=r"says that results of run-.* are there: name another one"):
        operator(items=[4], **options).execute(context(run_id="manual__2"))
    assert list(rows(out).values()) == [[3]]


def test_every_option_of_a_map_has_its_place(place: Backend) -> None:
    """In options=, or an argument; elsewhere it is said where it belongs."""
    batched = operator(items=[1, 2, 3], python_callable=sums, op_args=None, options={"batch": 3})
    assert [*batched.execute(context())] == [6, 6, 6]
    assert list_runs(backend=place)[0].label == "d.t"
    with pytest.raises(BadInput, match=r"batch=3: give options=\{'batch': 3\}"):
        operator(batch=3)
    with pytest.raises(BadInput, match="tags: give run_tags= to the operator"):
        operator(tags={})
    for name, said in (
        ("label", "run_label="),
        ("ordered", "in the order of the items"),
        ("bach", "did you mean 'batch'"),
    ):
        with pytest.raises(StarburstRefused, match=said):
            operator(options={name: "x"}).execute(context())


@pytest.mark.parametrize("name", ["results_to", "failures_to"])
def test_where_to_write_is_a_certain_place(place: Backend, name: str) -> None:
    """Tasks run in whatever folder; nothing is begun."""
    with pytest.raises(StarburstRefused, match=f"{name}='out/\\*.jsonl': give s3://BUCKET/KEY, or an absolute path"):
        operator(**{name: "out/*.jsonl"}).execute(context())
    assert list_runs(backend=place) == []
