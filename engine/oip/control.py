"""The repository as the Open Inference Protocol asks for it: by bare names, latest version in, all versions out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import NotServedError, ParameterError, ReadOnlyModelError
from engine.parameters import Parameter
from engine.repository.loaded import Loaded
from engine.repository.models import Model, ModelCatalogue, VersionPolicy, version_name
from engine.repository.records import model_of, number_of
from engine.repository.repository import Repository
from mesh.catalogue import NotFoundError
from mesh.identity import SYSTEM_TENANT
from mesh.policy import PLATFORM
from mesh.resource import tenant_of

__all__ = ["Indexed", "RepositoryControl"]

_STATES: Mapping[str, str] = {"READY": "READY", "LOADING": "LOADING", "EVICTED": "READY"}
"""Triton's words for our states; all others are UNAVAILABLE. What was put aside takes requests."""


@dataclass(frozen=True, slots=True)
class Indexed:
    """One version as it is listed.

    Attributes:
        name: the model's id where that finds it for the tenant that asks, else its full name.
        version: its number.
        state: READY, LOADING or UNAVAILABLE.
        reason: why it takes no requests.
    """

    name: str
    version: int
    state: str
    reason: str


class RepositoryControl:
    """Lists, loads and unloads.

    Args:
        repository: does it.
        catalogue: knows what there is.
    """

    def __init__(self, repository: Repository, catalogue: ModelCatalogue) -> None:
        self._repository = repository
        self._catalogue = catalogue

    async def index(self, tenant: str, *, ready: bool) -> list[Indexed]:
        """Every version that a tenant may see, its own first; with `ready` only those that take requests."""
        listed: list[Indexed] = []
        own: set[str] = set()
        for owner in dict.fromkeys((tenant, SYSTEM_TENANT)):
            for entry in sorted(await self._catalogue.versions_in(owner), key=lambda entry: _place(entry.name)):
                model, number = _place(entry.name)
                state = self._repository.state(entry)
                shown = _STATES.get(state, "UNAVAILABLE")
                reason = "" if shown == "READY" else entry.body.failure or state.lower()
                if shown == "READY" or not ready:
                    listed.append(Indexed(_called(model, tenant, own), number, shown, reason))
        return listed

    async def version_policy(self, model: str) -> VersionPolicy:
        """Which versions of a model shall be in memory."""
        return (await self._catalogue.get(Model, model)).body.policy

    def in_memory(self, tenant: str) -> list[tuple[str, Loaded]]:
        """Every version in memory that a tenant may ask, its own first, by the name that finds it."""
        found = sorted(
            (loaded for loaded in self._repository.in_memory() if tenant_of(loaded.name) in (tenant, SYSTEM_TENANT)),
            key=lambda loaded: (tenant_of(loaded.name) != tenant, loaded.model, loaded.version),
        )
        own: set[str] = set()
        return [(_called(loaded.model, tenant, own), loaded) for loaded in found]

    async def load(self, tenant: str, name: str, parameters: Mapping[str, Parameter | bytes]) -> None:
        """Bring the latest version of a model of the tenant's own into memory.

        Raises:
            NotServedError: it shall be another model than was pushed.
            NotFoundError: there is none.
            ReadOnlyModelError: it ships with the platform.
            EngineError: it cannot be loaded.
        """
        if parameters:
            raise NotServedError(
                f"parameters[{min(parameters)[:64]}]: a model is loaded as it was pushed; push another version "
                "instead, with `tiation models push` or ModelService.PushModel"
            )
        model = await self._own(tenant, name)
        entries = await self._catalogue.versions_of(model)
        if not entries:
            raise NotFoundError(f"{model}/versions/-")
        await self._repository.lifecycle.load(version_name(model, max(number_of(entry.name) for entry in entries)))

    async def unload(self, tenant: str, name: str, parameters: Mapping[str, Parameter | bytes]) -> None:
        """Take all versions of a model of the tenant's own out of memory, or none; none need be there.

        Raises:
            NotServedError: what stands on it shall go with it.
            NotFoundError: there is none.
            ReadOnlyModelError: it ships with the platform.
            VersionAliasedError: an alias names a version.
            BackboneInUseError: another one stands on it.
        """
        for key, value in parameters.items():
            if key != "unload_dependents":
                raise ParameterError(key[:64], "is not known; known is unload_dependents")
            if value is not False:
                raise NotServedError("parameters[unload_dependents]: unload what stands on the model first, by name")
        await self._repository.lifecycle.unload_all(await self._own(tenant, name))

    async def _own(self, tenant: str, name: str) -> str:
        """The full name of a model of the tenant's own."""
        model = name if name.startswith(f"{PLATFORM}/") else f"{PLATFORM}/{tenant}/models/{name}"
        if tenant_of(model) not in (tenant, SYSTEM_TENANT):
            raise NotFoundError(model)
        try:
            await self._catalogue.get(Model, model)
        except NotFoundError:
            system = f"{PLATFORM}/{SYSTEM_TENANT}/models/{name}"
            if self._repository.serving(system):
                raise ReadOnlyModelError(
                    f"{system} ships with the platform and stays as it is", resource=system
                ) from None
            raise
        return model


def _called(model: str, tenant: str, own: set[str]) -> str:
    """The name by which a tenant finds a model; `own` gathers the ids that are taken."""
    model_id = model.rsplit("/", 1)[1]
    if tenant_of(model) == tenant:
        own.add(model_id)
        return model_id
    return model if model_id in own else model_id


def _place(version: str) -> tuple[str, int]:
    """A version's model and its number, by which they are in order."""
    return model_of(version), number_of(version)
