"""Folders of the state that settings put outside the home: a backup takes them along, a restore brings them home."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from cli.backup.contents import ELSEWHERE
from mesh.config import SERVICES, Settings, load_settings
from mesh.errors import TiationError

__all__ = ["DEFAULTS", "SETTINGS", "bring_home", "elsewhere"]

SETTINGS = "tiation.yaml"
DEFAULTS = {"engine.models": "engine/models", "integration.sqlite_folder": "integration/data"}
"""Where in the home a setting's folder is while it says nothing."""


def elsewhere(home: Path, settings: Settings) -> dict[str, Path]:
    """The folders that settings put elsewhere, by the setting's name."""
    named = {"engine.models": settings.engine.models, "integration.sqlite_folder": settings.integration.sqlite_folder}
    known = {home.resolve(), *((home / service).resolve() for service in SERVICES)}
    return {
        setting: Path(folder).absolute()
        for setting, folder in named.items()
        if folder and Path(folder).resolve() not in known | {(home / DEFAULTS[setting]).resolve()}
    }


def bring_home(folder: Path, found: Mapping[str, str], home: Path) -> list[str]:
    """Put what was elsewhere where it is when settings say nothing, and have the backup's own settings say nothing.

    Args:
        folder: where the backup's members are.
        found: the folders' old places, by the setting's name.
        home: where the members will be.

    Returns:
        What to tell the operator.
    """
    told = []
    for setting, place in found.items():
        source, target = folder / ELSEWHERE / setting, folder / DEFAULTS[setting]
        if source.is_dir():
            if target.exists():  # the platform did not use it any more
                target.rename(target.with_name(f"{target.name}.unused"))
                told.append(f"{home / DEFAULTS[setting]}.unused holds what was there while {setting} led elsewhere")
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            source.rename(target)
        if _empty(folder, setting):
            told.append(f"{setting} was {place} and is empty now: what was there is in {home / DEFAULTS[setting]}")
    if (folder / ELSEWHERE).exists():
        (folder / ELSEWHERE).rmdir()
    return told


def _empty(folder: Path, setting: str) -> bool:
    """Empty a setting in a file of settings, leaving everything else as it is written; whether that could be done."""
    file = folder / SETTINGS
    if not file.exists():
        return False
    before = file.read_text()
    try:
        file.write_text(_without(before, setting))
        if setting not in elsewhere(folder, load_settings(folder, {})):
            return file.read_text() != before
    except (TiationError, yaml.YAMLError):
        pass  # it is written in some unusual way: whoever reads what is told sees to it
    file.write_text(before)
    return False


def _without(text: str, setting: str) -> str:
    node = yaml.compose(text, yaml.SafeLoader)
    for name in setting.split("."):
        if not isinstance(node, yaml.MappingNode):
            return text
        node = next((value for key, value in node.value if key.value == name), None)
    if not isinstance(node, yaml.ScalarNode):
        return text
    start, end = node.start_mark.index, node.end_mark.index
    last = "\n" if text[start:end].endswith("\n") else ""  # which belongs to a value of several lines
    return f'{text[:start]}""{last}{text[end:]}'
