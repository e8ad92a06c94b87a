"""Versions in an S3-compatible storage, with a folder of this machine in between that is checked by digest.

An object a file, and one more that is written last and removed first: without it there is no version.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from engine.adapters.models_in_folder import FolderStorage
from engine.errors import DigestMismatchError, ModelFileError, StorageSettingError, StorageUnavailableError
from engine.repository.models import File
from engine.repository.upload import check_room

__all__ = ["S3Settings", "S3Storage", "s3_client"]

T = TypeVar("T")
_WHOLE = ".whole"
"""No file of a model begins with a dot."""
_FETCHING = ".fetch-"
_FORGOTTEN_S = 24 * 3600.0
_CONNECT_S = 5.0
_READ_S = 60.0


@dataclass(frozen=True, slots=True, repr=False)
class S3Settings:
    """Where the storage is; what is empty is taken from AWS' own variables and files.

    Attributes:
        endpoint: URL of the storage.
        region: of it.
        access_key_id: who we are.
        secret_access_key: the secret that goes with it.
    """

    endpoint: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""


def s3_client(settings: S3Settings) -> Any:  # noqa: ANN401 -- boto3 makes its classes at run time
    """A client of the storage.

    Raises:
        StorageSettingError: boto3 is not installed, or cannot make one of these settings.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise StorageSettingError("engine.storage is in S3, and boto3 is not installed; `pip install .[s3]`") from None
    from botocore.exceptions import BotoCoreError

    config = Config(
        connect_timeout=_CONNECT_S, read_timeout=_READ_S, retries={"mode": "standard", "total_max_attempts": 3}
    )
    try:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=settings.endpoint or None,
            region_name=settings.region or None,
            aws_access_key_id=settings.access_key_id or None,
            aws_secret_access_key=settings.secret_access_key or None,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise StorageSettingError(f"engine.storage_endpoint, engine.storage_region: {error}") from None


class S3Storage:
    """Keeps versions in a bucket.

    Args:
        client: of the storage.
        location: `s3://bucket/prefix`.
        folder: of this machine, for what was fetched; it may be emptied while no engine runs.
    """

    def __init__(self, client: Any, location: str, folder: Path) -> None:  # noqa: ANN401 -- see `s3_client`
        self._client = client
        self._bucket, _, prefix = location.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._folder = folder
        self._here = FolderStorage(folder)

    def of(self, name: str) -> Path:
        """The folder of this machine in which a version's files come."""
        return self._here.of(name)

    def keep(self, name: str, staged: Path, files: Sequence[File]) -> None:
        """Send a version's files, say that it is whole, and keep them here too."""
        self._remove_below(self._key(name))
        try:
            for file in files:
                path = staged / file.path
                self._call(
                    lambda path=path: self._client.upload_file(str(path), self._bucket, self._key(name, path.name))
                )
            whole = self._key(name, _WHOLE)
            self._call(lambda: self._client.put_object(Bucket=self._bucket, Key=whole, Body=b"", ContentLength=0))
            self._here.keep(name, staged, files)
        except BaseException:  # whatever ends it, half a version must not stay in the bucket
            self._remove_below(self._key(name))
            raise

    def fetch(self, name: str, files: Sequence[File]) -> Path:
        """What is here where it is all there and right; else what is in the storage, brought here."""
        place = self.of(name)
        if self._has(name, files):
            return place
        self._forget_old()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_room(self._folder, sum(file.size_bytes for file in files))
        staged = Path(tempfile.mkdtemp(dir=self._folder, prefix=_FETCHING))
        try:
            for file in files:
                self._check_kept(name, file)
                path = staged / file.path
                self._call(
                    lambda path=path: self._client.download_file(self._bucket, self._key(name, path.name), str(path))
                )
                if not _is(path, file):
                    raise self._another(name, file)
            if not self._has(name, files):  # another engine of this machine was faster
                self._here.keep(name, staged, files)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return place

    def remove(self, name: str) -> None:
        """Remove a version there and here."""
        self._remove_below(self._key(name))
        self._here.remove(name)

    def remove_model(self, model: str) -> None:
        """Remove a model there and here."""
        self._remove_below(f"{self._prefix}{model.removeprefix('tenants/')}/")
        self._here.remove_model(model)

    def _check_kept(self, name: str, file: File) -> None:
        """See that an object is there and as long as it was, before anything of it comes.

        Raises:
            ModelFileError: the bucket has no such object.
            DigestMismatchError: it is longer or shorter.
            StorageUnavailableError: the bucket itself is not there, or does not answer.
        """
        from botocore.exceptions import ClientError

        def length() -> int | None:
            try:
                return int(
                    self._client.head_object(Bucket=self._bucket, Key=self._key(name, file.path))["ContentLength"]
                )
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.NOT_FOUND:
                    raise
            self._client.head_bucket(Bucket=self._bucket)
            return None

        found = self._call(length)
        if found is None:
            raise ModelFileError(
                f"{file.path}: is missing in {self._where(name)}; restore it there, or push another version",
                file=file.path,
            )
        if found != file.size_bytes:
            raise self._another(name, file)

    def _another(self, name: str, file: File) -> DigestMismatchError:
        return DigestMismatchError(
            f"{file.path}: what {self._where(name)} holds is not what was pushed; restore it there, or push another "
            "version"
        )

    def _has(self, name: str, files: Sequence[File]) -> bool:
        """Whether all of a version is here, and right."""
        return all(_is(self.of(name) / file.path, file) for file in files)

    def _forget_old(self) -> None:
        """Remove what engines left that died while they fetched."""
        for left in self._folder.glob(f"{_FETCHING}*"):
            with suppress(FileNotFoundError):
                if left.stat().st_mtime < time.time() - _FORGOTTEN_S:
                    shutil.rmtree(left, ignore_errors=True)

    def _key(self, name: str, file: str = "") -> str:
        return f"{self._prefix}{name.removeprefix('tenants/')}/{file}"

    def _where(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._key(name)}"

    def _remove_below(self, prefix: str) -> None:
        """Remove every object below a prefix, those first that say a version is whole."""

        def keys() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [item["Key"] for page in pages for item in page.get("Contents", ())]

        found = self._call(keys)
        for key in sorted(found, key=lambda key: not key.endswith(f"/{_WHOLE}")):
            self._call(self._client.delete_object, Bucket=self._bucket, Key=key)

    def _call(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:  # noqa: ANN401 -- the client's own
        """What the client answers.

        Raises:
            StorageUnavailableError: it does not, or refuses.
        """
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return work(*arguments, **named)
        except (Boto3Error, BotoCoreError, ClientError) as error:
            raise StorageUnavailableError(
                f"the models' storage s3://{self._bucket}/{self._prefix} refuses or does not answer: {error}",
                retry_after_s=5.0,
            ) from None


def _is(path: Path, file: File) -> bool:
    """Whether a file is what was pushed."""
    try:
        if path.stat().st_size != file.size_bytes:
            return False
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    except FileNotFoundError:
        return False
