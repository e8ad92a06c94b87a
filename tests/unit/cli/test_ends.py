"""What ended by itself: kept over restarts, told by the doctor, and the lines of the supervisor's log."""

from __future__ import annotations

import io
import json
import signal
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from cli.doctor.ends import look_at_ends
from cli.doctor.finding import GOOD, UNSURE
from cli.home import Home
from cli.supervisor.ends import as_json, ended_lately, how_ended, note_end, told
from cli.supervisor.log import LogStream, read_line
from cli.supervisor.supervisor import Supervisor
from mesh.config import EngineSettings, Settings

NOW = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)
DIED = how_ended(-signal.SIGFPE)


def test_ends_are_counted_by_process_for_a_day(tmp_path):
    assert ended_lately(tmp_path, NOW) == {}
    for hours, process in ((30, "engine"), (23, "engine"), (2, "envoy"), (0, "engine")):
        note_end(tmp_path, process, DIED, NOW - timedelta(hours=hours))
    found = ended_lately(tmp_path, NOW)
    assert {process: len(ends) for process, ends in found.items()} == {"engine": 2, "envoy": 1}
    assert told(found["engine"]) == (
        "engine was ended by signal 8 (SIGFPE) at 2026-03-01 12:00:05 UTC; 2 times in the last 24 h"
    )
    assert "; once in" in told(found["envoy"])
    assert as_json(found["engine"]) == {"times": 2, "last": "2026-03-01T12:00:05Z", "how": DIED}
    assert (tmp_path / "supervisor" / "ended.json").stat().st_mode & 0o077 == 0


def test_a_process_that_ends_for_ever_does_not_fill_the_home(tmp_path):
    for at in range(300):
        note_end(tmp_path, "engine", how_ended(7), NOW + timedelta(seconds=at))
    ends = ended_lately(tmp_path, NOW)["engine"]
    assert len(ends) == 256
    assert ends[-1].at == NOW + timedelta(seconds=299)
    assert ends[-1].how == "ended with exit code 7"


@pytest.mark.parametrize("left", [b"", b"[", b"{}", b'[{"process": 3}]'])
def test_a_file_that_was_cut_off_is_begun_anew(tmp_path, left):
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "supervisor" / "ended.json").write_bytes(left)
    assert ended_lately(tmp_path, NOW) == {}
    note_end(tmp_path, "engine", DIED, NOW)
    assert len(ended_lately(tmp_path, NOW)["engine"]) == 1


def test_a_signal_without_a_name_has_its_number():
    assert how_ended(-signal.SIGRTMIN - 3) == f"was ended by signal {signal.SIGRTMIN + 3}"


def test_the_supervisor_keeps_what_ends_while_the_platform_is_ready(tmp_path):
    made = Supervisor(Home(tmp_path), Settings(), lambda _: None)
    made._note_end("engine", DIED)
    assert ended_lately(tmp_path) == {}
    made._ready = True
    made._note_end("engine", DIED)
    assert [end.how for end in ended_lately(tmp_path)["engine"]] == [DIED]


def test_the_doctor_names_what_ended_and_the_versions_that_are_held_against_it(tmp_path):
    home = Home(tmp_path)
    (well,) = look_at_ends(home, Settings())
    assert (well.state, well.detail) == (GOOD, "no process did in the last 24 h")
    note_end(tmp_path, "engine", DIED, datetime.now(UTC))
    for models, name in ((tmp_path / "engine" / "models", "a"), (tmp_path / "elsewhere", "b")):
        known = {
            "suspects": {f"{name}/versions/2": time.time(), f"{name}/versions/3": time.time() - 4000},
            "blamed": {f"{name}/versions/1": "Floating point exception"},
        }
        (models / ".faults-engine").mkdir(parents=True)
        (models / ".faults-engine" / "known.json").write_bytes(msgspec.json.encode(known))
        (models / ".faults-engine-2").mkdir()
        (models / ".faults-engine-2" / "known.json").write_bytes(b"{")
    for settings, name in ((Settings(), "a"), (Settings(engine=EngineSettings(models=str(models))), "b")):
        found = [(each.what, each.state, each.detail) for each in look_at_ends(home, settings)]
        assert [each[:2] for each in found] == [("ended by itself", UNSURE), ("put away", UNSURE), ("suspect", UNSURE)]
        assert found[0][2].startswith("engine was ended by signal 8 (SIGFPE) at ")
        assert found[1][2] == f"{name}/versions/1 ended the engine twice while it computed (Floating point exception)"
        assert found[2][2] == f"{name}/versions/2 computed when the engine ended"


def test_each_line_of_the_supervisors_log_is_ecs_json_with_its_time():
    file = io.StringIO()
    said, failed = (LogStream(file, level, lambda: NOW) for level in ("info", "error"))
    said.say("engine is serving")
    failed.write("tiation: it does not")
    failed.write(" start\n\nlast words: «ü»\n")
    lines = file.getvalue().splitlines()
    assert [read_line(line) for line in lines] == [
        ("info", "engine is serving"), ("error", "tiation: it does not start"), ("error", "last words: «ü»"),
    ]  # fmt: skip
    assert json.loads(lines[0]) == {
        "@timestamp": "2026-03-01T12:00:05.000000Z", "log.level": "info", "message": "engine is serving",
        "service.name": "supervisor", "ecs.version": "8.11",
    }  # fmt: skip


@pytest.mark.parametrize("line", ["plain", "{", "[]", '{"message": "x"}', ""])
def test_a_line_that_is_no_log_line_is_shown_as_it_is(line):
    assert read_line(line) == ("info", line)
