"""Steps of a sequence in one stream: in the order in which they came, however long each takes to be read."""

from __future__ import annotations

import asyncio

import pytest

from engine.servicers.turns import Turns


async def test_steps_of_a_sequence_begin_in_order_and_others_do_not_wait():
    turns, began, go_on = Turns(), [], asyncio.Event()

    def work(name: str, wait: asyncio.Event | None = None):
        async def run() -> str:
            began.append(name)
            if wait is not None:
                await wait.wait()
            return name

        return run

    asked = [
        asyncio.ensure_future(turns.take(sequence, work(name, go_on if name == "a1" else None)))
        for sequence, name in (("a", "a1"), ("a", "a2"), ("b", "b1"), ("", "alone"), ("a", "a3"), ("b", "b2"))
    ]
    await asyncio.sleep(0.01)
    assert sorted(began) == ["a1", "alone", "b1", "b2"]
    go_on.set()
    assert await asyncio.gather(*asked) == ["a1", "a2", "b1", "alone", "a3", "b2"]
    assert began.index("a2") < began.index("a3")
    assert not turns._last


async def test_a_step_that_fails_or_is_given_up_lets_the_next_one_begin():
    turns = Turns()

    async def failing() -> None:
        raise OSError

    async def for_ever() -> None:
        await asyncio.sleep(60)

    async def fine() -> str:
        return "fine"

    asked = [asyncio.ensure_future(turns.take("a", work)) for work in (failing, for_ever, fine)]
    with pytest.raises(OSError):  # noqa: PT011 -- nothing more is in it
        await asked[0]
    asked[1].cancel()
    assert await asked[2] == "fine"
    assert not turns._last
