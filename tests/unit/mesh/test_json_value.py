"""JSON and `google.protobuf.Value`: whole numbers stay whole, and what neither knows is refused in one sentence."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from hypothesis import given
from hypothesis import strategies as st
from tiation.engine.v1 import decision_pb2

from mesh.errors import InvalidError
from mesh.json_value import (
    LARGEST_EXACT,
    fault_of_json,
    json_to_struct,
    json_to_value,
    message_to_json,
    value_to_json,
)

CLONE = Path(__file__).parents[3]
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.none() | st.booleans() | st.integers(-LARGEST_EXACT, LARGEST_EXACT) | TEXT
NUMBERS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: not number.is_integer())
ANY_JSON = st.recursive(PLAIN | NUMBERS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(ANY_JSON)
def test_json_comes_back_as_it_was_with_whole_numbers_whole(value):
    there = json_to_value(value, "input")
    back = value_to_json(Value.FromString(there.SerializeToString()), "input")
    assert json.dumps(back, sort_keys=True) == json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("number", [0, 7, -7, LARGEST_EXACT, -LARGEST_EXACT])
def test_a_whole_number_is_an_int(number):
    for message in (Value(number_value=number), ListValue(values=[Value(number_value=number)])):
        (found,) = [value_to_json(message, "x")] if isinstance(message, Value) else value_to_json(message, "x")
        assert found == number
        assert type(found) is int


def test_a_number_that_may_have_lost_digits_is_no_int():
    assert type(value_to_json(Value(number_value=2.0**53), "x")) is float


@pytest.mark.parametrize(("number", "shown"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_a_number_that_json_does_not_know_is_refused_with_its_place(number, shown):
    struct = Struct()
    struct.fields["a"].list_value.values.extend([Value(bool_value=True), Value(number_value=number)])
    with pytest.raises(InvalidError, match=re.escape(f"input.a[1]: {shown} is no number that JSON knows")):
        value_to_json(struct, "input")
    with pytest.raises(InvalidError, match=f"^input: holds {shown}, which is no number that JSON knows$"):
        json_to_value({"a": [number]}, "input")


def nested(levels: int) -> list:
    value: list = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("\ud800", "surrogate"),
        ({"\udfff": 1}, "surrogate"),
        (nested(60), "nested deeper than 32 levels"),
        (nested(2000), "nested deeper than 32 levels"),
        (10**400, "a number of hundreds of digits"),
    ],
)
def test_what_no_value_holds_is_refused(value, said):
    with pytest.raises(InvalidError, match=f"^it: .*{said}"):
        json_to_value(value, "it")


def test_the_deepest_json_that_is_taken_fits_on_the_wire():
    for value in (nested(31), json.loads('{"a":' * 31 + "1" + "}" * 31)):
        there = json_to_value(value, "it")
        request = decision_pb2.DecideRequest(input={"a": None})
        request.input.fields["a"].CopyFrom(there)
        assert value_to_json(decision_pb2.DecideRequest.FromString(request.SerializeToString()).input, "it") == {
            "a": value
        }


def test_a_whole_number_that_would_change_is_said_when_it_matters():
    assert fault_of_json({"id": [LARGEST_EXACT]}, exact=True) == ""
    assert "9007199254740993" in fault_of_json({"id": [9007199254740993]}, exact=True)
    assert "send it as text" in fault_of_json(-(2**60), exact=True)
    assert fault_of_json(2**60) == ""


def test_a_message_is_shown_with_whole_numbers():
    answer = decision_pb2.DecideResponse(result=json_to_struct({"a": 8, "b": [0.5, 3]}, "result"))
    assert json.dumps(message_to_json(answer)["result"], sort_keys=True) == '{"a": 8, "b": [0.5, 3]}'


def test_nothing_else_turns_values_into_json():
    """A second way would show 8 as 8.0 again."""
    own = [path for room in ("mesh", "security", "engine", "orchestrator", "integration", "cli", "analytics")
           for path in (CLONE / room).rglob("*.py")]  # fmt: skip
    users = {path.name for path in own if re.search(r"MessageToDict|MessageToJson", path.read_text())}
    # Another system's own messages, described by itself, are none of ours: `mesh.json_value` does not know them.
    assert users == {"json_value.py", "grpc_client.py"}
