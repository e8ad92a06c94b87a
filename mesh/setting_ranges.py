"""What values settings may have, and how one that cannot be is said: the setting, its value, what it may be.

Which setting has which range stands beside the setting, in `mesh.config`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import inspect

__all__ = ["Address", "Device", "LogLevel", "Port", "TrustDomain", "fault_of_names", "fault_of_setting"]

_DNS_NAME = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$"
_BYTE = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_ADDRESS = rf"^{_BYTE}(\.{_BYTE}){{3}}$"
_DEVICE = r"^(cpu|(cuda|tensorrt)(:[0-9]{1,3})?)$"
Device = Annotated[str, msgspec.Meta(pattern=_DEVICE)]
Address = Annotated[str, msgspec.Meta(pattern=_ADDRESS)]
"""An IPv4 address, as a socket is bound to; a name could mean another one tomorrow."""
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
TrustDomain = Annotated[str, msgspec.Meta(pattern=_DNS_NAME, max_length=200)]
"""It becomes part of names in certificates (SPIFFE-ID, section 2.1)."""
LogLevel = Literal["debug", "info", "warning", "error"]

_PLACE = re.compile(r"^(?P<said>.*?) - at `\$\.(?P<place>.*)`$", re.DOTALL)
_HOST_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(\*\.)?{_HOST_LABEL}(\.{_HOST_LABEL})*", re.IGNORECASE)
_FORMS = {
    _ADDRESS: "an IPv4 address of this machine: 127.0.0.1 for programs on it alone, 0.0.0.0 for everybody; "
    "the names by which clients call it go into gateway.names",
    _DNS_NAME: "a DNS name in lower case, like tiation.local",
    _DEVICE: "one of cpu, cuda, cuda:1, tensorrt, tensorrt:1, with any number",
}


def fault_of_setting(error: msgspec.ValidationError, tree: Mapping[str, Any], section: type) -> str:
    """What is wrong with which setting.

    Args:
        error: what msgspec said of the settings.
        tree: the settings as they were given.
        section: the type of all settings.
    """
    found = _PLACE.match(str(error))
    if found is None:
        return str(error)
    place = found["place"]
    kind: inspect.Type = inspect.type_info(section)
    value: Any = tree
    for key in place.replace("[...]", ".[...]").split("."):
        value = value.get(key, value) if isinstance(value, Mapping) else value
        kind = _below(kind, key)
    rule = _rule(kind)
    if not rule:
        return f"{place}: {found['said'][:1].lower()}{found['said'][1:]}"
    if isinstance(value, Mapping):  # one of a mapping's, and msgspec does not say which
        return f"{place} must be {rule}"
    return f"{place} is `{value}`; it must be {rule}"


def fault_of_names(setting: str, names: Iterable[str]) -> str:
    """What is wrong with a certificate's names: DNS names, `*.` before them or not, and IP addresses; else empty.

    Args:
        setting: that holds them.
        names: as they were given.
    """
    for name in names:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            digits = not re.search("[a-z]", name, re.IGNORECASE)  # 10.0.0.300 is meant as an address
            if digits or len(name) > 253 or not _HOST_NAME.fullmatch(name):
                return (
                    f"{setting}: `{name}` is neither a DNS name nor an IP address; write it without `https://` and "
                    "without a port, like models.corp.example, *.corp.example or 10.0.0.5"
                )
    return ""


def _below(kind: inspect.Type, key: str) -> inspect.Type:
    """The type of one key of a section, or of every value of a mapping."""
    if isinstance(kind, inspect.StructType):
        return next((field.type for field in kind.fields if field.encode_name == key), kind)
    return kind.value_type if isinstance(kind, inspect.DictType) else kind


def _rule(kind: inspect.Type) -> str:
    """What a setting of a type may be; empty where that is not known here."""
    match kind:
        case inspect.IntType() | inspect.FloatType():
            what = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            least, most = kind.ge if kind.ge is not None else kind.gt, kind.le if kind.le is not None else kind.lt
            if least is None or most is None:
                return what + ("" if least is None else f" from {least:g}")
            return f"{what} from {_plain(least)} to {_plain(most)}"
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, kind.values))}"
        case inspect.StrType():
            return _FORMS.get(kind.pattern or "", "")
        case inspect.BoolType():
            return "true or false"
        case _:
            return ""


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)
