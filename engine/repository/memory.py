"""What is in memory: versions by tenant, model and number or alias; how one comes in, and how one goes.

Which ones shall be there is `engine.repository.policy`'s; rows are `engine.repository.records`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace

from engine.errors import (
    AsideError,
    BackboneInUseError,
    ModelNotFoundError,
    ModelNotReadyError,
    VersionNotFoundError,
)
from engine.manifest import Base
from engine.repository.aliases import drawn, share_of
from engine.repository.completion import to_the_end
from engine.repository.loaded import Loaded
from engine.repository.records import model_of, number_of
from engine.scheduler.terms import Terms
from engine.servables import SequenceModel
from mesh.identity import SYSTEM_TENANT
from mesh.policy import PLATFORM
from mesh.resource import tenant_of

__all__ = ["SYSTEM", "Memory", "candidates"]

SYSTEM = f"{PLATFORM}/{SYSTEM_TENANT}"
"""The tenant whose models all tenants may ask."""
_UNLOAD_S = 0.5
"""How long what has found a version that is unloaded may take to ask it; what it is asked has its own ten seconds."""
_FOLLOWED_S = 5.0
"""The same, where another version of the model answers meanwhile: what is unloaded is often what an alias has left."""
_SWAP_S = 600.0
"""How long calls may go on with a version that another one has followed: nobody waits for its memory."""
_MAX_SHOWN = 128
_MOST_FIXED = 4096
"""So many questions whose answer stays the same are remembered."""


class Memory:
    """The versions in memory.

    Args:
        draw: a number from 0 to 1, for a request that goes to one of several versions.

    Attributes:
        fixed: what `find` has found for a tenant, a name and a version, where it finds the same again; read only.
    """

    def __init__(self, draw: Callable[[], float]) -> None:
        self.ready = False
        self._draw = draw
        self._loaded: dict[str, Loaded] = {}
        self._serving: dict[str, int] = {}
        self._aliases: dict[str, Mapping[str, Mapping[int, int]]] = {}
        self._closing: dict[asyncio.Future[None], Loaded] = {}
        self._aside: dict[str, str] = {}
        self._pinned: set[str] = set()
        self.fixed: dict[tuple[str, str, str], Loaded] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._loaded

    def holds(self, name: str) -> bool:
        """Whether a version is in memory, or put aside and comes back when it is asked."""
        return name in self._loaded or name in self._aside

    def is_aside(self, name: str) -> bool:
        """Whether a version is put aside."""
        return name in self._aside

    @property
    def names(self) -> list[str]:
        """Of all versions that it holds."""
        return [*self._loaded, *self._aside]

    @property
    def idle(self) -> list[Loaded]:
        """The versions that can be put aside, the one first that was not asked for longest."""
        kept = self.kept
        free = [loaded for name, loaded in self._loaded.items() if name not in kept]
        return sorted(free, key=lambda loaded: loaded.uses.last_s)

    @property
    def kept(self) -> Mapping[str, str]:
        """The versions that cannot be put aside now, and why: pinned by an operator, stood on in memory, or in use."""
        based = {
            name for loaded in self._loaded.values() for name in self.based(loaded.model, loaded.manifest.stands_on)
        }
        found: dict[str, str] = {}
        for name, loaded in self._loaded.items():
            if name in self._pinned:
                found[name] = "pinned"
            elif name in based:
                found[name] = "another model stands on it"
            elif loaded.uses.count or loaded.servable.waiting:
                found[name] = "in use"
        return found

    @property
    def busy(self) -> bool:
        """Whether anybody works with a version now."""
        return bool(self._closing) or any(loaded.uses.count for loaded in self._loaded.values())

    def pin(self, name: str, *, pinned: bool) -> None:
        """Keep a version from being put aside, or no longer."""
        if pinned:
            self._pinned.add(name)
        else:
            self._pinned.discard(name)

    def named(self, name: str) -> Loaded | None:
        """A version in memory, by its full name."""
        return self._loaded.get(name)

    def uid(self, name: str) -> str:
        """Of the entry that a version was loaded for; empty where it is not held."""
        loaded = self._loaded.get(name)
        return loaded.uid if loaded is not None else self._aside.get(name, "")

    def serving(self, model: str) -> int:
        """The version that answers requests which name none; 0 while none does."""
        return self._serving.get(model, 0)

    def serving_of(self, tenant: str) -> list[str]:
        """The models of a tenant, by name, that have a version which answers."""
        return sorted(model for model in self._serving if tenant_of(model) == tenant)

    def meant_by(self, tenant: str, name: str) -> str:
        """The full name of the model that a caller's name means; empty where none of that name answers."""
        return next((model for model in candidates(tenant, name) if model in self._serving), "")

    def every(self) -> list[Loaded]:
        """All versions, whosever they are."""
        return list(self._loaded.values())

    def versions_of(self, model: str) -> list[int]:
        """The versions of a model that answer, from memory or once they are back in it."""
        return sorted(number_of(name) for name in self.names if name.startswith(f"{model}/versions/"))

    def set_aliases(self, model: str, aliases: Mapping[str, Mapping[int, int]]) -> None:
        """What a model's versions are also called, from now on."""
        self.fixed.clear()
        if aliases:
            self._aliases[model] = aliases
        else:
            self._aliases.pop(model, None)

    def find(self, tenant: str, name: str, version: str, key: str = "") -> Loaded:
        """A version in memory.

        Args:
            tenant: of the caller.
            name: a model's id, of the caller's tenant or else of `system`; or its full name. An alias may follow a
                colon, `intents:production`.
            version: its number, or an alias; empty for the newest that is loaded.
            key: requests of one key go to the same version of an alias; empty to draw one.

        Raises:
            ModelNotFoundError: nothing of that name is in memory.
            ModelNotReadyError: the engine is still loading.
            VersionNotFoundError: that version is not.
            AsideError: it is put aside.
        """
        asked = (tenant, name, version)
        name, _, alias = name.partition(":")
        for model in candidates(tenant, name):
            if model in self._serving:
                loaded = self._version(model, name, version or alias, key)
                if not alias and version not in self._aliases.get(model, {}):
                    self._fix(asked, loaded)
                return loaded
        if not self.ready:
            raise ModelNotReadyError("the engine is still loading its models; try again", retry_after_s=0.5)
        shown, shipped = name[:_MAX_SHOWN], f"{SYSTEM}/models/{name.rsplit('/', 1)[-1]}"
        hint = (
            f"`{shipped}` ships with the platform" if shipped in self._serving else "`tiation models list` shows which"
        )
        raise ModelNotFoundError(f"there is no model `{shown}` in memory; {hint}", model=shown)

    def of_sequence(self, tenant: str, name: str, terms: Terms) -> Loaded | None:
        """The version at which a sequence is under way, also where another one has followed it since.

        Args:
            tenant: of the caller.
            name: as for `find`.
            terms: of the request.

        Returns:
            None where none is, and for requests that begin a sequence or are part of none.
        """
        if terms.sequence is None or terms.sequence.starts:
            return None
        possible = candidates(tenant, name.partition(":")[0])
        for loaded in (*self._loaded.values(), *self._closing.values()):
            servable = loaded.servable
            if (
                isinstance(servable, SequenceModel)
                and loaded.model in possible
                and servable.running.has(terms.owner, terms.sequence.id)
            ):
                return loaded
        return None

    def based(self, above: str, bases: Iterable[Base]) -> Iterator[str]:
        """The names of the versions that a model, or a version of it, stands on; of an alias all that it names."""
        for base in bases:
            model = self.meant_by(tenant_of(above), base.model)
            numbers = self._aliases.get(model, {}).get(base.version) or (base.version or self.serving(model),)
            yield from (f"{model}/versions/{number}" for number in numbers)

    def _version(self, model: str, name: str, wanted: str, key: str) -> Loaded:
        """A version of a model that is in memory, by its number or alias."""
        number = wanted or str(self._serving[model])
        weights = self._aliases.get(model, {}).get(wanted)
        if weights is not None:
            number = str(drawn(weights, share_of(model, key) if key else self._draw()))
        loaded = self._loaded.get(f"{model}/versions/{number}")
        if loaded is None and f"{model}/versions/{number}" in self._aside:
            raise AsideError(
                f"version {number} of {name} was put aside to make room; ask again",
                retry_after_s=1.0,
                resource=f"{model}/versions/{number}",
            )
        if loaded is None:
            shown, aliases = wanted[:32], ", ".join(sorted(self._aliases.get(model, {})))
            said = f"version {number[:32]} of {name} is not loaded"
            if weights is None and wanted and not wanted.isdecimal():
                said = f"{name} has no alias `{shown}`; {f'its aliases are {aliases}' if aliases else 'it has none'}"
            raise VersionNotFoundError(said, model=name, version=shown)
        return loaded

    def enter(self, loaded: Loaded, uid: str) -> None:
        """Let a version answer; from the same moment on it is what serves where it is the newest."""
        self._aside.pop(loaded.name, None)
        self._loaded[loaded.name] = replace(loaded, uid=uid)
        self._choose(loaded.model)
        servable = loaded.servable
        loaded.figures.watch(lambda: servable.waiting)

    def set_aside(self, name: str, uid: str) -> None:
        """Let a version wait outside memory until it is asked."""
        loaded = self._loaded.pop(name, None)
        self._aside[name] = uid
        self._choose(model_of(name))
        if loaded is not None:
            self._close(loaded, _UNLOAD_S)

    def let_go(self, name: str, *, swapped: bool = False) -> None:
        """Let a version answer no more; its memory is given back after those who work with it, see `closed`.

        Args:
            name: of the version.
            swapped: whether another one has followed it, so that nobody waits for its memory.
        """
        loaded = self._loaded.pop(name, None)
        self._aside.pop(name, None)
        self._pinned.discard(name)
        self._choose(model_of(name))
        if loaded is not None:
            self._close(loaded, _SWAP_S if swapped else _UNLOAD_S)

    def _fix(self, asked: tuple[str, str, str], loaded: Loaded) -> None:
        if len(self.fixed) >= _MOST_FIXED:
            self.fixed.clear()
        self.fixed[asked] = loaded

    def _choose(self, model: str) -> None:
        """What serves of a model is its newest version."""
        self.fixed.clear()
        versions = self.versions_of(model)
        if versions:
            self._serving[model] = versions[-1]
        else:
            self._serving.pop(model, None)

    def _close(self, loaded: Loaded, within_s: float) -> None:
        loaded.figures.forget()
        closing = asyncio.ensure_future(_close(loaded, within_s))
        self._closing[closing] = loaded
        closing.add_done_callback(self._closing.pop)

    async def closed(self, names: Container[str]) -> None:
        """Wait until the memory of versions that were let go is given back; nobody else has to wait meanwhile."""
        waiting = {closing: loaded for closing, loaded in self._closing.items() if loaded.name in names}
        if not waiting:
            return
        loop = asyncio.get_running_loop()
        for loaded in waiting.values():
            loop.call_later(_FOLLOWED_S if loaded.model in self._serving else _UNLOAD_S, loaded.uses.hurry)
        await to_the_end(asyncio.gather(*waiting))

    async def close(self) -> None:
        """Give all memory back."""
        for name in self.names:
            self.let_go(name)
        await self.closed({loaded.name for loaded in self._closing.values()})

    def stood_on(self, model: str) -> set[int]:
        """The versions of a model that others stand on by their number."""
        tenant, model_id = tenant_of(model), model.rsplit("/", 1)[1]
        found: set[int] = set()
        for other in self._loaded.values():
            for base in other.manifest.stands_on if tenant_of(other.model) == tenant else ():
                if base.model == model_id and base.version.isdecimal():
                    found.add(int(base.version))
        return found

    def refuse_backbone(self, model: str, number: int = 0) -> None:
        """Refuse to take away what others stand on: a version of a model, or the whole model where `number` is 0.

        Raises:
            BackboneInUseError: others do.
        """
        tenant, model_id = tenant_of(model), model.rsplit("/", 1)[1]
        for other in self._loaded.values():
            if tenant_of(other.model) != tenant or other.model == model:
                continue
            if any(
                base.model == model_id and (not number or base.version == str(number))
                for base in other.manifest.stands_on
            ):
                raise BackboneInUseError(
                    f"{model} is what {other.model} stands on; unload that first", model=other.model
                )


def candidates(tenant: str, name: str) -> list[str]:
    """The models that a name may mean, the caller's own first; another tenant's is never meant."""
    if name.startswith(f"{PLATFORM}/"):
        return [name] if tenant_of(name) in (tenant, SYSTEM_TENANT) else []
    return [f"{PLATFORM}/{tenant}/models/{name}", f"{SYSTEM}/models/{name}"]


async def _close(loaded: Loaded, within_s: float) -> None:
    """Give a version's memory back, after those who work with it."""
    await loaded.uses.over(within_s)
    await asyncio.to_thread(loaded.close)
