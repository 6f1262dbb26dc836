"""`results_to=`: values as files that workers write, each item's once, and a manifest that says which count."""

from __future__ import annotations

import json
import signal
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from starburst_common import BadInput, Cluster, Denied, Rows, attach, starburst_map
from starburst_common.data.where import find, read
from tests.faults.conftest import AwsBed, Bed, LocalBed


def test_values_are_files_and_the_next_runs_items(bed: Bed, tmp_path: Path) -> None:
    """A line an item, in their order; a manifest tells the files; they are had as any run's values, too."""
    bucket = getattr(bed.backend.store, "bucket", None)
    folder = f"s3://{bucket}/out" if bucket else str(tmp_path / "out")
    with Cluster(workers=1, backend=bed.backend, progress=False) as cluster:
        files = cluster.map(_row, range(100), results_to=f"{folder}/*.jsonl", chunk_size=30)
        assert len(files) == 4
        assert cluster.map(_number, Rows(f"{folder}/*.jsonl")) == [*range(100)]
        told = _manifest(folder)
        assert (told["state"], told["items"], told["values"], told["failed"]) == ("succeeded", 100, 100, [])
        assert [(each["uri"], each["items"], each["rows"]) for each in told["files"]] == [
            (uri, [lo, min(lo + 30, 100)], min(30, 100 - lo)) for uri, lo in zip(files, range(0, 100, 30), strict=True)
        ]
        run = attach(told["run"], backend=bed.backend)
        assert run.results() == [{"n": at, "when": "2027-01-02"} for at in range(100)]
        with pytest.raises(BadInput, match=f"says that results of {run.id} are there: name another one"):
            cluster.map(_row, range(3), results_to=f"{folder}/*.jsonl")


def test_failures_are_in_no_file(local_bed: LocalBed, tmp_path: Path) -> None:
    """The manifest counts them; they are raised as ever, and what retries answer is in files that it names, too."""
    pattern = str(tmp_path / "deep/out/*.jsonl")
    with Cluster(workers=1, backend=local_bed.backend, progress=False) as cluster:
        files = cluster.map(_odd_fails, range(10), results_to=pattern, return_exceptions=True, chunk_size=10)
        assert [json.loads(line) for file in files for line in Path(file).read_text().splitlines()] == [0, 2, 4, 6, 8]
        told = _manifest(str(tmp_path / "deep/out"))
        assert (told["state"], told["failed"]) == ("failed", [[at, at + 1] for at in range(1, 10, 2)])
        run = attach(told["run"], backend=local_bed.backend)
        with pytest.raises(BadInput, match="results_to: what runs again is written"):
            run.retry_failed(abs, results_to=str(tmp_path / "again/*.jsonl"))
        run.retry_failed(_three_fails, return_exceptions=True).wait()
        assert _manifest(str(tmp_path / "deep/out"))["failed"] == [[3, 4]]
        again = run.retry_failed(abs)
        again.wait()
        assert run.results() == [*range(10)]
        told = _manifest(str(tmp_path / "deep/out"))
        assert (told["run"], told["state"], told["values"], told["failed"]) == (run.id, "succeeded", 10, [])
        files = run.written()
        assert again.written() == files == [each["uri"] for each in told["files"]]
        assert sorted(map(str, (tmp_path / "deep/out").glob("*.jsonl"))) == sorted(files)
        lines = [line for file in files for line in Path(file).read_text().splitlines()]
        assert sorted(map(json.loads, lines)) == [*range(10)]
        with pytest.raises(ValueError, match="1 is odd"):
            cluster.map(_odd_fails, range(10), results_to=str(tmp_path / "b/*.jsonl"))


def test_results_are_tables(local_bed: LocalBed, tmp_path: Path) -> None:
    """Of Parquet: rows of dicts, a column of other values; the manifest says of which types; values come as written."""
    with Cluster(workers=1, backend=local_bed.backend, progress=False, chunk_size=25) as cluster:
        for called, wanted, types in (
            (_row, [_row(at) for at in range(50)], {"n": "int64", "when": "date32[day]"}),
            (_mixed, [_mixed(at) for at in range(50)], {"value": "list<item: int64>"}),
        ):
            folder = tmp_path / called.__name__
            files = cluster.map(called, range(50), results_to=f"{folder}/*.parquet")
            told = _manifest(str(folder))
            assert [(each["uri"], each["rows"], each["columns"]) for each in told["files"]] == [
                (uri, 25, types) for uri in files
            ]
            assert attach(told["run"], backend=local_bed.backend).results() == wanted
        assert cluster.map(_number, Rows(f"{tmp_path}/_row/*.parquet")) == [*range(50)]
        odd = cluster.map(_odd_types, range(4), results_to=f"{tmp_path}/odd/*.parquet", return_exceptions=True)
        assert (odd, _manifest(f"{tmp_path}/odd")["failed"]) == ([], [[0, 4]])


def test_no_value_is_lost_for_what_a_file_cannot_say(local_bed: LocalBed, tmp_path: Path) -> None:
    """Half a character is escaped in JSON; what Parquet has no place for fails as its item."""
    with Cluster(workers=1, backend=local_bed.backend, progress=False, return_exceptions=True) as cluster:
        (file,) = cluster.map(chr, [0xD800], results_to=f"{tmp_path}/json/*.jsonl")
        assert json.loads(Path(file).read_text()) == "\ud800"
        for name, called in (("half", chr), ("empty", _no_columns)):
            assert cluster.map(called, [0xD800], results_to=f"{tmp_path}/{name}/*.parquet") == []
            run = attach(_manifest(f"{tmp_path}/{name}")["run"], backend=local_bed.backend)
            assert [(each.error, "no columns of Parquet" in each.message) for each in run.failures()] == [
                ("BadInput", True)
            ]


