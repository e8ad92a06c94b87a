"""Logs as ECS JSON lines on standard output, and figures for Prometheus on a loopback port."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, start_http_server
from structlog.typing import EventDict, WrappedLogger

from mesh.tracing import current_trace

__all__ = ["new_registry", "serve_metrics", "set_up_logs"]

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_ECS_VERSION = "8.11"
_NAMES = {"event": "message", "timestamp": "@timestamp", "level": "log.level", "exception": "error.stack_trace"}


def set_up_logs(service: str, level: str) -> None:
    """Send every log of the process to standard output, one ECS JSON object a line."""

    def name_fields(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        named = {_NAMES.get(key, key): value for key, value in event.items()}
        trace = current_trace.get()
        where = {"trace.id": trace.trace_id, "span.id": trace.span_id} if trace is not None else {}
        return {**named, **where, "service.name": service, "ecs.version": _ECS_VERSION}

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            name_fields,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = _Forward()
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


class _Forward(logging.Handler):
    """Hands the standard library's log records on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


def new_registry() -> CollectorRegistry:
    """A registry with the figures of the process itself."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def serve_metrics(registry: CollectorRegistry, port: int) -> Callable[[], None]:
    """Serve `/metrics` on loopback; returns what stops it."""
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2.0)

    return stop
