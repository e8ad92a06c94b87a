"""The `http` connector: an operation of a manifest becomes a request, its answer a value.

How a request is made and an answer read lives in `http_request` and `http_answer`; where it may go in `egress`. Tries,
turns and effect keys are `integration.invoke`'s: this module asks once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

import httpx
import msgspec

from integration.adapters.client_spans import Spans, send_traced
from integration.adapters.egress import open_target
from integration.adapters.http_answer import body_of, meaning_of, retry_after, summary
from integration.adapters.http_client import HttpAnswer, HttpClient, HttpRequest
from integration.adapters.http_request import Prepared, authorized, prepared, redacted
from integration.adapters.oauth import fetch_token
from integration.errors import (
    AnswerInvalidError,
    CallTimeoutError,
    ExpressionFailedError,
    IntegrationError,
    RateLimitedError,
    SystemRefusedError,
    SystemUnavailableError,
)
from integration.manifest import (
    ErrorRule,
    HttpConfig,
    HttpSpec,
    LinkPaging,
    NoAuth,
    OAuth2Auth,
    Paging,
    check_credentials,
    programs_of,
    read_config,
    read_spec,
)
from integration.pacing import heeded_s
from integration.paging import Page, Place, first_place, links, page_parameters, programs_for, turned
from integration.ports import Answer, Effect, Limits, Target
from integration.strict import invalid, whole_numbers
from integration.templates import program_in, program_of
from integration.tokens import Token, TokenKeeper
from integration.vault import Vault, VaultError
from mesh.resource import tenant_of
from mesh.sandbox import SandboxError, SandboxPool

__all__ = ["HttpConnector"]

_REDIRECTS = 5
_TEST_S = 10.0


class HttpConnector:
    """Speaks HTTP as a manifest says.

    Args:
        client: sends requests.
        tokens: keeps access tokens.
        vault: seals cursors that lead somewhere.
        sandbox: runs jq programs.
        spans: sends spans of requests; None where there is no collector.
    """

    keeps_effects = False
    deduplicates = False

    def __init__(
        self,
        client: HttpClient,
        tokens: TokenKeeper,
        vault: Vault,
        sandbox: SandboxPool,
        spans: Spans = None,
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._vault = vault
        self._sandbox = sandbox
        self._spans = spans

    def check(self, _name: str, config: Mapping[str, object], credentials: Mapping[str, str]) -> None:
        """Refuse a manifest that cannot work, and credentials that it does not need."""
        read = read_config(config)
        for place, address in (("base_url", read.base_url), ("auth.token_url", getattr(read.auth, "token_url", ""))):
            if address:
                try:
                    open_target(address)
                except IntegrationError as error:
                    raise invalid(f"connection.config.{place}", error.message) from None
        check_credentials(read.auth, credentials)

    def check_operation(self, spec: Mapping[str, object], field: str) -> None:
        """Refuse an operation that cannot work."""
        read_spec(spec, f"{field}.spec")

    def programs(
        self, config: Mapping[str, object], specs: Mapping[str, Mapping[str, object]]
    ) -> Iterable[tuple[str, str]]:
        """Every `${ … }`."""
        return programs_of(config, specs)

    def limits(self, config: Mapping[str, object]) -> Limits:
        """What `limits` says."""
        said = read_config(config).limits
        rates = ((said.requests_per_second, 1.0), (said.requests_per_minute, 60.0))
        return Limits(tuple((each, window_s) for each, window_s in rates if each), said.concurrency or 0)

    async def test(self, target: Target) -> str:
        """Ask for the path that the manifest names, or for the base address."""
        config = read_config(target.config)
        headers = {"accept": "*/*"} | {name.lower(): text for name, text in config.headers.items()}
        request = Prepared(config.test.path, (), headers, None)
        answer, token = await self._sent(target, config, "GET", request, _TEST_S, repeatable=True)
        expected = answer.status in config.test.expect if config.test.expect else answer.status < 400
        known = config.test.path or config.test.expect
        if answer.status in (401, 403) or answer.status >= 500 or (known and not expected):
            text = redacted(summary(answer), target.credentials, token)
            raise SystemRefusedError(f"it answers {answer.status}{text}", status=answer.status)
        return f"{httpx.URL(config.base_url).host} answers {answer.status}"

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
        """Send one request: the operation, or its next page."""
        config, read = read_config(target.config), read_spec(spec, "spec")
        given = whole_numbers(value)
        made = await self._made(target, read, given)
        request = prepared(config, read, made, given, effect)
        if read.paging is None:
            answer, token = await self._sent(target, config, read.method, request, timeout_s, repeatable=repeatable)
            return Answer(await self._output(target, config, read, answer, token))
        place = resume if isinstance(resume, Place) else self._begin(target, read, read.paging, made["cursor"])
        request = self._page_request(read.paging, place, request)
        answer, token = await self._sent(target, config, read.method, request, timeout_s, repeatable=repeatable)
        return await self._page(target, config, read, place, answer, token)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    # The request.

    async def _made(self, target: Target, spec: HttpSpec, value: Any) -> dict[str, Any]:  # noqa: ANN401
        """What the operation's expressions come to for an input, by one call of the sandbox."""
        parts: dict[str, Any] = {"query": spec.query, "headers": spec.headers}
        parts |= {"body": None if spec.body is msgspec.UNSET else spec.body}
        parts |= {"form": None if spec.form is msgspec.UNSET else spec.form}
        parts |= {"cursor": spec.paging.cursor if spec.paging is not None else None}
        return dict(whole_numbers(await self._evaluated(target, parts, value, sent=False)))

    async def _evaluated(self, target: Target, parts: Any, value: Any, *, sent: bool = True) -> Any:  # noqa: ANN401
        """What expressions come to; after the request was sent nobody knows any more whether it had its effect."""
        program = program_of(parts)
        return await self._jq(target, program, value, sent=sent) if program else parts

    async def _jq(self, target: Target, program: str, value: Any, *, sent: bool) -> Any:  # noqa: ANN401 -- any JSON
        try:
            return await self._sandbox.jq(program, value, owner=tenant_of(target.name))
        except SandboxError as error:
            raise ExpressionFailedError(error, outcome_known=not sent) from None

    async def _sent(
        self, target: Target, config: HttpConfig, method: str, request: Prepared, timeout_s: float, *, repeatable: bool
    ) -> tuple[HttpAnswer, str]:
        """Send a request with what proves who is asking; an access token that is refused is renewed once.

        Returns:
            The answer, and the access token that was sent, to be kept out of what is said of the answer.
        """
        token = await self._token(target, config, timeout_s, None)
        answer = await self._send(target, config, method, request, timeout_s, token, repeatable=repeatable)
        if answer.status == 401 and token is not None:
            token = await self._token(target, config, timeout_s, token.version)
            answer = await self._send(target, config, method, request, timeout_s, token, repeatable=repeatable)
        return answer, token.text if token is not None else ""

    async def _send(
        self,
        target: Target,
        config: HttpConfig,
        method: str,
        request: Prepared,
        timeout_s: float,
        token: Token | None,
        *,
        repeatable: bool,
    ) -> HttpAnswer:
        proof, parameters = authorized(config.auth, target.credentials, token.text if token is not None else "")
        query = [*request.query, *parameters]
        path, _, linked = request.path.partition("?")
        text = "&".join(part for part in (linked, urlencode(query)) if part)
        made = HttpRequest(
            method,
            f"{config.base_url.rstrip('/')}{path}" + (f"?{text}" if text else ""),
            {**request.headers, **proof},
            request.body,
            timeout_s=timeout_s,
            max_bytes=config.limits.max_response_bytes,
            redirects=_REDIRECTS if config.follow_redirects and method in ("GET", "HEAD") else 0,
            ca=config.ca,
            confidential=not isinstance(config.auth, NoAuth),
            repeatable=repeatable,
        )
        return await send_traced(self._client, made, target.name, tell=config.trace, spans=self._spans)

    async def _token(self, target: Target, config: HttpConfig, timeout_s: float, rejected: int | None) -> Token | None:
        auth = config.auth
        if not isinstance(auth, OAuth2Auth):
            return None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._tokens.token(
                    target,
                    lambda: fetch_token(self._client, auth, target.credentials, config.ca),
                    rejected=rejected,
                )
        except TimeoutError:
            raise CallTimeoutError(f"no access token within {timeout_s:g} s") from None
        except IntegrationError as error:
            error.message = redacted(error.message, target.credentials)
            error.args = (error.message,)
            raise

    # The answer.

    async def _output(self, target: Target, config: HttpConfig, spec: HttpSpec, answer: HttpAnswer, token: str) -> Any:  # noqa: ANN401 -- any JSON
        seen = await self._judged(target, config, spec, answer, token)
        return seen if spec.response == "full" else seen["body"]

    async def _judged(
        self, target: Target, config: HttpConfig, spec: HttpSpec, answer: HttpAnswer, token: str
    ) -> dict[str, Any]:
        """The answer as expressions see it.

        Raises:
            IntegrationError: it says that the operation failed.
        """
        expected = answer.status in spec.expect if spec.expect else 200 <= answer.status < 300
        try:
            body = body_of(answer)
        except AnswerInvalidError as error:
            if expected:
                error.outcome_known = False
                raise
            body = None
        seen = {"status": answer.status, "headers": dict(answer.headers), "body": body}
        rule = await self._rule(target, (*spec.errors, *config.errors), seen)
        if rule is None and expected:
            return seen
        raise await self._failure(target, rule, answer, seen, token)

    async def _rule(self, target: Target, rules: Iterable[ErrorRule], seen: dict[str, Any]) -> ErrorRule | None:
        """The first rule that fits."""
        fitting = [rule for rule in rules if not rule.status or seen["status"] in rule.status]
        conditions = [_condition(rule.when) if rule.when else "true" for rule in fitting]
        if not fitting or conditions[0] == "true":
            return fitting[0] if fitting else None
        holds = await self._jq(target, f"[{', '.join(conditions)}]", seen, sent=True)
        return next((rule for rule, true in zip(fitting, holds, strict=True) if true), None)

    async def _failure(
        self, target: Target, rule: ErrorRule | None, answer: HttpAnswer, seen: dict[str, Any], token: str
    ) -> IntegrationError:
        """The error that an answer means."""
        said = await self._said(target, rule.message if rule is not None else "", seen)
        text = redacted(str(said)[:500] if said else _default(answer), target.credentials, token)
        meaning = rule.meaning if rule is not None else meaning_of(answer)
        error: IntegrationError
        if meaning == "rate_limited":
            own = await self._said(target, rule.retry_after if rule is not None else "", seen)
            seconds = heeded_s(float(own)) if isinstance(own, (int, float)) else retry_after(answer.headers)
            error = RateLimitedError(text, retry_after_s=seconds, status=answer.status)
            error.said_by_system = True
        elif meaning == "retryable":
            error = SystemUnavailableError(text, status=answer.status)
            error.outcome_known = answer.status in (408, 425, 429, 503) or 400 <= answer.status < 500
        else:
            error = SystemRefusedError(text, status=answer.status)
            error.outcome_known = answer.status >= 300
        return error

    async def _said(self, target: Target, template: str, seen: dict[str, Any]) -> Any:  # noqa: ANN401 -- any JSON
        """What a rule's text comes to; nothing where its expression fails."""
        if program_in(template) is None:
            return template
        try:
            return await self._evaluated(target, template, seen)
        except ExpressionFailedError:
            return None

    # Pages.

    def _begin(self, target: Target, spec: HttpSpec, paging: Paging, cursor: Any) -> Place:  # noqa: ANN401
        """Where to begin; a link that the caller brings back was sealed when it got it."""
        if isinstance(paging, LinkPaging) and cursor:
            try:
                opened = self._vault.open(tenant_of(target.name), f"{target.name}#cursor", str(cursor))
            except (VaultError, ValueError):
                opened = {}
            if opened.get("path") != spec.path:
                raise AnswerInvalidError("the cursor is none of this operation's; leave it out to begin at the start")
            cursor = opened["link"]
        return first_place(paging, cursor)

    @staticmethod
    def _page_request(paging: Paging, place: Place, request: Prepared) -> Prepared:
        if isinstance(paging, LinkPaging) and place.cursor:
            return msgspec.structs.replace(request, path=place.cursor, query=())
        added = tuple((name, str(value)) for name, value in page_parameters(paging, place).items())
        kept = tuple(pair for pair in request.query if pair[0] not in dict(added))
        return msgspec.structs.replace(request, query=kept + added)

    async def _page(
        self, target: Target, config: HttpConfig, spec: HttpSpec, place: Place, answer: HttpAnswer, token: str
    ) -> Answer:
        """What a page adds."""
        paging = spec.paging
        assert paging is not None  # noqa: S101 -- the caller has looked
        seen = await self._judged(target, config, spec, answer, token)
        read = await self._evaluated(target, programs_for(paging), seen)
        link = _next_link(config, answer) if isinstance(paging, LinkPaging) else ""
        page = Page(read["items"], whole_numbers(read.get("next")), read.get("more"), link)
        after = turned(paging, place, page)
        if after.cursor is not None and paging.returns == "all":
            return Answer(None, resume=after)
        cursor = after.cursor
        if cursor is not None and isinstance(paging, LinkPaging):
            sealed = {"path": spec.path, "link": cursor}
            cursor = self._vault.seal(tenant_of(target.name), f"{target.name}#cursor", sealed)
        return Answer({"items": list(after.items), "next_cursor": cursor})


