"""The figures of generation: named after OpenTelemetry's conventions for generative AI where these have a name."""

from __future__ import annotations

from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["GenerationFigures", "GenerationMetrics"]

_LABELS = ("model", "version")
_TIMES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class _Watched(Protocol):
    """A loop that can be asked how it stands."""

    @property
    def waiting(self) -> int:
        """How many answers wait for their turn."""

    @property
    def running(self) -> int:
        """How many answers are under way."""

    @property
    def cache_share(self) -> float:
        """How much of the cache is in use, from 0 to 1."""


class GenerationMetrics:
    """Counts tokens and times.

    Args:
        registry: where figures are collected.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, _LABELS, registry=registry, buckets=_TIMES)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, _LABELS, registry=registry)

        self.first = histogram("gen_ai_server_time_to_first_token_seconds", "From request to first token.")
        self.each = histogram("gen_ai_server_time_per_output_token_seconds", "Per token after the first, of an answer.")
        self.step = histogram("gen_ai_server_step_duration_seconds", "One step: a token for every answer under way.")
        self.prompt_tokens = Counter("gen_ai_server_prompt_tokens", "Tokens of prompts.", _LABELS, registry=registry)
        self.shared_tokens = Counter(
            "gen_ai_server_prompt_tokens_shared",
            "Tokens of prompts that earlier ones had read.",
            _LABELS,
            registry=registry,
        )
        self.tokens = Counter("gen_ai_server_generation_tokens", "Tokens made.", _LABELS, registry=registry)
        self.running = gauge("gen_ai_server_requests_running", "Answers under way.")
        self.waiting = gauge("gen_ai_server_requests_waiting", "Answers that wait for their turn.")
        self.cache = gauge("gen_ai_server_kv_cache_usage_ratio", "Share of the cache in use.")

    def of(self, model: str, version: int) -> GenerationFigures:
        """The figures of one version."""
        return GenerationFigures(self, (model, str(version)))


class GenerationFigures:
    """The figures of one version of a model.

    Args:
        metrics: all of them.
        labels: its name and number.
    """

    def __init__(self, metrics: GenerationMetrics, labels: tuple[str, str]) -> None:
        self._first, self._each = metrics.first.labels(*labels), metrics.each.labels(*labels)
        self._step = metrics.step.labels(*labels)
        self._prompt_tokens, self._tokens = metrics.prompt_tokens.labels(*labels), metrics.tokens.labels(*labels)
        self._shared_tokens = metrics.shared_tokens.labels(*labels)
        self._running, self._waiting = metrics.running.labels(*labels), metrics.waiting.labels(*labels)
        self._cache = metrics.cache.labels(*labels)

    def watch(self, loop: _Watched) -> None:
        """Show how a loop stands, from now on."""
        self._running.set_function(lambda: loop.running)
        self._waiting.set_function(lambda: loop.waiting)
        self._cache.set_function(lambda: loop.cache_share)

    def forget(self) -> None:
        """Show that nothing is under way, and hold nothing of the loop any more."""
        for gauge in (self._running, self._waiting, self._cache):
            gauge.set_function(lambda: 0)

    def first(self, waited_s: float, prompt_tokens: int, shared: int) -> None:
        """An answer has its first token; so many tokens of its prompt were not read again."""
        self._first.observe(waited_s)
        self._prompt_tokens.inc(prompt_tokens)
        self._shared_tokens.inc(shared)
        self._tokens.inc()

    def step(self, took_s: float, rows: int) -> None:
        """A step made a token for each of so many rows."""
        self._step.observe(took_s)
        self._tokens.inc(rows)

    def ended(self, tokens: int, took_s: float) -> None:
        """An answer has ended."""
        if tokens > 1:
            self._each.observe(took_s / (tokens - 1))
