"""Rows of named values as a graph's inputs: which column is where, of what type, and what stands for one missing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias

import numpy as np

from engine.errors import ElementError, ManifestError, TensorError
from engine.manifest import Column
from engine.tensor import DATATYPES, Tensor, TensorSpec

__all__ = ["Cell", "Columns", "Record", "place"]

Cell: TypeAlias = float | str | bool | None
Record: TypeAlias = Mapping[str, Cell]

_NAN = "nan"
_MOST_NAMED = 16
"""So many categories are named to whoever sends another one."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a column is: in an input, at a position of its rows."""

    column: Column
    spec: TensorSpec
    at: int


@dataclass(frozen=True, slots=True)
class Columns:
    """All columns of a graph's inputs, in order.

    Attributes:
        inputs: of the graph.
        places: where each column is.
    """

    inputs: Sequence[TensorSpec]
    places: Sequence[_Place]

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        return tuple(each.column.name for each in self.places)

    @property
    def are_numbers(self) -> bool:
        """Whether none holds texts."""
        return all(spec.datatype != "BYTES" for spec in self.inputs)

    @property
    def categorical(self) -> int:
        """How many hold categories."""
        return sum(1 for each in self.places if each.column.categories)

    def records(self, rows: Sequence[Sequence[float]], field: str) -> list[Record]:
        """Rows of numbers in the order of the columns, named.

        Raises:
            ElementError: one has another number of them.
        """
        names = self.names
        for at, row in enumerate(rows):
            if len(row) != len(names):
                raise ElementError(field, at, f"has {len(row)} numbers; the model takes {len(names)}")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def tensors(self, records: Sequence[Record], field: str) -> dict[str, Tensor]:
        """The graph's inputs for some rows.

        Args:
            records: a value for each column by its name.
            field: what they are called in the request.

        Raises:
            ElementError: naming the row and the column.
        """
        self._check_names(records, field)
        made = {spec.name: _empty(spec, self._width(spec), len(records)) for spec in self.inputs}
        for place_ in self.places:
            name = place_.column.name
            cells = made[place_.spec.name][:, place_.at]
            for at, record in enumerate(records):
                try:
                    cells[at] = _value(record.get(name), place_.column, place_.spec)
                except ValueError as error:
                    raise ElementError(field, at, f"{name}: {error}") from None
        return {spec.name: made[spec.name] if len(spec.shape) == 2 else made[spec.name][:, 0] for spec in self.inputs}

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """See that columns of categories hold nothing else; the tensors are as the inputs say.

        Raises:
            TensorError: naming the row and the column.
        """
        for place_ in self.places:
            column, tensor = place_.column, tensors[place_.spec.name]
            if not column.categories:
                continue
            cells = tensor if tensor.ndim == 1 else tensor[:, place_.at]
            known = {each.encode() for each in column.categories}
            at = next((at for at, cell in enumerate(cells) if cell not in known), None)
            if at is not None:
                wrong = _no_category(cells[at].decode(errors="replace"), column)
                raise TensorError(place_.spec.name, f"row {at}: {column.name}: {wrong}")

    def _width(self, spec: TensorSpec) -> int:
        return sum(1 for each in self.places if each.spec is spec)

    def _check_names(self, records: Sequence[Record], field: str) -> None:
        known = set(self.names)
        for at, record in enumerate(records):
            for name in record:
                if name not in known:
                    near = get_close_matches(name, known, n=1)
                    hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(self.names[:32])}"
                    raise ElementError(field, at, f"the model has no column `{name[:64]}`; {hint}")


