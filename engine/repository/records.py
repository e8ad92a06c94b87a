"""What is kept of models and versions, in the words of the repository: rows made, changed and looked up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from engine.repository.models import ModelVersion
from mesh.catalogue import Catalogue, NotFoundError
from mesh.entries import Body, Creation, Entry
from mesh.pagination import Page

__all__ = ["Records", "model_of", "number_of"]

_EVERY = Page(1_000_000, None)
"""A version's number is no higher."""


def number_of(name: str) -> int:
    """A version's number, from its name."""
    return int(name.rsplit("/", 1)[1])


def model_of(name: str) -> str:
    """The model's name, from its version's."""
    return name.rsplit("/versions/", 1)[0]


class Records:
    """The rows of models and versions.

    Args:
        catalogue: keeps them.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    async def known(self, kind: type[Body], name: str) -> Entry[Body] | None:
        """An entry; None where there is none."""
        try:
            return await self.catalogue.get(kind, name)
        except NotFoundError:
            return None

    async def versions_of(self, model: str) -> dict[int, Entry[ModelVersion]]:
        """All versions of a model, by number."""
        found = await self.catalogue.page(ModelVersion, model, _EVERY)
        return {number_of(entry.name): entry for entry in found}

    async def add(self, name: str, body: ModelVersion, labels: dict[str, str]) -> Entry[ModelVersion]:
        """Keep what is known of a new version, and its model where this is the first one."""
        return await self.catalogue.create(name, body, labels, Creation("", ""))

    async def note(self, name: str, **changed: Any) -> Entry[ModelVersion]:  # noqa: ANN401 -- fields of the body
        """Change what is kept of a version."""
        return await self.catalogue.update(ModelVersion, name, "", lambda entry: _changed(entry, **changed))


def _changed(entry: Entry[Body], **fields: Any) -> Entry[Body]:  # noqa: ANN401 -- fields of the body
    return replace(entry, body=msgspec.structs.replace(entry.body, **fields))
