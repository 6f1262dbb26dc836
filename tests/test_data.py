"""Data where it lies: rows and objects that workers read themselves, counted once and answered each on its own."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starburst_common import BadInput, Cluster, Denied, NotFound, Object, Rows, Unavailable, objects
from starburst_common.data.counted import Found, ToCount, count_lines
from starburst_common.data.lines import count, ranges
from starburst_common.data.portions import Portion, Stretch, stretches
from starburst_common.data.where import find
from starburst_common.model import Span
from starburst_common.ports import Backend
from starburst_common.runs.replay import stored_call
from starburst_common.wire.frames import FrameWriter
from starburst_common.wire.items import Frames, checked_frames, item_parts
from starburst_common.wire.stretches import StretchWriter
from tests.places import aws_text, open_place
from tests.policies import allow
from tests.testbed.bed import Bed as Aws

_fields = st.text('ab,"\n\r 0', max_size=4)


@pytest.fixture
def cluster(backend: Backend) -> Iterator[Cluster]:
    """Two workers on this machine."""
    with Cluster(workers=2, backend=backend, progress=False) as opened:
        yield opened


@given(st.lists(st.lists(_fields, min_size=2, max_size=2)), st.integers(1, 30), st.sampled_from(["\n", "\r\n"]))
def test_pieces_of_a_csv_are_put_together_to_its_records(records: list[list[str]], size: int, end: str) -> None:
    """Wherever it is cut: each range holds whole records, as many as the standard library reads."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(records)
    data = out.getvalue().encode()
    cut = [count(data[at : at + size], at, quotes=True) for at in range(0, len(data), size)] or [
        count(b"", 0, quotes=True)
    ]
    found = ranges(cut, len(data))
    read = [[*csv.reader(io.StringIO(data[lo:hi].decode(), newline=""))] for lo, hi, _ in found]
    assert [len(each) for each in read] == [rows for _, _, rows in found]
    assert [record for each in read for record in each] == records


@given(st.binary(max_size=60).map(lambda raw: bytes(b"\n x"[byte % 3] for byte in raw)), st.integers(1, 9))
def test_pieces_of_lines_are_put_together_to_lines(data: bytes, size: int) -> None:
    """Lines with nothing in them count for nothing, wherever they are cut."""
    cut = [count(data[at : at + size], at, quotes=False) for at in range(0, len(data) or 1, size)]
    found = ranges(cut, len(data))
    assert b"".join(data[lo:hi] for lo, hi, _ in found) == data
    for lo, hi, rows in found:
        assert rows == sum(bool(line.strip()) for line in data[lo:hi].split(b"\n"))


def test_rows_of_local_files_are_items(cluster: Cluster, backend: Backend, tmp_path: Path) -> None:
    """JSON lines, CSV and Parquet, over several files in the order of their names; what counted them is gone."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    for name, start in (("b", 500), ("a", 0)):
        lines = "".join(f"{json.dumps({'n': start + at})}\n\n" for at in range(500))
        (tmp_path / f"{name}.jsonl").write_text(f"\ufeff{lines}")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "t.csv").write_text(
        "\ufeff\nn,text\r\n" + "".join(f'{at},"x\r\ny"\r\n' for at in range(300)), newline=""
    )
    write_table(pa.table({"n": range(250)}), tmp_path / "t.parquet", row_group_size=100)
    assert cluster.map(_number, Rows(f"{tmp_path}/*.jsonl")) == [*range(1000)]
    assert cluster.map(_number, Rows(str(tmp_path / "t.csv")), chunk_size=7) == [*range(300)]
    assert cluster.map(len, Rows(str(tmp_path / "t.csv"))) == [2] * 300
    (tmp_path / "excel.csv").write_text("\ufeffsep=;\r\nn;price\r\n5;1,5\r\n", newline="")
    assert cluster.map(dict, Rows(str(tmp_path / "excel.csv"))) == [{"n": "5", "price": "1,5"}]
    assert cluster.map(_number, Rows(str(tmp_path / "t.parquet"))) == [*range(250)]
    (tmp_path / "pairs.txt").write_text("[1, 2]\n[3, 4]")
    assert cluster.starmap(pow, Rows(str(tmp_path / "pairs.txt"), format="jsonl")) == [1, 81]
    assert len(backend.store.folders("runs")) == 6


def test_a_row_fails_alone_and_is_run_again(cluster: Cluster, backend: Backend, tmp_path: Path) -> None:
    """It says where it lies; a fixed function is given the row as it is; `replay` makes its call here."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"n": {at}}}\n' for at in range(40)) + "not JSON\n" + '{"n": 0}')
    run = cluster.start(_inverse, Rows(str(rows)), return_exceptions=True)
    values = run.results()
    assert [at for at, value in enumerate(values) if isinstance(value, Exception)] == [0, 40, 41]
    assert str(values[40]) == f"{rows}, byte {rows.read_text().index('not')}: not JSON: Expecting value: not JSON"
    assert stored_call(backend, run.id, 39, None).args == ({"n": 39},)
    rerun = run.retry_failed(_number)
    rerun.wait()
    values = run.results(return_exceptions=True)
    assert [values[0], type(values[40]), values[41]] == [0, BadInput, 0]


