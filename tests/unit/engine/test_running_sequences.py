"""Which sequences are under way: the same as a plain table says, whatever is asked in whatever order."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import SequenceExistsError, SequenceNotFoundError, SequencesFullError
from engine.repository.uses import Uses
from engine.scheduler.terms import SequenceTerms
from engine.sequences.running import RunningSequences


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Table:
    """What sequences should be, as a plain table: of each how many steps it has had, and when the last one was."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, float]] = {}

    def step(self, id_: str, now: float, *, starts: bool, ends: bool, fails: bool) -> type[Exception] | int:
        """What a step comes to: an error, or how many steps there have been."""
        self.rows = {key: row for key, row in self.rows.items() if row[1] > now - 5.0}
        if starts == (id_ in self.rows):
            return SequenceExistsError if starts else SequenceNotFoundError
        if starts and len(self.rows) == 3:
            return SequencesFullError
        count = self.rows.get(id_, (0, 0.0))[0]
        if not fails:
            count += 1
        if count:
            self.rows[id_] = (count, now)
        if ends and not fails:
            del self.rows[id_]
        return ZeroDivisionError if fails else count


async def one_step(running: RunningSequences, said: SequenceTerms, *, fails: bool) -> type[Exception] | int:
    """What a step comes to that counts up, or fails."""
    try:
        async with running.step("t", said) as it:
            count = int(it.state["n"][0]) + 1 if it.state else 1
            running.keep(it, {"n": np.array([count // (not fails)])})
            return count
    except Exception as error:  # noqa: BLE001 -- whichever it is, it is compared
        return type(error)


steps = st.tuples(
    st.sampled_from("abcd"), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([0.0, 1.0, 6.0])
)


@given(st.lists(steps, max_size=40))
def test_whatever_is_asked_sequences_are_as_a_plain_table_says(asked):
    clock, uses, table = Clock(), Uses(), Table()

    async def run():
        running = RunningSequences("m", max_idle_s=5.0, max_sequences=3, max_bytes=10**6, held=uses, clock=clock)
        for id_, starts, ends, fails, pause in asked:
            clock.now += pause
            found = await one_step(running, SequenceTerms(id_, starts, ends), fails=fails)
            assert found == table.step(id_, clock.now, starts=starts, ends=ends, fails=fails)
            assert len(running) == uses.count == len(table.rows)
            assert running.size_bytes == 8 * len(table.rows)
            assert not running._turns
        running.forget()
        assert uses.count == running.size_bytes == 0
        running.look()

    asyncio.run(run())
