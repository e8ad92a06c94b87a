"""Where tensors lie in shared memory: said whole, or refused by the name of what is wrong."""

from __future__ import annotations

import pytest

from engine.errors import ParameterError
from engine.oip.places import Place, read_place


def test_a_place_in_shared_memory_needs_a_region_and_a_size():
    whole = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    assert read_place(whole, "inputs[x].") == Place("r", 0, 8)
    assert read_place({**whole, "shared_memory_offset": 4}, "inputs[x].") == Place("r", 4, 8)
    assert read_place({"other": 1}, "inputs[x].") is None


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"shared_memory_offset": 0}, "shared_memory_offset"),
        ({"shared_memory_byte_size": 8}, "shared_memory_byte_size"),
        ({"shared_memory_region": "r"}, "shared_memory_byte_size"),
        ({"shared_memory_region": ""}, "shared_memory_region"),
        ({"shared_memory_region": 7}, "shared_memory_region"),
        ({"shared_memory_region": "r", "shared_memory_byte_size": -1}, "shared_memory_byte_size"),
        ({"shared_memory_region": "r", "shared_memory_byte_size": True}, "shared_memory_byte_size"),
        (
            {"shared_memory_region": "r", "shared_memory_byte_size": 1, "shared_memory_offset": 2**64},
            "shared_memory_offset",
        ),
    ],
)
def test_a_place_that_is_said_badly_is_one_error_that_names_the_tensor(asked, field):
    with pytest.raises(ParameterError) as caught:
        read_place(asked, "inputs[x].")
    assert caught.value.violations[0].field == f"inputs[x].parameters[{field}]"
