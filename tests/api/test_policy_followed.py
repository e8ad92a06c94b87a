"""The policy is followed for ever: whatever becomes of the channel, and never silently no more."""

from __future__ import annotations

import asyncio
import time

import pytest

from mesh.channel import Channels
from mesh.host import Host
from mesh.policy_holder import PolicyHolder
from mesh.svid import SvidSource
from security.app import build
from tests.fakes.directory import directory
from tests.fakes.platform import Platform


async def until(holder: PolicyHolder, revision: int) -> None:
    async with asyncio.timeout(5):
        while holder.revision < revision:
            await asyncio.sleep(0.01)


async def test_a_channel_that_is_closed_under_it_costs_no_change_of_the_policy(security: Platform):
    """After a certificate's renewal the channel is another one, and the old one is closed some time later."""
    security.lay_svid("engine")
    svid = SvidSource(security.home / "engine" / "svid.json")
    channels = Channels("engine", security.settings.trust_domain, security.settings.services, svid)
    holder = PolicyHolder(security.home / "engine" / "policy.json", issuer="i", stale_s=30.0)
    following = asyncio.create_task(holder.follow(channels))
    try:
        await holder.started()
        for number in range(3):
            await channels._lines.pop("security").channel.close(grace=0.05)
            before = holder.revision
            async with directory(security) as here:
                await here.principal(f"new-{number}")
            await until(holder, before + 1)
            assert not following.done()
    finally:
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        await channels.close()


@pytest.mark.parametrize("how", ["return", "raise", "cancel"])
async def test_background_work_that_ends_by_itself_ends_its_service(tmp_path, security: Platform, how):
    host = Host("security", build, tmp_path, security.settings)
    host.broken = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await asyncio.sleep(0.01)
        if how == "raise":
            raise ValueError("a mistake")
        if how == "cancel":
            raise asyncio.CancelledError

    host._own(work())
    began = time.monotonic()
    with pytest.raises((RuntimeError, ValueError)):
        await asyncio.wait_for(asyncio.shield(host.broken), 2)
    assert time.monotonic() - began < 1
    await host._stack.aclose()


async def test_work_that_is_stopped_in_order_breaks_nothing(tmp_path, security: Platform):
    host = Host("security", build, tmp_path, security.settings)
    host.broken = asyncio.get_running_loop().create_future()
    host._own(asyncio.sleep(60))
    await asyncio.sleep(0.01)
    await host._stack.aclose()
    assert not host.broken.done()