def place(inputs: Sequence[TensorSpec], said: Sequence[Column]) -> tuple[Columns, tuple[str, ...]]:
    """Where each column is, and the line of the manifest that would say it.

    Args:
        inputs: of the graph: [n, columns], or [n] for one column.
        said: the columns in order; none where the manifest says nothing.

    Raises:
        ManifestError: the inputs are no table, or have another number of columns.
    """
    for spec in inputs:
        if len(spec.shape) not in (1, 2) or spec.datatype not in DATATYPES:
            raise ManifestError(
                f"kind: tabular takes inputs [n, columns], and `{spec.name}` has the shape {list(spec.shape)}; "
                "write `kind: onnx`"
            )
    widths = [spec.shape[1] if len(spec.shape) == 2 else 1 for spec in inputs]
    if widths.count(-1) == 1 and said:
        widths = [width if width > 0 else len(said) - sum(each for each in widths if each > 0) for width in widths]
    if min(widths, default=0) < 1:
        raise ManifestError(
            "it cannot be seen how many columns the graph takes; add this line to model.yaml: "
            "`columns: [first, second]`"
        )
    slots = [(spec, at) for spec, width in zip(inputs, widths, strict=True) for at in range(width)]
    if said and len(said) != len(slots):
        raise ManifestError(f"columns: {len(said)} names, and the graph takes {len(slots)} columns")
    wide = {spec.name for spec, at in slots if at}
    columns = said or [Column(f"{spec.name}.{at}" if spec.name in wide else spec.name) for spec, at in slots]
    places = [_Place(column, spec, at) for column, (spec, at) in zip(columns, slots, strict=True)]
    for each in places:
        _check(each)
    names = ", ".join(each.name for each in columns[:32])
    return Columns(tuple(inputs), places), () if said else (f"columns: [{names}{', …' if len(columns) > 32 else ''}]",)


def _check(place_: _Place) -> None:
    """See that what stands for a missing value is one."""
    column, spec = place_.column, place_.spec
    if column.categories and spec.datatype != "BYTES":
        raise ManifestError(f"columns: `{column.name}` holds {spec.datatype}, and categories are texts")
    if column.missing is None:
        return
    try:
        _value(None, column, spec)
    except ValueError as error:
        raise ManifestError(f"columns: what stands for a missing `{column.name}` {error}") from None


def _empty(spec: TensorSpec, width: int, count: int) -> Tensor:
    return np.zeros((count, width), DATATYPES[spec.datatype])


def _value(cell: Cell, column: Column, spec: TensorSpec) -> object:
    """A value as the graph takes it.

    Raises:
        ValueError: it is none of the column; the message says why.
    """
    if cell is None:
        if column.missing is None:
            raise ValueError("is missing; send it, or say in model.yaml what stands for it, `missing: …`")
        if spec.datatype.startswith("FP") and column.missing == _NAN:
            return math.nan
        cell = column.missing
    if spec.datatype == "BYTES":
        return _text(cell, column)
    return _number(cell, spec.datatype)


def _text(cell: Cell, column: Column) -> bytes:
    if not isinstance(cell, str):
        raise ValueError(f"is {cell!r}; the column holds texts")  # noqa: TRY004 -- one kind of error for all cells
    if column.categories and cell not in column.categories:
        raise ValueError(_no_category(cell, column))
    return cell.encode()


def _no_category(cell: str, column: Column) -> str:
    """Why a text cannot be in a column of categories."""
    near = get_close_matches(cell[:64], column.categories, n=1)
    guess = f"; did you mean `{near[0]}`?" if near else ""
    known = ", ".join(column.categories[:_MOST_NAMED]) + (", …" if len(column.categories) > _MOST_NAMED else "")
    return f"is {cell[:64]!r}, which is none of its categories, {known}{guess}"


def _number(cell: Cell, datatype: str) -> float | int | bool:
    if isinstance(cell, str):
        raise ValueError(f"is the text {cell[:64]!r}; the column holds numbers")  # noqa: TRY004 -- as above
    if datatype == "BOOL":
        if cell not in (0, 1):
            raise ValueError(f"is {cell!r}; the column holds true and false")
        return bool(cell)
    number = float(cell or 0)
    dtype = DATATYPES[datatype]
    if math.isnan(number):
        raise ValueError("is no number; leave it out where it is missing, and say in model.yaml what stands for that")
    if dtype.kind == "f":
        if not math.isfinite(number) or abs(number) > float(np.finfo(dtype).max):
            raise ValueError(f"is {number!r}, which {datatype} cannot hold")
        return number
    limits = np.iinfo(dtype)
    if not math.isfinite(number) or not number.is_integer() or not limits.min <= number <= limits.max:
        raise ValueError(f"is {number!r}; the column holds whole numbers of {datatype}")
    return int(number)
