"""Rows of requests as values by name, and numbers as an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.struct_pb2 import Struct
from numpy.typing import NDArray
from tiation.engine.v1 import prediction_pb2 as pb

from engine.errors import ElementError, WrongItemsError
from engine.servables import TabularModel
from engine.servables.columns import Cell, Record

__all__ = ["numbers_answer", "records_of", "size_of", "table_of"]


def size_of(request: pb.ClassifyRequest | pb.RegressRequest) -> int:
    """How many values its rows have."""
    return sum(len(row.values) for row in request.rows) + 4 * sum(len(record.fields) for record in request.records)


def records_of(structs: Sequence[Struct]) -> list[Record]:
    """Rows of named values.

    Raises:
        ElementError: a value is a list or an object.
    """
    records: list[Record] = []
    for at, struct in enumerate(structs):
        record: dict[str, Cell] = {}
        for name, value in struct.fields.items():
            match value.WhichOneof("kind"):
                case "number_value":
                    record[name] = value.number_value
                case "string_value":
                    record[name] = value.string_value
                case "bool_value":
                    record[name] = value.bool_value
                case "null_value" | None:
                    record[name] = None
                case _:
                    message = f"{name[:64]}: is a list or an object; send a number, a text, true, false or null"
                    raise ElementError("records", at, message)
        records.append(record)
    return records


def table_of(request: pb.RegressRequest, model: TabularModel) -> tuple[list[Record], str]:
    """The rows of a request by name, and the field that has them.

    Raises:
        WrongItemsError: it has none, or both kinds.
        ElementError: naming the row that is wrong.
    """
    if bool(request.rows) == bool(request.records):
        held = "rows and records" if request.rows else "nothing"
        raise WrongItemsError(f"the request holds {held}; send `rows` or `records`", takes="records")
    if request.records:
        return records_of(request.records), "records"
    return model.columns.records([list(row.values) for row in request.rows], "rows"), "rows"


def numbers_answer(numbers: NDArray[np.float32], version: int) -> pb.RegressResponse:
    """The answer for numbers, float32 (n, outputs)."""
    answer = pb.RegressResponse(version=version)
    for row in numbers.tolist():
        answer.regressions.add(values=row)
    return answer
