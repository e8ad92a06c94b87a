"""Rows of requests as values by name, and numbers as an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.struct_pb2 import Struct
from numpy.typing import NDArray
from tiation.engine.v1 import prediction_pb2 as pb

from engine.errors import ElementError, WrongItemsError
from engine.explain.explainer import Explanation
from engine.servables import TabularModel
from engine.servables.columns import Cell, Record

__all__ = ["explanation_of", "numbers_answer", "records_of", "size_of", "table_of"]


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


def numbers_answer(
    numbers: NDArray[np.float32], why: Sequence[Sequence[Explanation]], columns: Sequence[str], version: int
) -> pb.RegressResponse:
    """The answer for numbers, float32 (n, outputs), and an explanation of each where there are some."""
    answer = pb.RegressResponse(version=version)
    for row in numbers.tolist():
        answer.regressions.add(values=row)
    for made, explanations in zip(answer.regressions, why, strict=False):
        made.explanations.extend(explanation_of(each, columns) for each in explanations)
    return answer


def explanation_of(why: Explanation, columns: Sequence[str]) -> pb.Explanation:
    """An explanation, its values named by their columns."""
    made = pb.Explanation(
        method=f"METHOD_{why.method.upper()}",
        unit=f"UNIT_{why.unit.upper()}",
        base=why.base,
        value=why.value,
    )
    for column, value, error in zip(columns, why.values.tolist(), why.errors.tolist(), strict=True):
        made.attributions.add(column=column, value=value, error=error)
    return made