def test_what_was_written_anew_is_not_read(cluster: Cluster, tmp_path: Path) -> None:
    """Rows of two versions of a file are not mixed: those that were not read yet fail, and say so."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("1\n2\n")
    (found,) = find(str(rows), None)
    os.utime(rows, ns=(1, 1))
    with pytest.raises(NotFound, match="was written anew since the run began"):
        Stretch([(Portion(found, "jsonl", 0, 4, 2), 0, 2)])[0]
    with pytest.raises(NotFound, match="was written anew"):
        Object(*found).open()
    with pytest.raises(NotFound, match="is not there on this machine"):
        cluster.map(_content, [Object("/nowhere/at/all", 3)])


def test_objects_are_items(cluster: Cluster, tmp_path: Path) -> None:
    """Each its name and size; whoever wants its bytes reads them."""
    for name in ("b.bin", "a.bin", "deeper/c.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 2)
    found = objects(tmp_path / "*.bin")
    assert [(each.name, each.size) for each in found] == [("a.bin", 10), ("b.bin", 10)]
    assert cluster.map(_content, objects(tmp_path / "**/*.bin")) == [b"in", b"in", b"in"]


def test_what_cannot_be_read_as_rows_is_refused_before_anything_starts(backend: Backend, tmp_path: Path) -> None:
    """It says what, and what to do."""
    from pyarrow import table
    from pyarrow.parquet import write_table

    (tmp_path / "odd.xyz").write_text("1")
    (tmp_path / "blank.jsonl").touch()
    (tmp_path / "not.parquet").write_text("1")
    write_table(table({"n": []}), tmp_path / "none.parquet")
    write_table(table([[1], [2]], names=["n", "n"]), tmp_path / "twice.parquet")
    wrong = {
        "none/*.csv": "nothing is there",
        "odd.xyz": ".xyz tells no format",
        "": "a folder: say",
        "blank.jsonl": "1 files, and no rows in them",
        "none.parquet": "1 files, and no rows in them",
        "not.parquet": "not Parquet: ",
        "twice.parquet": "two columns are called 'n'",
        f"{'long' * 100}/*.csv": "File name too long",
    }
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        for name, said in wrong.items():
            with pytest.raises((BadInput, Unavailable), match=said):
                cluster.map(_number, Rows(f"{tmp_path}/{name}".rstrip("/")))
        with pytest.raises(BadInput, match="give s3://BUCKET/KEY, or a path"):
            cluster.map(_number, Rows("https://example.com/a.csv"))
        with pytest.raises(BadInput, match='use "jsonl", "csv" or "parquet"'):
            Rows("a", format="xml")
        with pytest.raises(BadInput, match="Rows goes alone"):
            cluster.map(_number, Rows("a.csv"), [1])
        assert not list(backend.store.list("runs"))
        (tmp_path / "twice.csv").write_text("a,a\n1,2\n")
        with pytest.raises(BadInput, match="two columns are called 'a'"):
            cluster.map(_number, Rows(str(tmp_path / "twice.csv")))


def test_a_frame_of_where_items_lie_has_them_one_by_one(tmp_path: Path) -> None:
    """As any frame of items; one of them pickled for another run stays a place, not a value."""
    (tmp_path / "rows.jsonl").write_text("10\n11\n12\n")
    found = Found(Rows(str(tmp_path / "rows.jsonl")), None)
    (stretch,) = stretches(found.counted([*map(count_lines, found.to_count)]).portions, 100)
    key, plain = b"k" * 32, FrameWriter()
    plain.add("before")
    pack = b"".join([*item_parts(key, "r", 0, plain), *item_parts(key, "r", 1, StretchWriter(stretch))])
    assert len(pack) < 800
    frames = Frames(b"".join(checked_frames(key, "r", pack, Span(0, 4))[0]))
    assert [frames[at] for at in range(4)] == ["before", 10, 11, 12]
    pickled, buffers = frames.pickled(2)
    assert b"rows.jsonl" in pickled
    assert (pickle.loads(pickled), buffers) == (11, [])


def test_a_csv_without_an_end_to_its_header_is_refused(tmp_path: Path) -> None:
    """A file of quotes is not read whole to find that out."""
    (tmp_path / "a.csv").write_text("a,b" * 10)
    (found,) = find(str(tmp_path / "a.csv"), None)
    with pytest.raises(BadInput, match="no header within its first 10 bytes"):
        count_lines(ToCount(found, "csv", 0, 10))


@pytest.mark.parametrize("text", ["a\tb\n\t\n\n1\t2\n", "a\n \n\r\n\t\n", "a,b\r\n1,2\r\n\r\n   \r\n3,4"])
def test_only_empty_lines_of_a_csv_are_skipped(tmp_path: Path, text: str) -> None:
    """Of blanks and tabs are records, of a table's empty cells, say: they are counted as they are read."""
    (tmp_path / "a.csv").write_bytes(text.encode())
    found = Found(Rows(str(tmp_path / "a.csv")), None)
    (portion,) = found.counted([*map(count_lines, found.to_count)]).portions
    wanted = [*csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\tb" in text else ",")]
    assert portion.rows == len([record for record in wanted if record]) - 1
    Stretch([(portion, 0, portion.rows)])[0]


def test_what_is_shown_of_a_wrong_line_steers_no_terminal(tmp_path: Path) -> None:
    """A compressed file by a text's name, say."""
    (tmp_path / "a.jsonl").write_bytes(b"\x1b[2J\x07{\n")
    found = Found(Rows(str(tmp_path / "a.jsonl")), None)
    (portion,) = found.counted([*map(count_lines, found.to_count)]).portions
    with pytest.raises(BadInput) as raised:
        Stretch([(portion, 0, 1)])[0]
    assert str(raised.value).isprintable()


def test_a_quote_within_a_field_is_told(tmp_path: Path) -> None:
    """Such a file has not the records that its quotes tell of; no row of it is taken for another."""
    (tmp_path / "a.csv").write_text('a,b\n1,5" pipe\n2,x\n3,6" pipe\n4,y\n')
    found = Found(Rows(str(tmp_path / "a.csv")), None)
    portions = found.counted([*map(count_lines, found.to_count)]).portions
    with pytest.raises(BadInput, match="4 rows, where 2 were counted"):
        Stretch([(portions[0], 0, 2)])[0]


def test_workers_on_aws_read_what_lies_on_s3(aws: Aws) -> None:
    """Rows and objects, with the role of their tasks; what lies on this machine, or is not allowed, is told before."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    backend = open_place(aws_text(aws.site))
    allow(aws, "s3:GetObject", f"arn:aws:s3:::{aws.site['bucket']}/calls/*")
    bucket = f"s3://{aws.site['bucket']}"
    store = backend.store
    store.put("calls/a.jsonl", "".join(f'{{"n": {at}}}\n' for at in range(100)).encode())
    file = io.BytesIO()
    write_table(pa.table({"n": range(20)}), file, row_group_size=7)
    store.put("calls/c.parquet", file.getvalue())
    store.put("calls/b.csv", ("n\n" + "".join(f"{at}\n" for at in range(100, 120))).encode())
    with Cluster(workers=1, backend=backend, progress=False) as cluster:
        assert cluster.map(_number, Rows(f"{bucket}/calls/*")) == [*range(120), *range(20)]
        assert cluster.map(_content, objects(f"{bucket}/calls/*.csv")) == [b"9\n"]
        aws.fault(
            service="s3", operation="GetObject", match="calls/b.csv", code="AccessDenied", status=403, probability=1.0
        )
        with pytest.raises(Denied, match=f"not allowed to reach {bucket}/calls/b.csv"):
            cluster.map(_number, Rows(f"{bucket}/calls/b.csv"))
        aws.clear_faults()
        with pytest.raises(BadInput, match="lies on this machine, where workers on AWS cannot read it"):
            cluster.map(_number, Rows(__file__, format="jsonl"))
        with pytest.raises(BadInput, match="nothing is there"):
            cluster.map(_number, Rows(f"{bucket}/other/*.csv"))
        with pytest.raises(BadInput, match=r"a folder: say s3://.*/calls/\*"):
            cluster.map(_number, Rows(f"{bucket}/calls", format="csv"))
    allow(aws, "s3:ListBucket", "*", user="driver")
    with pytest.raises(BadInput, match="there is no such bucket"):
        find("s3://no-such-bucket-of-ours/a.csv", None)
    aws.fault(service="s3", operation="ListObjectsV2", code="AccessDenied", status=403)
    with pytest.raises(Denied, match=f"not allowed to reach {bucket}/calls/"):
        find(f"{bucket}/calls/b.csv", None)
    (found,) = find(f"{bucket}/calls/b.csv", None)
    store.put("calls/b.csv", b"n\n1\n")
    with pytest.raises(NotFound, match="was written anew since the run began"):
        Object(*found).read()
    with pytest.raises(NotFound, match="was written anew since the run began"):
        Object(*found).open().read(1)
    backend.close()


def test_a_slot_without_obstore_takes_its_workers(tmp_path: Path) -> None:
    """In an image a slot has the user's packages and ours; what is beside them, the supervisor's, reads a bucket."""
    import obstore
    import typing_extensions

    import starburst_common

    (tmp_path / "slots").mkdir()
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "slots/starburst_common").symlink_to(Path(starburst_common.__file__).parent)
    folder = Path(obstore.__file__).parent
    for module in (folder, Path(typing_extensions.__file__)):
        (tmp_path / "supervisor" / module.name).symlink_to(module)
    program = (
        "import sys\n"
        f"sys.path = [path for path in sys.path if 'site-packages' not in path] + [{str(tmp_path / 'slots')!r}]\n"
        "from starburst_common.data import where\n"
        "assert where._SUPERVISOR.endswith('supervisor')\n"
        "print(where._bucket('b', None).name, 'boto3' in sys.modules, [p for p in sys.path if 'supervisor' in p])\n"
    )
    said = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=60)
    assert (said.stdout, said.stderr) == ("b False []\n", "")


def _number(row: dict[str, Any]) -> int:
    return int(row["n"])


def _inverse(row: dict[str, Any]) -> float:
    return 1 / row["n"]


def _content(each: Object) -> bytes:
    with each.open() as file:
        file.seek(3)
        assert file.read() == each.read()[3:]
    return each.read(each.size - 2)
