"""The keys of `top`, on a real terminal: what is pressed is read, and a terminal that is gone ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SCRIPT = """
from cli.commands.top import _keys
with _keys() as key:
    print("ready", flush=True)
    while (pressed := key()) not in ("q", "\\x04"):
        if pressed:
            print(pressed, flush=True)
"""


@contextmanager
def begun() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that reads keys from a terminal and has read one, and the other side of that."""
    master, slave = os.openpty()
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=slave, stdout=subprocess.PIPE, text=True) as process:
        os.close(slave)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"  # what is typed before is thrown away
        os.write(master, b"m")
        assert process.stdout.readline() == "m\n"
        yield process, master


def test_what_is_pressed_is_read_and_q_ends_it():
    with begun() as (process, master):
        os.write(master, b"q")
        assert process.wait(timeout=20) == 0
        os.close(master)


def test_a_terminal_that_is_closed_ends_it():
    with begun() as (process, master):
        os.close(master)
        assert process.wait(timeout=20) in (0, -1)  # read as gone, or hung up
