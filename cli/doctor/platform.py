"""The running platform: does everything serve, does it know the policy, do records arrive."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Iterator

import httpx

from cli.doctor.finding import Finding, bad, good, unsure
from cli.holding import UP
from cli.home import Home, NotRunningError
from mesh.config import SERVICES, Settings, processes_of

__all__ = ["look_at_platform"]

_MANY_ERRORS = 20
_TAIL_BYTES = 256 * 1024


def look_at_platform(home: Home, settings: Settings) -> Iterator[Finding]:
    """Everything that is asked of the platform itself; where none runs, whether one could."""
    holder = home.holder()
    if holder is None:
        yield from _could_start(home, settings)
        return
    if holder.purpose not in ("", UP):
        yield unsure("platform", home.in_use(holder).message, "nothing: it can be started then")
        return
    try:
        gateway = home.gateway()
    except NotRunningError:
        yield unsure("platform", "is just starting, or does not come up", "see `tiation logs supervisor`")
        return
    for name, serving in asyncio.run(_serving(home, settings, gateway)).items():
        if not serving:
            yield bad("service", f"{name} does not serve", f"see `tiation logs {name}`; it is restarted by itself")
        else:
            yield good("service", f"{name} serves")
    yield _front_door(gateway)
    yield from _figures(gateway, settings)
    yield from _errors(home, settings)


def _could_start(home: Home, settings: Settings) -> Iterator[Finding]:
    from cli.supervisor.ports import AddressUnusableError, PortTakenError, check_free

    gateway = settings.gateway
    if home.gateway_file.exists():
        yield bad("platform", "was ended and does not run", "`tiation up`: it goes on where it was")
    try:
        check_free(gateway.host, gateway.port)
    except (PortTakenError, AddressUnusableError) as error:
        yield bad("port", error.message, "choose another one with `tiation up --port`, or gateway.port")
    else:
        yield good("port", f"{gateway.host}:{gateway.port} is free; no platform runs on this home")


async def _serving(home: Home, settings: Settings, gateway: dict[str, dict[str, dict[str, str]]]) -> dict[str, bool]:
    from cli.gateway.process import is_live
    from cli.supervisor.health import is_serving

    svid = json.loads((home.path / "supervisor" / "svid.json").read_text())
    known = {name: each for name, each in gateway["services"].items() if "address" in each}
    found = await asyncio.gather(
        *(is_serving(each["address"], _service(name), settings.trust_domain, svid) for name, each in known.items())
    )
    return dict(zip(known, found, strict=True)) | {"envoy": await is_live(home.path)}


def _service(process: str) -> str:
    """The service that a process is a replica of."""
    return next((service for service in SERVICES if re.fullmatch(rf"{service}(-\d+)?", process)), process)


def _front_door(gateway: dict[str, str]) -> Finding:
    try:
        answer = httpx.get(f"{gateway['url']}/healthz", verify=_trusting(gateway["ca"]), timeout=5)
    except (httpx.HTTPError, OSError) as error:
        return bad("front door", f"{gateway['url']} does not answer ({error})", "see `tiation logs envoy`")
    if answer.status_code != 200:
        return bad("front door", f"{gateway['url']} answers {answer.status_code}", "see `tiation logs envoy`")
    return good("front door", f"{gateway['url']} answers")


def _trusting(ca: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


def _figures(gateway: dict[str, dict[str, dict[str, str]]], settings: Settings) -> Iterator[Finding]:
    """What the services' own figures say is wrong."""
    from prometheus_client.parser import text_string_to_metric_families

    lost, dead = 0.0, {}
    stale = []
    for name, each in gateway["services"].items():
        if "metrics" not in each:
            continue
        try:
            text = httpx.get(each["metrics"], timeout=5).text
        except httpx.HTTPError as error:
            yield unsure("figures", f"{name}'s cannot be read ({error})", f"see `tiation logs {name}`")
            continue
        for sample in (sample for family in text_string_to_metric_families(text) for sample in family.samples):
            if sample.name == "tiation_record_failures_total":
                lost += sample.value
            elif sample.name == "tiation_runs_dead_lettered" and sample.value:
                dead[sample.labels["agent"]] = int(sample.value)  # of the database: every orchestrator says the same
            elif sample.name == "tiation_policy_unheard_seconds" and sample.value > settings.policy_stale_s:
                stale.append(f"{name} for {sample.value:.0f} s")
    yield from _judged(lost, dead, stale)


def _judged(lost: float, dead: dict[str, int], stale: list[str]) -> Iterator[Finding]:
    if lost:
        yield bad(
            "records", f"{lost:.0f} calls were refused because they could not be recorded", "make room on the disk"
        )
    else:
        yield good("records", "every call was recorded")
    if stale:
        yield bad(
            "policy", f"security has not been heard of by {', '.join(stale)}: they refuse changes",
            "see `tiation logs security`",
        )  # fmt: skip
    else:
        yield good("policy", "every service hears of its changes")
    if dead:
        agent, count = max(dead.items(), key=lambda each: each[1])
        yield unsure(
            "dead letters", f"{sum(dead.values())} runs were given up, {count} of them of {agent}",
            "`tiation runs list --state DEAD_LETTERED` shows them; `tiation runs redrive RUN` tries one again",
        )  # fmt: skip
    else:
        yield good("dead letters", "there are none")


def _errors(home: Home, settings: Settings) -> Iterator[Finding]:
    """Services that complain again and again."""
    for service in processes_of(settings):
        path = home.log(service)
        if not path.exists():
            continue
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        errors = [line for line in lines if '"log.level": "error"' in line]
        if len(errors) >= _MANY_ERRORS:
            yield unsure("log", f"{service} has logged {len(errors)} errors lately", f"see `tiation logs {service}`")
