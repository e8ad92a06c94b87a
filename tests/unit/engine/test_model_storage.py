"""One suite over every storage of models, and what only S3 can have go wrong, against a server of its protocol."""

from __future__ import annotations

import builtins
import hashlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from engine.adapters.models_in_folder import FolderStorage
from engine.adapters.models_in_s3 import S3Settings, S3Storage, s3_client
from engine.errors import DigestMismatchError, ModelFileError, StorageSettingError, StorageUnavailableError
from engine.repository.models import File, ModelVersion
from mesh.config import EngineSettings, SettingsError, load_settings
from tests.unit.engine.shelf import MODEL, Shelf

CONTENT = {"model.yaml": b"name: m\nkind: onnx\n", "model.onnx": bytes(range(256)) * 300}
NAME = f"{MODEL}/versions/1"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def client(endpoint):
    made = s3_client(S3Settings(endpoint, "us-east-1", "id", "secret"))
    made.create_bucket(Bucket="models")
    yield made
    for item in made.list_objects_v2(Bucket="models").get("Contents", ()):
        made.delete_object(Bucket="models", Key=item["Key"])
    made.delete_bucket(Bucket="models")


def keys(client) -> list[str]:
    return sorted(item["Key"] for item in client.list_objects_v2(Bucket="models").get("Contents", ()))


@pytest.fixture(params=["folder", "s3"])
def storage(request, tmp_path):
    if request.param == "folder":
        return FolderStorage(tmp_path / "models")
    return S3Storage(request.getfixturevalue("client"), "s3://models/company/", tmp_path / "models")


def staged(tmp_path: Path, content=CONTENT) -> tuple[Path, list[File]]:
    folder = tmp_path / "staged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder, [File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_kept_is_fetched(storage, tmp_path):
    folder, files = staged(tmp_path)
    storage.keep(NAME, folder, files)
    assert not folder.exists()
    assert contents(storage.fetch(NAME, files)) == CONTENT
    assert storage.fetch(NAME, files) == storage.of(NAME)


def test_what_a_crash_left_under_a_name_gives_way(storage, tmp_path):
    folder, files = staged(tmp_path, {**CONTENT, "left.bin": b"x"})
    storage.keep(NAME, folder, files)
    folder, files = staged(tmp_path)
    storage.keep(NAME, folder, files)
    assert contents(storage.fetch(NAME, files)) == CONTENT


def test_a_version_that_is_removed_leaves_its_neighbours(storage, tmp_path):
    names = [f"{MODEL}/versions/{number}" for number in (1, 11)] + ["tenants/t/models/mm/versions/1"]
    for name in names:
        folder, files = staged(tmp_path)
        storage.keep(name, folder, files)
    storage.remove(names[0])
    assert not storage.of(names[0]).exists()
    assert contents(storage.fetch(names[1], files)) == CONTENT
    storage.remove_model(MODEL)
    assert not storage.of(names[1]).exists()
    assert contents(storage.fetch(names[2], files)) == CONTENT
    storage.remove(names[0])


def test_another_machine_fetches_from_s3_and_checks_it(client, tmp_path):
    folder, files = staged(tmp_path)
    S3Storage(client, "s3://models", tmp_path / "one").keep(NAME, folder, files)
    assert keys(client) == [
        "t/models/m/versions/1/.whole",
        *(f"t/models/m/versions/1/{name}" for name in sorted(CONTENT)),
    ]
    other = S3Storage(client, "s3://models", tmp_path / "two")
    assert contents(other.fetch(NAME, files)) == CONTENT
    (other.of(NAME) / "model.onnx").write_bytes(b"damaged here")
    assert contents(other.fetch(NAME, files)) == CONTENT
    client.put_object(Bucket="models", Key="t/models/m/versions/1/model.onnx", Body=b"changed there")
    assert contents(other.fetch(NAME, files)) == CONTENT
    third = S3Storage(client, "s3://models", tmp_path / "three")
    with pytest.raises(DigestMismatchError, match=r"model\.onnx: what s3://models/t/models/m/versions/1/ holds"):
        third.fetch(NAME, files)
    assert list((tmp_path / "three").iterdir()) == []


def test_an_object_that_is_gone_longer_or_changed_while_it_is_read_is_named_and_nothing_stays(client, tmp_path):
    folder, files = staged(tmp_path)
    S3Storage(client, "s3://models", tmp_path / "one").keep(NAME, folder, files)
    other = S3Storage(client, "s3://models", tmp_path / "two")
    key = "t/models/m/versions/1/model.onnx"
    download = client.download_file

    def changed_meanwhile(bucket: str, key: str, path: str) -> None:
        client.put_object(Bucket=bucket, Key=key, Body=bytes(len(CONTENT["model.onnx"])))
        download(bucket, key, path)

    client.download_file = changed_meanwhile
    with pytest.raises(DigestMismatchError, match=r"model\.yaml: what .* holds is not what was pushed; restore it"):
        other.fetch(NAME, files)
    client.download_file = lambda *_: pytest.fail("what is too long must not be fetched")
    client.put_object(Bucket="models", Key="t/models/m/versions/1/model.yaml", Body=CONTENT["model.yaml"] * 1000)
    with pytest.raises(DigestMismatchError, match=r"model\.yaml"):
        other.fetch(NAME, files)
    client.download_file = download
    client.put_object(Bucket="models", Key="t/models/m/versions/1/model.yaml", Body=CONTENT["model.yaml"])
    client.delete_object(Bucket="models", Key=key)
    with pytest.raises(ModelFileError, match=r"model\.onnx: is missing in s3://models/t/models/m/versions/1/; restore"):
        other.fetch(NAME, files)
    with pytest.raises(StorageUnavailableError, match="s3://elsewhere/ refuses"):
        S3Storage(client, "s3://elsewhere", tmp_path / "three").fetch(NAME, files)
    assert list((tmp_path / "two").iterdir()) == []
    client.put_object(Bucket="models", Key=key, Body=CONTENT["model.onnx"])
    assert contents(other.fetch(NAME, files)) == CONTENT


