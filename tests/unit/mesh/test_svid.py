"""A certificate's renewal, when the disk does not take it."""

from __future__ import annotations

import asyncio
import errno
import json

from mesh import svid as module
from mesh.config import Settings
from mesh.svid import SvidSource
from security.app import bootstrap, issue_svid


async def test_a_full_disk_costs_neither_the_renewed_certificate_nor_the_process(tmp_path, monkeypatch):
    home, settings = tmp_path / "home", Settings()
    bootstrap(home, settings)
    path = tmp_path / "svid.json"
    path.write_text(json.dumps(issue_svid(home, settings, "engine")))
    source = SvidSource(path)
    before, kept = source.current, path.read_text()

    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    async def renew(_):
        document = issue_svid(home, settings, "engine")
        return document["certificate_chain"], document["trust_bundle"]

    monkeypatch.setattr(module, "write_private", full)
    monkeypatch.setattr(module.random, "uniform", lambda *_: 0.0)
    renewing = asyncio.create_task(source.renew_forever(renew))
    async with asyncio.timeout(5):
        while source.current is before:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert not renewing.done()
    assert path.read_text() == kept
    renewing.cancel()
