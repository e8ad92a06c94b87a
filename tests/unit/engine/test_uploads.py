"""Uploads that break off and go on: nothing is sent twice, nothing half is seen, nobody sees another's."""

from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.repository.resumable_uploads as uploads_module
from engine.errors import (
    DigestMismatchError,
    TooManyUploadsError,
    UploadBusyError,
    UploadError,
    UploadExistsError,
    UploadNotFoundError,
)
from engine.repository.models import File
from engine.repository.resumable_uploads import ResumableUploads

CONTENT = {"model.yaml": b"name: m\nkind: onnx\n", "model.onnx": bytes(range(256)) * 40}


def listed(content=CONTENT) -> list[File]:
    return [File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()]


def test_what_has_come_is_there_after_the_process_has_died(tmp_path):
    uploads = ResumableUploads(tmp_path)
    assert dict(uploads.begin("t", "u", listed(), {}).received) == {"model.yaml": 0, "model.onnx": 0}
    with uploads.writing("t", "u", listed()) as upload:
        upload.write("model.yaml", CONTENT["model.yaml"], 0)
        upload.write("model.onnx", CONTENT["model.onnx"][:1000], 0)
        upload.pause()
    uploads = ResumableUploads(tmp_path)
    progress = uploads.begin("t", "u", listed(), {})
    assert dict(progress.received) == {"model.yaml": len(CONTENT["model.yaml"]), "model.onnx": 1000}
    with uploads.writing("t", "u", listed()) as upload:
        with pytest.raises(UploadError, match="goes on at byte 1000"):
            upload.write("model.onnx", b"x", 0)
        upload.write("model.onnx", CONTENT["model.onnx"][1000:], 1000)
        upload.finish()
        assert {path.name: path.read_bytes() for path in upload.folder.iterdir()} == CONTENT


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 4000), max_size=12), st.data())
def test_however_it_is_cut_the_files_are_whole(tmp_path_factory, cuts, data):
    uploads = ResumableUploads(tmp_path_factory.mktemp("u"))
    for cut in [*cuts, 1 << 20]:
        received = dict(uploads.begin("t", "u", listed(), {}).received)
        left = cut
        with uploads.writing("t", "u", listed()) as upload:
            for name, content in CONTENT.items():
                piece = content[received[name] : received[name] + left]
                left -= len(piece)
                if piece:
                    upload.write(name, piece, received[name])
                if left <= 0:
                    break
            else:
                upload.finish()
                assert {path.name: path.read_bytes() for path in upload.folder.iterdir()} == CONTENT
            upload.pause()


def test_a_file_that_came_wrong_is_asked_for_again(tmp_path):
    uploads = ResumableUploads(tmp_path)
    uploads.begin("t", "u", listed(), {})
    with uploads.writing("t", "u", listed()) as upload:
        upload.write("model.yaml", b"X" * len(CONTENT["model.yaml"]))
        with pytest.raises(DigestMismatchError, match=r"model\.yaml"):
            upload.write("model.onnx", b"more")
        upload.pause()
    assert uploads.begin("t", "u", listed(), {}).received["model.yaml"] == 0


def test_files_that_another_version_has_need_not_come_and_are_checked_all_the_same(tmp_path):
    version = tmp_path / "version"
    version.mkdir()
    (version / "model.onnx").write_bytes(CONTENT["model.onnx"])
    known = {listed()[1].sha256: [tmp_path / "gone", version / "model.onnx"]}
    uploads = ResumableUploads(tmp_path / "u")
    assert uploads.begin("t", "u", listed(), known).received["model.onnx"] == len(CONTENT["model.onnx"])
    with uploads.writing("t", "u", listed()) as upload:
        upload.write("model.yaml", CONTENT["model.yaml"])
        upload.finish()
    damaged = b"Y" * len(CONTENT["model.onnx"])
    (version / "model.onnx").write_bytes(damaged)
    uploads.begin("t", "v", listed(), known)
    with uploads.writing("t", "v", listed()) as upload:
        upload.write("model.yaml", CONTENT["model.yaml"])
        with pytest.raises(DigestMismatchError):
            upload.finish()
        upload.pause()
    assert (version / "model.onnx").read_bytes() == damaged


def test_another_tenants_upload_is_not_there(tmp_path):
    uploads = ResumableUploads(tmp_path)
    uploads.begin("t", "u", listed(), {})
    with pytest.raises(UploadNotFoundError), uploads.writing("other", "u", listed()):
        pass
    with pytest.raises(UploadNotFoundError):
        uploads.cancel("other", "u")
    uploads.cancel("t", "u")
    with pytest.raises(UploadNotFoundError):
        uploads.cancel("t", "u")


def test_one_call_at_a_time_goes_on_with_an_upload(tmp_path):
    uploads = ResumableUploads(tmp_path)
    uploads.begin("t", "u", listed(), {})
    with (
        uploads.writing("t", "u", listed()),
        pytest.raises(UploadBusyError),
        ResumableUploads(tmp_path).writing("t", "u", listed()),
    ):
        pass
    with uploads.writing("t", "u", listed()):
        pass


def test_an_upload_that_is_written_is_not_taken_away_from_under_its_writer(tmp_path):
    uploads = ResumableUploads(tmp_path)
    uploads.begin("t", "u", listed(), {})
    with uploads.writing("t", "u", listed()) as upload:
        with pytest.raises(UploadBusyError):
            ResumableUploads(tmp_path).cancel("t", "u")
        for name, data in CONTENT.items():
            upload.write(name, data)
        upload.finish()
        assert {path.name: path.read_bytes() for path in upload.folder.iterdir()} == CONTENT
    uploads.cancel("t", "u")
    with pytest.raises(UploadNotFoundError):
        uploads.cancel("t", "u")


def test_who_opened_a_lock_that_was_taken_away_since_does_not_go_on(tmp_path, monkeypatch):
    uploads = ResumableUploads(tmp_path)
    uploads.begin("t", "u", listed(), {})
    lock = uploads_module.fcntl.flock

    def begun_anew(*arguments):
        lock(*arguments)
        monkeypatch.undo()
        uploads_module._remove(tmp_path / "t" / "u")
        uploads.begin("t", "u", listed(), {})
        with uploads.writing("t", "u", listed()):  # somebody else
            return

    monkeypatch.setattr(uploads_module.fcntl, "flock", begun_anew)
    with pytest.raises(UploadBusyError), uploads.writing("t", "u", listed()):
        pass


def test_an_upload_of_other_files_is_refused(tmp_path):
    uploads = ResumableUploads(tmp_path)
    uploads.begin("t", "u", listed(), {})
    other = listed({**CONTENT, "model.onnx": b"other"})
    with pytest.raises(UploadExistsError):
        uploads.begin("t", "u", other, {})
    with pytest.raises(UploadExistsError), uploads.writing("t", "u", other):
        pass


def test_a_tenant_has_so_many_uploads_and_old_ones_are_forgotten(tmp_path):
    now = [1e9]
    uploads = ResumableUploads(tmp_path, lambda: now[0])

    def begin(tenant: str, name: str) -> None:
        uploads.begin(tenant, name, listed(), {})
        for path in (tmp_path / tenant / name, *(tmp_path / tenant / name).rglob("*")):
            os.utime(path, (now[0], now[0]))

    for at in range(16):
        begin("t", str(at))
    with pytest.raises(TooManyUploadsError, match="16 uploads"):
        begin("t", "16")
    begin("other", "0")
    now[0] += 24 * 3600 + 1
    begin("t", "16")
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["16"]
