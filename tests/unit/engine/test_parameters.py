"""What a request's parameters say of it, and which cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ParameterError
from engine.parameters import terms_of
from engine.scheduler.terms import SequenceTerms, Terms


def test_what_nothing_is_said_of_is_plain():
    assert terms_of("t", {"binary_data_output": True, "mine": "anything"}) == Terms("t")


def test_every_parameter_is_read():
    said = {"priority": 2, "timeout": 1_500_000, "cache": False, "sequence_id": 7, "sequence_start": True}
    assert terms_of("t", said) == Terms("t", 2, 1.5, SequenceTerms("7", starts=True), fresh=True)
    assert terms_of("t", {"sequence_id": "s-1", "sequence_end": True}).sequence == SequenceTerms("s-1", ends=True)


@pytest.mark.parametrize("nothing", [{"sequence_id": 0}, {"sequence_id": ""}, {"sequence_start": False}])
def test_no_id_is_no_sequence(nothing: dict):
    assert terms_of("t", nothing).sequence is None


def test_a_number_that_a_client_had_to_send_as_a_negative_one_is_the_same_number():
    assert terms_of("t", {"sequence_id": -1}).sequence == terms_of("t", {"sequence_id": 2**64 - 1}).sequence


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"priority": -1}, "priority"),
        ({"priority": True}, "priority"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": 1.5}, "timeout"),
        ({"cache": "no"}, "cache"),
        ({"sequence_id": 1.5}, "sequence_id"),
        ({"sequence_id": True}, "sequence_id"),
        ({"sequence_id": "x" * 129}, "sequence_id"),
        ({"sequence_id": "s", "sequence_start": 1}, "sequence_start"),
        ({"sequence_start": True}, "sequence_id"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_name(said: dict, named: str):
    with pytest.raises(ParameterError) as caught:
        terms_of("t", said)
    assert caught.value.violations[0].field == f"parameters[{named}]"


@given(st.dictionaries(st.sampled_from(["priority", "timeout", "cache", "sequence_id", "sequence_start"]),
                       st.booleans() | st.integers() | st.floats() | st.text()))  # fmt: skip
def test_whatever_is_sent_is_read_or_refused(said: dict):
    try:
        terms = terms_of("t", said)
    except ParameterError:
        return
    assert terms.priority >= 0
    assert 0 <= terms.timeout_s <= 1e6
