"""What the core asks of a connector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mesh.db import Transaction

__all__ = [
    "Answer", "Connector", "Effect", "EffectRows", "Fetched", "Fetches", "GrpcRequest", "KeptEffect", "KeptToken",
    "LimitRows", "Limits", "Target", "TokenRows", "WebRequest",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """Which system to speak to.

    Attributes:
        name: the connection's name.
        revision: the connection's; another revision may be another system.
        uid: the connection's; another one of the same name has another.
        config: the connector's settings.
        credentials: in the clear.
    """

    name: str
    revision: int
    config: Mapping[str, object]
    credentials: Mapping[str, str]
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """What must not happen twice.

    Attributes:
        key: names the effect within the system.
        digest: of what was asked; the same key with another digest is a mistake of the caller's.
    """

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a system answered.

    Attributes:
        output: the answer.
        replayed: true where it had been given before.
        resume: where there is more of it: what the next call is to go on from.
    """

    output: Any
    replayed: bool = False
    resume: object = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a system may be asked.

    Attributes:
        rates: pairs of requests and the seconds in which they may be made.
        concurrency: how many may be under way at once in this process; 0 for any number.
    """

    rates: tuple[tuple[float, float], ...] = ()
    concurrency: int = 0


@dataclass(frozen=True, slots=True)
class KeptToken:
    """An access token at rest: its version, the sealed text, when it expires, who replaces it until when."""

    version: int
    sealed: str
    expires: float
    holder: str
    held_until: float


@dataclass(frozen=True, slots=True)
class KeptEffect:
    """An effect that was asked for; `output` is None while nobody knows what came of it."""

    digest: str
    output: str | None


class TokenRows(Protocol):
    """The rows of access tokens; `integration.store` says what each method does."""

    def token(self, transaction: Transaction, target: str) -> KeptToken | None:
        """What is kept."""

    def claim_token(
        self, transaction: Transaction, target: str, version: int, holder: str, now: float, until: float
    ) -> bool:
        """Take the right to replace it."""

    def keep_token(
        self, transaction: Transaction, target: str, holder: str, sealed: str, expires: float, now: float
    ) -> bool:
        """Replace it."""

    def release_token(self, transaction: Transaction, target: str, holder: str) -> None:
        """Give the right back."""


class EffectRows(Protocol):
    """The rows of effects; `integration.store` says what each method does."""

    def effect(self, transaction: Transaction, key: str) -> KeptEffect | None:
        """What is known."""

    def begin_effect(self, transaction: Transaction, key: str, digest: str, now: float) -> bool:
        """Note that it is asked for."""

    def end_effect(self, transaction: Transaction, key: str, output: str, now: float) -> None:
        """Keep what came of it."""

    def undo_effect(self, transaction: Transaction, key: str) -> None:
        """Forget it."""


class LimitRows(Protocol):
    """The rows of rate limits; `integration.store` says what each method does."""

    def free_at(self, transaction: Transaction, key: str) -> float:
        """When the next request may be made."""

    def move_limit(self, transaction: Transaction, key: str, seen: float, free_at: float) -> bool:
        """Move it on."""

    def hold_off(self, transaction: Transaction, key: str, until: float) -> None:
        """Let nobody pass before a time."""


class Connector(Protocol):
    """Speaks to one kind of system.

    Attributes:
        keeps_effects: true where an effect's key is kept by the system itself, together with the effect.
        deduplicates: true where every call carries an effect, which the system knows again: any may be repeated.
    """

    keeps_effects: bool
    deduplicates: bool

    def check(self, name: str, config: Mapping[str, object], credentials: Mapping[str, str]) -> None:
        """Refuse settings of the connection of that name that cannot work or go where they may not.

        Raises:
            IntegrationError: naming the setting.
        """

    def check_operation(self, spec: Mapping[str, object], field: str) -> None:
        """Refuse a specification that cannot work.

        Raises:
            OperationInvalidError: naming what is wrong.
        """

    def programs(
        self, config: Mapping[str, object], specs: Mapping[str, Mapping[str, object]]
    ) -> Iterable[tuple[str, str]]:
        """Every jq program in the settings and in the specifications, with the field that holds it.

        Args:
            config: the connection's settings, checked.
            specs: the operations' specifications, checked, by the field in which each stands.
        """

    def limits(self, config: Mapping[str, object]) -> Limits:
        """How much the system may be asked."""

    async def test(self, target: Target) -> str:
        """Reach for the system; returns what was found.

        Raises:
            IntegrationError: it does not answer.
        """

    async def call(
        self,
        target: Target,
        spec: Mapping[str, object],
        value: Any,  # noqa: ANN401 -- any JSON
        *,
        effect: Effect | None,
        timeout_s: float,
        repeatable: bool = False,
        resume: object = None,
    ) -> Answer:
        """Carry out one operation, once, or the next piece of one.

        Args:
            target: which system.
            spec: what to do.
            value: what to do it with.
            effect: what must not happen twice; None where it may.
            timeout_s: how long it may take.
            repeatable: whether it does no harm when it happens twice.
            resume: of the answer before, where that said so.

        Raises:
            IntegrationError: it could not be done; the error says whether another attempt may help.
        """

    async def close(self) -> None:
        """Let go of every system."""


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A single HTTP request, as `FetchService.Fetch` describes it; `has_body` tells null from nothing."""

    method: str
    uri: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    has_body: bool
    timeout_s: float
    effect_key: str
    follow_redirects: bool


@dataclass(frozen=True, slots=True)
class Fetched:
    """What an HTTP server answered."""

    status: int
    headers: Mapping[str, str]
    body: Any
    uri: str


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """A single gRPC call, as `FetchService.CallGrpc` describes it."""

    target: str
    plaintext: bool
    service: str
    method: str
    arguments: Mapping[str, Any]
    metadata: Mapping[str, str]
    timeout_s: float


class Fetches(Protocol):
    """Calls systems that have no connection."""

    async def fetch(self, request: WebRequest) -> Fetched:
        """Send one HTTP request.

        Raises:
            IntegrationError: there is no answer, or it may not be sent.
        """

    async def call_grpc(self, request: GrpcRequest) -> Any:  # noqa: ANN401 -- any JSON
        """Make one unary gRPC call; returns the response as JSON has it.

        Raises:
            IntegrationError: there is no answer, or it may not be made.
        """
