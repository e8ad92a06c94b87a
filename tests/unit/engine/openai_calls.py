"""Calls of OpenAI's protocol as its tests make them, on a servicer that has one model."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from google.api import httpbody_pb2
from prometheus_client import CollectorRegistry
from tiation.engine.v1 import openai_pb2 as pb

from engine.metrics import EngineMetrics
from engine.servicers.openai import OpenAIServicer

HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
LET = SimpleNamespace(also=lambda _call, _resource: None)
"""Lets everything pass."""


class One:
    """Has one model, whatever it is asked for."""

    def __init__(self, servable: Any) -> None:
        self._loaded = loaded(servable)
        self.asked: list[tuple[str, ...]] = []

    async def found(self, *asked: str) -> Any:
        self.asked.append(asked)
        return self._loaded


def loaded(servable: Any) -> Any:
    class Loaded:
        name, model, version = "tenants/t/models/m/versions/1", "tenants/t/models/m", 1
        figures = EngineMetrics(CollectorRegistry()).of("tenants/t/models/m", 1)

    Loaded.servable = servable
    return Loaded


def request_of(body: Any) -> pb.OpenAIRequest:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return pb.OpenAIRequest(body=httpbody_pb2.HttpBody(data=data))


async def chat(writer: Any, **more: Any) -> list[httpbody_pb2.HttpBody]:
    return [body async for body in OpenAIServicer(One(writer), None, LET).Chat(request_of({**HELLO, **more}), None)]


async def complete(writer: Any, **body: Any) -> list[httpbody_pb2.HttpBody]:
    asked = request_of({"model": "m", "prompt": "Say", **body})
    return [body async for body in OpenAIServicer(One(writer), None, LET).Complete(asked, None)]


def events_of(bodies: list[httpbody_pb2.HttpBody]) -> list[Any]:
    """What events say, the last of them as it is."""
    assert {body.content_type for body in bodies} == {"text/event-stream"}
    texts = [body.data.decode() for body in bodies]
    assert all(text.startswith("data: ") and text.endswith("\n\n") for text in texts)
    said = [text[6:-2] for text in texts]
    return [each if each == "[DONE]" else json.loads(each) for each in said]
