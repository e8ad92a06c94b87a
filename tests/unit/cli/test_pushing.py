"""Bringing a model's files over a connection that breaks: only what is missing goes again."""

from __future__ import annotations

import re

import grpc
import pytest
from buf.validate import validate_pb2
from tiation.engine.v1 import model_pb2 as pb

from cli import pushing
from cli.client import FileError
from cli.pushing import file_of, files_and_skipped, push_files


class Broken(grpc.RpcError, grpc.Call):
    """What a call ends with whose process died."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code


for _name in grpc.Call.__abstractmethods__:
    setattr(Broken, _name, getattr(Broken, _name) if _name == "code" else lambda *_: None)
Broken.__abstractmethods__ = frozenset()


class Engine:
    """Takes uploads, and breaks off after so many pieces as often as it is told."""

    def __init__(self, breaks: list[int], code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        self.breaks, self.code = breaks, code
        self.content: dict[str, bytes] = {}
        self.pieces: list[tuple[str, int]] = []
        self.headers: list[pb.PushModelHeader] = []

    def BeginModelUpload(self, request, timeout):
        received = {file.path: len(self.content.get(file.path, b"")) for file in request.files}
        return pb.ModelUpload(files=[pb.ReceivedFile(path=path, received_bytes=n) for path, n in received.items()])

    def PushModel(self, parts, timeout):
        parts = iter(parts)
        self.headers.append(next(parts).header)
        left = self.breaks.pop(0) if self.breaks else 1 << 30
        for part in parts:
            if not left:
                raise Broken(self.code)
            left -= 1
            piece = part.piece
            assert piece.offset == len(self.content.get(piece.path, b""))
            self.content[piece.path] = self.content.get(piece.path, b"") + piece.data
            self.pieces.append((piece.path, piece.offset))
        return pb.ModelVersion(name="tenants/t/models/m/versions/1")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(pushing, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(pushing, "_PAUSE_S", 0.0)
    (tmp_path / "model.yaml").write_bytes(b"m" * 10)
    (tmp_path / "model.onnx").write_bytes(bytes(range(256)) * 40)
    return sorted(tmp_path.iterdir())


def header(files) -> pb.PushModelHeader:
    return pb.PushModelHeader(parent="tenants/t", model_id="m", files=[file_of(path) for path in files])


def test_after_a_break_only_the_rest_is_sent(files):
    engine = Engine([3, 0, 4])
    push_files(engine, header(files), files, show=False)
    assert engine.content == {path.name: path.read_bytes() for path in files}
    assert len(engine.pieces) == len(set(engine.pieces)) == 12
    assert len({each.request_id for each in engine.headers}) == 1


def test_the_same_files_go_on_under_the_same_id_in_another_command(files):
    engine = Engine([2], grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(Broken):
        push_files(engine, header(files), files, show=False)
    push_files(engine, header(files), files, show=False)
    assert len(engine.pieces) == len(set(engine.pieces)) == 12
    first, second = engine.headers
    assert (first.upload_id, first.request_id == second.request_id) == (second.upload_id, False)


def test_it_gives_up_where_nothing_arrives_any_more(files, monkeypatch):
    monkeypatch.setattr(pushing, "_GIVE_UP_S", 0.05)
    engine = Engine([0] * 1_000_000)
    with pytest.raises(Broken):
        push_files(engine, header(files), files, show=False)


@pytest.mark.parametrize("name", ["Bad_Name", "resnet50_v1", "9lives", "ends-", "a" * 64])
def test_a_name_that_no_model_can_have_is_said_in_words_before_anything_is_sent(tiation, files, name):
    folder = files[0].parent
    (folder / "model.yaml").write_text(f"name: {name}\nkind: onnx\n")
    rule = "up to 63 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen"
    said = tiation("models", "push", str(folder))
    assert said.code == 1
    assert f"{folder / 'model.yaml'}: name: `{name}` can be no model's name, which has {rule}" in said.err
    (folder / "model.yaml").write_text("name: good\nkind: onnx\n")
    assert f"--name: `{name}` can be no model's name" in tiation("models", "push", str(folder), "--name", name).err


@pytest.mark.parametrize(
    "name", ["my model.onnx", "my\nmodel.onnx", "model.onnx\n", "-model.onnx", "größe.onnx", "a" * 129]
)
def test_a_file_whose_name_no_model_can_have_is_named_before_anything_is_sent(tiation, files, name):
    folder = files[0].parent
    (folder / "model.yaml").write_text("name: good\nkind: onnx\n")
    (folder / name).write_bytes(b"some")
    said = tiation("models", "push", str(folder))
    rule = "1 to 128 letters from A to Z, digits, `.`, `_` and `-`, not beginning with `-`"
    assert said.code == 1
    assert f"{folder}: {name!r} can be no name of a model's file, which has {rule}\n" in said.err


@pytest.mark.parametrize(
    "name", ["m", "_m", "9", "model.onnx", "A-b_c.d", "a" * 128, "a" * 129, "a b", "a\n", "-a", "ä", "٣"]
)
def test_the_command_takes_the_names_that_the_contract_takes(tmp_path, name):
    options = pb.ModelFile.DESCRIPTOR.fields_by_name["path"].GetOptions()
    pattern = options.Extensions[validate_pb2.field].string.pattern.removesuffix("$")
    (tmp_path / name).write_bytes(b"")
    try:
        taken = bool(files_and_skipped(tmp_path)[0])
    except FileError:
        taken = False
    assert taken == bool(re.fullmatch(pattern, name))


def test_folders_and_hidden_files_are_not_brought_and_folders_are_named(files):
    folder = files[0].parent
    for name in ("old", "my pictures", "two\nlines", ".git"):
        (folder / name).mkdir()
    (folder / ".DS_Store").write_bytes(b"")
    assert files_and_skipped(folder) == (files, ["my pictures", "old", "'two\\nlines'"])
