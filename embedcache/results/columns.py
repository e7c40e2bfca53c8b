"""Our own Parquet files as columns, strictly: what we never write there is damage, and named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import PredictionsFileError, SchemaError
from embedcache.schema import from_json, shown

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
#: Key of our JSON in the Parquet metadata.
METADATA = b"embedcache"
#: Bytes of a digest.
_DIGEST = 32
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A table of n rows, whose columns are asked for as what they must be.

    Attributes:
        file: where it lies.
        table: as Parquet has it.
    """

    file: Path
    table: pa.Table

    def head(self, kind: type[T]) -> T:
        """What the file says of itself, beside its columns.

        Raises:
            PredictionsFileError: if it says nothing, or something else.
        """
        text = (self.table.schema.metadata or {}).get(METADATA)
        if text is None:
            raise PredictionsFileError(self.file, "was not written by embedcache")
        try:
            return from_json(kind, text, "its description")
        except SchemaError as error:
            raise PredictionsFileError(self.file, f"cannot be read ({error})") from error

    def starting(self, prefix: str) -> dict[str, str]:
        """Names of the columns that start so, by what follows there."""
        names = (name for name in self.table.column_names if name.startswith(prefix))
        return {name.removeprefix(prefix): name for name in names}

    def digests(self, name: str) -> NDArray[np.uint8]:
        """A column of digests, (n, 32) uint8."""
        import pyarrow as pa

        column = self._full(name)
        if column.type != pa.binary(_DIGEST):
            raise self._other(name, "digests")
        joined = b"".join(column.to_pylist())
        return np.frombuffer(joined, np.uint8).reshape(-1, _DIGEST)

    def whole(self, name: str, kind: type[Any], low: int, high: int | None = None) -> NDArray[Any]:
        """A column of whole numbers from `low` to below `high`, (n,) of `kind`."""
        import pyarrow as pa

        column = self._full(name)
        if not pa.types.is_integer(column.type):
            raise self._other(name, "whole numbers")
        value = column.to_numpy()
        most = np.iinfo(kind).max if high is None else high - 1
        if len(value) and not low <= int(value.min()) <= int(value.max()) <= most:
            raise self._other(name, f"numbers from {low} to {most}")
        whole: NDArray[Any] = value.astype(kind)
        return whole

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of finite numbers, (n,) float64."""
        import pyarrow as pa

        column = self._full(name)
        if not pa.types.is_float64(column.type):
            raise self._other(name, "numbers")
        value: NDArray[np.float64] = column.to_numpy()
        if not np.isfinite(value).all():
            raise self._other(name, "finite numbers")
        return value

    def probabilities(self, name: str) -> NDArray[np.float64]:
        """A column of probabilities, (n,) float64; rounding may take one just past 1."""
        value = self.numbers(name)
        if not ((value >= 0) & (value <= 1 + _ROUNDING)).all():
            raise self._other(name, "probabilities")
        return value

    def text(self, name: str) -> NDArray[np.str_]:
        """A column of text, (n,) str."""
        value, given = self.text_where_given(name)
        if not given.all():
            raise self._other(name, "text in every row")
        return value

    def text_where_given(self, name: str) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
        """A column of text, (n,) str, empty where there is none, and where there is, (n,) bool."""
        import pyarrow as pa

        column = self._column(name)
        plain = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not pa.types.is_string(plain):
            raise self._other(name, "text")
        codes = column.combine_chunks().dictionary_encode()
        known = np.array([*codes.dictionary.to_pylist(), ""], np.str_)
        code: NDArray[np.intp] = codes.indices.fill_null(len(known) - 1).to_numpy()
        return known[code], ~column.is_null().to_numpy()

    def _full(self, name: str) -> pa.ChunkedArray:
        column = self._column(name)
        if column.null_count:
            raise self._other(name, "a value in every row")
        return column

    def _column(self, name: str) -> pa.ChunkedArray:
        if self.table.column_names.count(name) != 1:
            raise PredictionsFileError(self.file, f"lacks the column {shown(name)}")
        return self.table.column(name)

    def _other(self, name: str, wanted: str) -> PredictionsFileError:
        return PredictionsFileError(
            self.file, f"does not hold {wanted} in the column {shown(name)}"
        )


def read_columns(file: Path) -> Columns:
    """Read a Parquet file.

    Raises:
        PredictionsFileError: if it is missing or damaged; so for each column that is asked for.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, partitioning=None)
        table.validate(full=True)  # a code beyond its dictionary, bytes that are no text
        "".join(table.column_names)  # which are bytes until they are asked for
    except (pa.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise PredictionsFileError(file, f"cannot be read ({said})") from error
    if not table.num_rows:
        raise PredictionsFileError(file, "has no rows")
    return Columns(file, table)
