"""More requests to webhooks at once than are looked at: the rest is told to come back, at no cost."""

from __future__ import annotations

import asyncio

import pytest
from tiation.integration.v1 import webhook_pb2 as pb

from integration.errors import WebhookBusyError, WebhookUnknownError
from integration.servicers.webhooks import WebhookServicer
from mesh.catalogue import NotFoundError


class SlowCatalogue:
    """Finds nothing, but only once it is told to."""

    def __init__(self):
        self.asked = 0
        self.go_on = asyncio.Event()

    async def get(self, _kind, name):
        self.asked += 1
        await self.go_on.wait()
        raise NotFoundError(name)


async def test_a_flood_is_refused_before_it_costs_anything_and_then_forgotten():
    catalogue = SlowCatalogue()
    servicer = WebhookServicer(catalogue, None, None, None, None, at_once=4)
    request = pb.ReceiveWebhookRequest(name="tenants/default/webhooks/hook")
    looked_at = [asyncio.create_task(servicer.ReceiveWebhook(request, None)) for _ in range(4)]
    await asyncio.sleep(0)
    for _ in range(100):
        with pytest.raises(WebhookBusyError) as caught:
            await servicer.ReceiveWebhook(request, None)
        assert caught.value.retry_after_s == 1
    assert catalogue.asked == 4
    catalogue.go_on.set()
    for task in looked_at:
        with pytest.raises(WebhookUnknownError):
            await task
    with pytest.raises(WebhookUnknownError):
        await servicer.ReceiveWebhook(request, None)
