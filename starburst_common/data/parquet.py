"""A Parquet file in; how many rows its groups have, as its footer says, and the rows of one group, out."""

from __future__ import annotations

from typing import Any

from starburst_common.data.where import Lying, opened
from starburst_common.errors import BadInput


def rows_in_groups(lying: Lying) -> list[int]:
    """Of each row group. Nothing but the footer is read. Raises `BadInput`."""
    fault = _fault()
    with opened(lying) as file:
        try:
            about = _opened(file).metadata
        except (fault, OSError) as error:
            raise BadInput(f"{lying.uri}: not Parquet: {error}") from None
        return [about.row_group(number).num_rows for number in range(about.num_row_groups)]


class RowGroup:
    """Rows as dicts, each made when it is asked for."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, at: int) -> Any:
        return self._table.slice(at, 1).to_pylist()[0]


def row_group(lying: Lying, number: int) -> RowGroup:
    """One of a file's row groups. Raises `BadInput`."""
    fault = _fault()
    with opened(lying) as file:
        try:
            return RowGroup(_opened(file).read_row_group(number))
        except (fault, OSError) as error:
            raise BadInput(f"{lying.uri}: broken Parquet: {error}") from None


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
            "reading Parquet needs pyarrow: pip install 'starburst-ecs[parquet]', and name pyarrow in your project's "
            "requirements, which workers on AWS have",
            name=error.name,
        ) from None
    fault: type[Exception] = ArrowException
    return fault
