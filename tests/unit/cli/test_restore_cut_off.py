"""A restore that is killed anywhere leaves a home that says it is not whole; mounted homes can be restored into too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyrage
import pytest

from cli.backup.archive import write_archive
from cli.backup.restore import HomeNotEmptyError, restore_archive
from cli.home import Home, HomeInUseError

IDENTITY = pyrage.x25519.Identity.generate()
FILES = {
    "operator.key": "key",
    "tiation.yaml": "log_level: debug\n",
    "security/pepper": "pepper",
    "engine/models/default/m/1/model.onnx": "weights",
    "engine/records.spool": "spooled",
}

KILLED = """
import json, os, shutil, signal, sys
from pathlib import Path
import pyrage
from cli.backup.restore import restore_archive
from cli.home import Home, RestoreUnfinishedError

source, home, files = Path(sys.argv[1]), Home(Path(sys.argv[2])), json.loads(sys.argv[4])
given, second = "given" in sys.argv, "second" in sys.argv
identity = pyrage.x25519.Identity.from_str(sys.argv[3])
WRITING = os.O_WRONLY | os.O_RDWR
LAST = 10**6


def restore(at):
    seen = 0
    def watch(event, arguments):
        nonlocal seen
        if event == "os.rename" and at == LAST and arguments[0] == str(home.restoring) and home.restoring.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir") or event == "open" and (arguments[2] & WRITING):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)
    if at:
        sys.addaudithook(watch)
    restore_archive(source, home.path, [identity], lambda _: None)


def dies(at):
    child = os.fork()
    if not child:
        restore(at)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def whole():
    return all((home.path / name).exists() and (home.path / name).read_text() == text for name, text in files.items())


def start():
    shutil.rmtree(home.path, ignore_errors=True)
    if given:
        home.path.mkdir()
        (home.path / "tiation.yaml").write_text(files["tiation.yaml"])
    if second:
        assert dies(LAST)
        assert home.restoring.exists() and whole()


told = {"killed": 0, "unfinished": 0}
at = 1
while True:
    start()
    if not dies(at):
        break
    at += 1
    told["killed"] += 1
    names = {path.name for path in home.path.iterdir()} if home.path.exists() else set()
    if given:
        assert (home.path / "tiation.yaml").read_text() == files["tiation.yaml"], at
    if home.restoring.exists():
        told["unfinished"] += 1
        try:
            os.close(home.hold())
        except RestoreUnfinishedError:
            pass
        else:
            raise AssertionError(at)
    else:
        assert whole() or names - {".scratch-restored"} <= {"lock", "tiation.yaml"}, (at, names)
    if home.restoring.exists() or not whole():
        restore(0)
    assert whole() and not home.restoring.exists(), at
    os.close(home.hold())
print(json.dumps(told))
"""


def say(_: str) -> None:
    """Say nothing."""


@pytest.fixture
def file(tmp_path) -> Path:
    """A backup of a small home."""
    old = tmp_path / "old"
    for name, text in FILES.items():
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_text(text)
    write_archive(old, tmp_path / "backup.age", [IDENTITY.to_public()], "0.1.0", say)
    return tmp_path / "backup.age"


def is_whole(home: Path) -> bool:
    return all((home / name).read_text() == text for name, text in FILES.items())


@pytest.mark.parametrize("settings", ["", "given"])
@pytest.mark.parametrize("which", ["first", "second"])  # the second after one that was killed at its very end
def test_a_restore_that_is_killed_anywhere_is_not_there_or_says_that_it_is_unfinished(file, tmp_path, which, settings):
    arguments = [str(file), str(tmp_path / "home"), str(IDENTITY), json.dumps(FILES), which, settings]
    command = [sys.executable, "-c", KILLED, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["killed"] > 15
    assert told["unfinished"] > 10


STOPPED = """
import os, signal, sys
from cli.main import main
at = sys.argv.pop()

def watch(event, arguments):
    if event == "os.rename" and str(arguments[0]).endswith(at) and os.path.exists(arguments[0]):
        os.kill(os.getpid(), signal.SIGTERM)

