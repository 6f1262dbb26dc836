"""A Parquet file in; how many rows its groups have, as its footer says, and the rows of one group, out. And back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starburst_common.buckets import Buckets
from starburst_common.data.where import Lying, opened
from starburst_common.errors import BadInput


def rows_in_groups(lying: Lying, buckets: Buckets | None) -> list[int]:
    """Of each row group. Nothing but the footer is read. Raises `BadInput`."""
    fault = _fault()
    with opened(lying, buckets) as file:
        try:
            about = _opened(file).metadata
            names = about.schema.to_arrow_schema().names
        except (fault, OSError) as error:
            raise BadInput(f"{lying.uri}: not Parquet: {error}") from None
        if len({*names}) < len(names):
            twice = min(name for name in names if names.count(name) > 1)
            raise BadInput(f"{lying.uri}: two columns are called {twice!r}")
        return [about.row_group(number).num_rows for number in range(about.num_row_groups)]


class RowGroup:
    """Rows as dicts, or what one column of them has, each made when it is asked for."""

    def __init__(self, table: Any, column: str = "") -> None:
        self._table, self._column = table, column

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, at: int) -> Any:
        row = self._table.slice(at, 1).to_pylist()[0]
        return row[self._column] if self._column else row


def row_group(lying: Lying, number: int, column: str, buckets: Buckets | None) -> RowGroup:
    """One of a file's row groups. Raises `BadInput`."""
    fault = _fault()
    with opened(lying, buckets) as file:
        try:
            return RowGroup(_opened(file).read_row_group(number), column)
        except (fault, OSError) as error:
            raise BadInput(f"{lying.uri}: broken Parquet: {error}") from None


def file_of(rows: Sequence[Mapping[str, Any]]) -> tuple[bytes, dict[str, str]]:
    """A file of one row group, and the types of its columns: of all names, null where a row has none.

    Raises `BadInput` where a column's values have no one type.
    """
    from pyarrow import BufferOutputStream, table
    from pyarrow.parquet import write_table

    names = dict.fromkeys(name for row in rows for name in row)
    out = BufferOutputStream()
    try:
        columns = table({name: [row.get(name) for row in rows] for name in names})
        write_table(columns, out, row_group_size=len(rows))
    except (_fault(), OverflowError, TypeError, UnicodeError) as error:
        raise BadInput(f"values that are no columns of Parquet: {error}") from None
    return out.getvalue().to_pybytes(), {field.name: str(field.type) for field in columns.schema}


def can_be_had() -> str:
    """Why Parquet can be neither read nor written here; nothing if it can."""
    try:
        _fault()
    except ImportError as error:
        return str(error)
    return ""


def _opened(file: Any) -> Any:
    from pyarrow import PythonFile
    from pyarrow.parquet import ParquetFile

    return ParquetFile(PythonFile(file, mode="r"))


def _fault() -> type[Exception]:
    try:
        import pyarrow.parquet  # noqa: F401
        from pyarrow import ArrowException
    except ImportError as error:
        raise ImportError(
            "Parquet needs pyarrow: pip install 'starburst-ecs[parquet]', and name pyarrow in your project's "
            "requirements, which workers on AWS have",
            name=error.name,
        ) from None
    fault: type[Exception] = ArrowException
    return fault
