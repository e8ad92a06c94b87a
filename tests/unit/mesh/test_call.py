"""What a call leaves behind on its way."""

from __future__ import annotations

import pytest

from mesh.call import Call, current_call, note_resource, note_usage


@pytest.fixture
def call():
    made = Call(None, None, {}, "01", 0, 0, resource="tenants/t/models/m", target="tenants/t/models/m")
    token = current_call.set(made)
    yield made
    current_call.reset(token)


def test_usage_adds_up_and_never_goes_down(call):
    for amount in (3, -5, 0, 4):
        note_usage("tokens_in", amount)
    assert call.usage == {"tokens_in": 7}


def test_what_was_found_is_recorded_and_what_the_policy_was_asked_about_stays(call):
    note_resource("tenants/system/models/m/versions/2")
    assert (call.resource, call.target) == ("tenants/system/models/m/versions/2", "tenants/t/models/m")
    current_call.set(None)
    note_resource("tenants/system/models/m/versions/3")  # outside a call there is nothing to note