sys.addaudithook(watch)
main()
"""


@pytest.mark.parametrize(("at", "code"), [("home/security", 143), (".restoring", 0)])
def test_a_restore_that_is_stopped_takes_everything_out_or_is_at_its_end(file, tmp_path, at, code):
    key, home = tmp_path / "backup.key", tmp_path / "home"
    key.write_text(str(IDENTITY))
    arguments = ["restore", str(file), "-i", str(key), "--home", str(home), at]
    ran = subprocess.run([sys.executable, "-c", STOPPED, *arguments], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (code, "Interrupted\n" if code else "")
    assert is_whole(home) if not code else not home.exists()


def test_the_home_is_held_while_it_is_restored(tiation, file, tmp_path, monkeypatch):
    home, said = Home(tmp_path / "home"), []

    def meanwhile(*_: object) -> dict[str, str]:
        said.append(home.holder())
        with pytest.raises(HomeInUseError, match=r"`tiation restore` \(process \d+\) holds it"):
            home.hold()
        said.append(tiation("doctor", "--home", str(home.path)).out)
        return []

    monkeypatch.setattr("cli.backup.restore.bring_home", meanwhile)
    restore_archive(file, home.path, [IDENTITY], say)
    assert said[0].purpose == "restore"
    assert f"`tiation restore` (process {os.getpid()}) holds it; wait for its end" in said[1]
    assert home.holder() is None


def test_the_doctor_says_in_one_sentence_that_a_home_is_not_whole(tiation, tmp_path):
    (tmp_path / "home" / ".restoring").mkdir(parents=True)
    said = tiation("doctor", "--home", str(tmp_path / "home"), "--output", "json")
    assert said.code == 1
    (finding,) = [each for each in json.loads(said.out) if each["what"] == "home"]
    assert finding["state"] == "bad"
    assert "was cut off, and not everything is there; run `tiation restore` again" in finding["detail"]
    assert not {"keys", "schemas", "platform", "port"} & {each["what"] for each in json.loads(said.out)}


def test_what_somebody_has_put_into_an_unfinished_home_is_left_alone(file, tmp_path):
    home = tmp_path / "home"
    (home / ".restoring").mkdir(parents=True)
    (home / ".restoring" / "plan.json").write_text(json.dumps({"files": ["a/b"], "folders": ["a"]}))
    (home / "a").mkdir()
    (home / "a" / "b").touch()
    (home / "a" / "mine").touch()
    with pytest.raises(HomeNotEmptyError, match=r"is not empty \(a\)"):
        restore_archive(file, home, [IDENTITY], say)
    assert [path.name for path in home.rglob("*")] == ["a", "mine"]


def test_empty_folders_and_given_settings_do_not_keep_a_home_from_being_restored_into(file, tmp_path):
    home = tmp_path / "home"
    for name in ("gateway", "metrics", "engine/models", "lost+found"):
        (home / name).mkdir(parents=True)
    (home / "tiation.yaml").write_text("log_level: error\n")
    restore_archive(file, home, [IDENTITY], say)
    assert (home / "tiation.yaml").read_text() == "log_level: error\n"
    (home / "tiation.yaml").write_text(FILES["tiation.yaml"])
    assert is_whole(home)


@contextmanager
def mounted(*folders: Path) -> Iterator[None]:
    """Each a file system of its own; mounting takes root, as in a container."""
    done = []
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
            done.append(folder)
        yield
    finally:
        for folder in reversed(done):
            subprocess.run(["umount", str(folder)], check=True)


def test_a_home_that_is_mounted_with_folders_that_are_can_be_restored_into(tiation, file, tmp_path):
    home, key = tmp_path / "home", tmp_path / "backup.key"
    key.write_text(str(IDENTITY))
    with mounted(home, home / "gateway", home / "metrics", home / "engine" / "models"):
        arguments = ("restore", str(file), "-i", str(key), "--home", str(home))
        assert tiation(*arguments, "--check").code == 0
        said = tiation(*arguments)
        assert (said.code, said.err) == (0, "")
        assert is_whole(home)
        assert {path.name for path in home.iterdir()} == {
            "operator.key", "tiation.yaml", "security", "engine", "gateway", "metrics", "lock",
        }  # fmt: skip
        assert (home / "engine" / "models").is_mount()


def test_a_restore_that_fails_on_mounted_folders_takes_out_what_it_has_put_there(file, tmp_path, monkeypatch):
    home = tmp_path / "home"

    def fails(_: object) -> None:
        raise OSError(5, "Input/output error")

    with mounted(home, home / "engine" / "models"):
        monkeypatch.setattr("cli.backup.placing.Staging.end", fails)
        with pytest.raises(OSError, match="Input/output"):
            restore_archive(file, home, [IDENTITY], say)
        assert [path.name for path in home.rglob("*")] == ["engine", "models"]
        monkeypatch.undo()
        restore_archive(file, home, [IDENTITY], say)
        assert is_whole(home)