async def test_a_version_of_which_an_object_is_gone_has_failed_and_answers_once_it_is_restored(client, tmp_path):
    shelf = Shelf(tmp_path)
    try:
        repository = await shelf.started(storage=S3Storage(client, "s3://models", tmp_path / "models"))
        version = await shelf.push(repository)
        await repository.stop()
        shutil.rmtree(tmp_path / "models")
        key = "t/models/m/versions/1/model.onnx"
        content = client.get_object(Bucket="models", Key=key)["Body"].read()
        client.delete_object(Bucket="models", Key=key)
        repository = await shelf.started(storage=S3Storage(client, "s3://models", tmp_path / "models"))
        entry = await shelf.catalogue.get(ModelVersion, version.name)
        assert repository.state(entry) == "FAILED"
        assert "model.onnx: is missing in s3://models/" in entry.body.failure
        client.put_object(Bucket="models", Key=key, Body=content)
        assert repository.state(await repository.lifecycle.load(version.name)) == "READY"
    finally:
        await shelf.close()


def test_a_version_of_which_a_file_cannot_be_sent_is_not_there(client, tmp_path):
    folder, files = staged(tmp_path)
    storage = S3Storage(client, "s3://models", tmp_path / "one")
    with pytest.raises(FileNotFoundError):
        storage.keep(NAME, folder, [*files, File("gone.bin", 1, "ab" * 32)])
    assert keys(client) == []
    assert not storage.of(NAME).exists()


def test_a_storage_that_refuses_or_is_not_there_is_named(client, tmp_path):
    folder, files = staged(tmp_path)
    with pytest.raises(StorageUnavailableError, match="s3://nowhere/ refuses"):
        S3Storage(client, "s3://nowhere", tmp_path / "one").keep(NAME, folder, files)
    assert contents(folder) == CONTENT
    gone = s3_client(S3Settings("http://127.0.0.1:9", "us-east-1", "id", "secret"))
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        S3Storage(gone, "s3://models", tmp_path / "two").fetch(NAME, files)


async def test_an_engine_on_an_empty_disk_has_its_models_from_s3(client, tmp_path):
    shelf = Shelf(tmp_path)
    try:
        repository = await shelf.started(storage=S3Storage(client, "s3://models/x", tmp_path / "models"))
        await shelf.push(repository)
        await repository.stop()
        shutil.rmtree(tmp_path / "models")
        repository = await shelf.started(storage=S3Storage(client, "s3://models/x", tmp_path / "models"))
        assert repository.versions_of(MODEL) == [1]
        await repository.lifecycle.delete_model(MODEL, "")
        assert keys(client) == []
    finally:
        await shelf.close()


async def test_models_whose_storage_is_down_come_when_it_is_back(client, tmp_path):
    shelf = Shelf(tmp_path)
    try:
        repository = await shelf.started(storage=S3Storage(client, "s3://models", tmp_path / "models"))
        version = await shelf.push(repository)
        await repository.stop()
        shutil.rmtree(tmp_path / "models")
        down = S3Storage(s3_client(S3Settings("http://127.0.0.1:9", "r", "i", "s")), "s3://models", tmp_path / "models")
        repository = await shelf.started(storage=down)
        entry = await shelf.catalogue.get(ModelVersion, version.name)
        assert (repository.state(entry), entry.body.failure) == ("EVICTED", "")
        with pytest.raises(StorageUnavailableError):
            await repository.found("t", "m", "")
        down._client = client
        assert (await repository.found("t", "m", "")).version == 1
    finally:
        await shelf.close()


def test_without_boto3_the_setting_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def refuse(name, *others):
        if name.startswith("boto"):
            raise ImportError(name)
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(StorageSettingError, match=r"pip install \.\[s3\]"):
        s3_client(S3Settings())


def test_the_secret_is_not_shown_and_a_wrong_place_is_refused(tmp_path):
    settings = EngineSettings(storage_secret="s3cret", storage_endpoint="http://s3.local:9000")
    assert "s3cret" not in repr(settings)
    assert "s3cret" not in repr(S3Settings("", "", "", "s3cret"))
    with pytest.raises(SettingsError, match=r"engine\.storage"):
        load_settings(tmp_path, {"TIATION_ENGINE__STORAGE": "/some/folder"})
