"""The spool file: nothing that was appended is lost, nothing half-written is read."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.db import DatabaseFullError
from mesh.spool import Spool


def taken(spool):
    """What was appended, two at a time."""
    return [record for batch in spool.sealed(2, 1000) for record in batch] if spool.seal() else []


@settings(max_examples=50, deadline=None)
@given(records=st.lists(st.binary(max_size=200), max_size=20), torn=st.integers(min_value=0, max_value=300))
def test_what_was_whole_is_read_back_in_order_whatever_is_torn_at_the_end(tmp_path_factory, records, torn):
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder)
    for record in records:
        spool.append(record)
    spool.close()
    path = folder / "records.spool"
    size = path.stat().st_size
    os.truncate(path, max(0, size - torn))
    kept = taken(Spool(folder))
    assert kept == records[: len(kept)]
    assert torn or kept == records


def test_sealed_records_come_again_until_forgotten_and_new_ones_wait(tmp_path):
    spool = Spool(tmp_path)
    spool.append(b"one")
    assert taken(spool) == [b"one"]
    spool.append(b"two")
    assert taken(spool) == [b"one"]
    spool.forget()
    assert taken(spool) == [b"two"]
    spool.forget()
    assert taken(spool) == []


def test_a_record_appended_after_a_torn_one_is_read(tmp_path):
    spool = Spool(tmp_path)
    spool.append(b"one")
    spool.close()
    with (tmp_path / "records.spool").open("ab") as file:
        file.write(b"\x09\x00\x00")
    spool = Spool(tmp_path)
    spool.append(b"two")
    assert taken(spool) == [b"one", b"two"]


def test_every_record_whose_append_returned_survives_a_kill(tmp_path):
    program = (
        "import sys; from pathlib import Path; from mesh.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]))\n"
        "for n in range(10**9):\n"
        "    spool.append(str(n).encode()); print(n, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if int(line) > 500:
                break
        child.send_signal(signal.SIGKILL)
        answered = max([int(line), *(int(rest) for rest in child.stdout if rest.endswith("\n"))])
    kept = [int(record) for record in taken(Spool(tmp_path))]
    assert kept == list(range(len(kept)))
    assert len(kept) > answered


def test_a_full_disk_is_said_and_leaves_no_half_record(tmp_path):
    spool = Spool(tmp_path)
    spool.append(b"one")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(DatabaseFullError):
            spool.append(b"x" * 100)
    finally:
        signal.signal(signal.SIGXFSZ, handler)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    spool.append(b"two")
    assert taken(spool) == [b"one", b"two"]


def test_sealed_records_come_in_pieces_of_so_many_and_so_many_bytes(tmp_path):
    spool = Spool(tmp_path)
    records = [b"a", b"b", b"c", b"d" * 60, b"e" * 50, b"f" * 200, b"g"]
    for record in records:
        spool.append(record)
    assert spool.seal()
    assert list(spool.sealed(3, 100)) == [records[:3], records[3:4], records[4:5], records[5:6], records[6:]]
