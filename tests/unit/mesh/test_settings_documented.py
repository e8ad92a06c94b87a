"""The settings' documentation: every setting is in it with its default, and nothing else is."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from mesh.config import Settings

DOCUMENT = Path(__file__).parents[3] / "docs" / "settings.md"


def names(kind: type, prefix: str = "") -> dict[str, object]:
    """Every setting by its dotted name, with its default."""
    found: dict[str, object] = {}
    for field in msgspec.structs.fields(kind):
        default = field.default
        if isinstance(default, msgspec.Struct):
            found |= names(type(default), f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = default
    return found


def test_every_setting_is_documented_with_its_default():
    rows = re.findall(r"^\| `([a-z_.]+)` \|(.*?)\|", DOCUMENT.read_text(), re.MULTILINE)
    documented = {name: default.strip("` ") for name, default in rows}
    real = names(Settings)
    assert set(documented) == set(real)
    for name, default in real.items():
        if isinstance(default, bool):
            assert documented[name] == str(default).lower(), name
        elif isinstance(default, (int, float)):
            assert float(documented[name]) == default, name
        elif isinstance(default, str):
            assert documented[name] == default, name