def test_a_lost_worker_leaves_each_value_in_one_file(local_bed: LocalBed, tmp_path: Path) -> None:
    """What it had written and not told of is written again by the next, and no file of it counts, or stays."""
    pattern, folder = str(tmp_path / "out/*.jsonl"), tmp_path / "out"
    with Cluster(workers=2, slots=1, backend=local_bed.backend, progress=False) as cluster:
        run = cluster.start(_slow, range(60), results_to=pattern, chunk_size=5)
        local_bed.until(lambda: run.status().answered >= 10)
        stray = folder / f"{run.id}-000000000000-000000000005-stray.jsonl"
        stray.write_text("1\n2\n")
        local_bed.signal_workers(signal.SIGKILL, 1)
        files = run.written()
    assert sorted(map(str, folder.glob("*.jsonl"))) == files
    assert [json.loads(line) for file in files for line in Path(file).read_text().splitlines()] == [*range(60)]


def test_where_nothing_can_be_written_is_told(local_bed: LocalBed, tmp_path: Path) -> None:
    """Before there is a run; nothing is left of one that never began."""
    backend = local_bed.backend
    for pattern in ("out/a.jsonl", "out/*.csv", "o*t/*.jsonl", 7):
        with pytest.raises(BadInput, match="name files with one \\* in their name"):
            starburst_map(abs, [1], backend=backend, results_to=pattern)  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    for inside in ("file", "file/deep"):
        with pytest.raises(BadInput, match="a file where a folder should be"):
            starburst_map(abs, [1], backend=backend, results_to=f"{tmp_path}/{inside}/*.jsonl")
    with pytest.raises(BadInput, match="give s3://BUCKET/KEY, or a path"):
        starburst_map(abs, [1], backend=backend, results_to=f"file://{tmp_path}/*.jsonl")
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        with pytest.raises(BadInput, match="cannot be pickled"):
            cluster.map(abs, [1, (at for at in "ab")], results_to=str(tmp_path / "out/*.jsonl"))
        assert not list((tmp_path / "out").iterdir())
        with pytest.raises(BadInput, match="was not given results_to"):
            cluster.start(abs, [1]).written()


def _manifest(folder: str) -> dict[str, Any]:
    (there,) = find(f"{folder}/manifest.json", None)
    told: dict[str, Any] = json.loads(bytes(read(there, 0, there.nbytes, None)))
    return told


def _no_columns(_: int) -> dict[str, Any]:
    return {}


def _row(number: int) -> dict[str, Any]:
    return {"n": number, "when": date(2027, 1, 2)}


def _number(row: dict[str, Any]) -> int:
    return int(row["n"])


def _three_fails(at: int) -> int:
    if at == 3:
        raise ValueError("three")
    return at


def _odd_fails(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def _slow(number: int) -> int:
    time.sleep(0.05)
    return number


@pytest.mark.rest
def test_what_workers_may_not_write_fails(aws_bed: AwsBed) -> None:
    """Each item says so, and where; nothing is taken for written."""
    folder = f"s3://{aws_bed.aws.site['bucket']}/out"
    with Cluster(workers=1, backend=aws_bed.backend, progress=False) as cluster:
        aws_bed.aws.fault(
            service="s3", operation="PutObject", match="/out/run-", code="AccessDenied", status=403, times=1
        )
        with pytest.raises(Denied, match=f"not allowed to reach {folder}/run-"):
            cluster.map(_row, range(4), results_to=f"{folder}/*.jsonl", chunk_size=4)
        assert _manifest(folder)["files"] == []


def test_what_failed_is_the_next_runs_input(local_bed: LocalBed, tmp_path: Path) -> None:
    """Items of a list, and rows, as they were; also where the first failure is raised; nothing where none failed."""
    rows, saved = tmp_path / "rows.jsonl", str(tmp_path / "failed.jsonl")
    rows.write_text("".join(f'{{"n": {at}}}\n' for at in range(10)))
    with Cluster(workers=1, backend=local_bed.backend, progress=False) as cluster:
        cluster.map(_odd_fails, range(10), return_exceptions=True, failures_to=saved)
        assert cluster.map(abs, Rows(saved)) == [1, 3, 5, 7, 9]
        cluster.map(_odd_row_fails, Rows(str(rows)), tolerate=9, failures_to=saved)
        assert cluster.map(_number, Rows(saved)) == [1, 3, 5, 7, 9]
        with pytest.raises(ValueError, match="is odd"):
            cluster.map(_odd_fails, [2, 4, 5], chunk_size=3, failures_to=saved)
        assert Path(saved).read_text() == "5\n"
        cluster.map(_odd_fails, [2], failures_to=saved)
        assert Path(saved).read_text() == ""
        with pytest.raises(BadInput, match="save_failed of the run does it later"):
            cluster.start(abs, [1], failures_to=saved)
        run = cluster.start(_odd_fails, [1, 1 + 0j, 3], return_exceptions=True)
        run.wait()
        with pytest.raises(
            BadInput, match=r"1 of 3 items are not in .*, as item 1: a complex is nothing that JSON says"
        ):
            run.save_failed(saved)
        assert Path(saved).read_text() == "1\n3\n"


def _mixed(number: int) -> list[int] | None:
    return [number] if number % 2 else None


def _odd_types(number: int) -> Any:
    return number if number % 2 else "text"


def _odd_row_fails(row: dict[str, int]) -> int:
    return _odd_fails(row["n"])
