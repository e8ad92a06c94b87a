"""What a call leaves behind on its way."""

from __future__ import annotations

from mesh.call import Call, current_call, note_usage


async def test_usage_adds_up_and_never_goes_down():
    call = Call(None, None, {}, "01", 0, 0)
    token = current_call.set(call)
    try:
        for amount in (3, -5, 0, 4):
            note_usage("tokens_in", amount)
    finally:
        current_call.reset(token)
    assert call.usage == {"tokens_in": 7}