def _condition(when: str) -> str:
    """A program that says whether a rule's condition holds; one that fails on this answer does not."""
    return f"([try ({program_in(when)}\n) catch false] | .[0] == true)"


def _default(answer: HttpAnswer) -> str:
    if answer.status in (401, 403):
        return f"the system does not accept the credentials ({answer.status}){summary(answer)}"
    if 300 <= answer.status < 400:
        return f"the system redirects ({answer.status}), which is not followed; check base_url, or set follow_redirects"
    return f"the system answers {answer.status}{summary(answer)}"


def _next_link(config: HttpConfig, answer: HttpAnswer) -> str:
    """The path and query of the next page below the base address, without a key that the system may have put in.

    Raises:
        AnswerInvalidError: it leads elsewhere.
    """
    target = links(answer.headers.get("link", "")).get("next", "")
    if not target:
        return ""
    base = open_target(config.base_url)
    url = open_target(str(httpx.URL(answer.uri).join(target)))
    root = base.path.rstrip("/")
    same = (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)
    if not same or not (url.path == root or url.path.startswith(f"{root}/")):
        raise AnswerInvalidError("the `Link` header leads to another place than base_url; that is not followed")
    own = getattr(config.auth, "name", "") if getattr(config.auth, "place", "") == "query" else ""
    pairs = [(name, value) for name, value in url.params.multi_items() if name != own]
    path = url.raw_path.decode("ascii").partition("?")[0].removeprefix(base.raw_path.decode("ascii").rstrip("/"))
    return path + (f"?{urlencode(pairs)}" if pairs else "")
