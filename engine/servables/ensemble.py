"""An ensemble in memory: steps that run as soon as their inputs are there, each through its own model's queue.

How its graph is checked is `engine.ensembles`' matter; the models stay the repository's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

from engine.ensembles.plan import Plan, PlannedStep, work_out
from engine.errors import (
    EnsembleError,
    ManifestError,
    ModelNotFoundError,
    ModelNotReadyError,
    NoLabelsError,
    StepError,
    TooDeepError,
    VersionNotFoundError,
)
from engine.figures import ModelFigures
from engine.manifest.ensembles import EnsembleManifest
from engine.scheduler.policy import BatchPolicy
from engine.scheduler.terms import PLAIN, Terms
from engine.servables.base import MAX_DEPTH, Classified, Inference, Items, Servable, Tensors, check_tensors
from engine.tensor import TensorSpec
from mesh.errors import TiationError

__all__ = ["Ensemble", "StepModel"]

_MAX_PLANS = 16
"""Plans that are remembered: one for each choice of versions, of which an alias with weights makes several."""

_depth: ContextVar[int] = ContextVar("ensemble_depth", default=0)


class Held(Protocol):
    """Keeps a version in memory for those who work with it."""

    def by(self, task: asyncio.Task[Any]) -> None:
        """A task works with it, until it ends."""


class StepModel(Protocol):
    """A version in memory, as a step asks it."""

    @property
    def name(self) -> str:
        """Its full name."""

    @property
    def uid(self) -> str:
        """Of its entry."""

    @property
    def servable(self) -> Servable:
        """What it takes and gives."""

    @property
    def figures(self) -> ModelFigures:
        """Counts its requests."""

    @property
    def uses(self) -> Held:
        """Keeps it in memory."""

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """Every output."""


FindModel: TypeAlias = Callable[[str, str], StepModel]
"""Finds what is in memory, by id and by number or alias."""


class Ensemble:
    """Models put together to one.

    Args:
        manifest: its graph.
        find: finds its models, as they are loaded when it is called.

    Raises:
        EnsembleError: a model is not loaded.
        ManifestError: what flows between two does not fit.
    """

    platform = "ensemble"
    classifies: Items | None = None
    waiting = 0

    def __init__(self, manifest: EnsembleManifest, find: FindModel) -> None:
        self._manifest = manifest
        self._find = find
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._plan = self._planned(self._members())
        self.depth = 1 + max(_depth_of(member.servable) for member in self._members().values())
        self.inferred = () if manifest.inputs else (f"inputs: [{', '.join(map(_line, self._plan.inputs))}]",)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes, as its models are now."""
        return self._plan.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives."""
        return self._plan.outputs

    @property
    def policy(self) -> BatchPolicy | None:
        """That of the model which takes the fewest rows at once; None where one computes each request alone."""
        try:
            policies = [member.servable.policy for member in self._members().values()]
        except EnsembleError:
            return None
        shared = [policy for policy in policies if policy is not None]
        return min(shared, key=lambda policy: policy.max_rows) if len(shared) == len(policies) else None

    async def infer(self, tensors: Tensors, terms: Terms = PLAIN) -> Inference:
        """Every output; a step that fails, or a caller who goes away, ends all steps."""
        depth = _depth.get()
        if depth >= MAX_DEPTH:
            raise TooDeepError(self._manifest.name)
        members = self._members()
        task = asyncio.current_task()
        for member in members.values():
            if task is not None:
                member.uses.by(task)
        try:
            self._plan = plan = self._planned(members)
        except ManifestError as error:  # it fitted when it was loaded: a model has changed since then
            raise EnsembleError(f"{self._manifest.name}: {error.message}", model=self._manifest.name) from None
        check_tensors(plan.inputs, tensors)
        before = _depth.set(depth + 1)
        try:
            answers = await _Run(plan, members, self._find, tensors, terms).answers()
        finally:
            _depth.reset(before)
        outputs = {name: answers[source.step].outputs[source.tensor] for name, source in plan.sources.items()}
        first = next(iter(tensors.values()))
        rows = len(first) if first.ndim else 1
        return Inference(outputs, rows, sum(answer.tokens for answer in answers.values()))

    async def classify(self, values: Sequence[Any], terms: Terms = PLAIN) -> Classified:  # noqa: ARG002 -- the port's
        """Never: it gives tensors."""
        raise NoLabelsError("the model is an ensemble and gives tensors; ask it with ModelInfer")

    def close(self) -> None:
        """Nothing to give back; its models stay."""

    def _members(self) -> dict[str, StepModel]:
        """The model of each step as it is loaded now.

        Raises:
            EnsembleError: one is not.
        """
        found = {}
        for at, (step, base) in enumerate(zip(self._manifest.steps, self._manifest.stands_on, strict=True)):
            try:
                found[step.called] = self._find(base.model, base.version)
            except (ModelNotFoundError, VersionNotFoundError):
                version = f" {base.version}" if base.version else ""
                raise EnsembleError(
                    f"{self._manifest.name}: steps[{at}].model: `{base.model}`{version} is not loaded; load it first",
                    model=base.model,
                ) from None
        return found

    def _planned(self, members: Mapping[str, StepModel]) -> Plan:
        key = tuple(part for member in members.values() for part in (member.name, member.uid))
        plan = self._plans.get(key)
        if plan is None:
            plan = work_out(self._manifest, {name: member.servable for name, member in members.items()})
            while len(self._plans) >= _MAX_PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = plan
        return plan


class _Run:
    """One request under way.

    Args:
        plan: of the ensemble.
        members: the models of its steps.
        find: finds a model again that has gone meanwhile.
        tensors: the ensemble's inputs.
        terms: of the request, and so of each step.
    """

    def __init__(
        self, plan: Plan, members: Mapping[str, StepModel], find: FindModel, tensors: Tensors, terms: Terms
    ) -> None:
        self._plan, self._members, self._find = plan, members, find
        self._tensors, self._terms = tensors, terms
        self._answers: dict[str, Inference] = {}
        self._there = {step.name: asyncio.Event() for step in plan.steps}

    async def answers(self) -> dict[str, Inference]:
        """Each step's.

        Raises:
            StepError: the first that failed.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for step in self._plan.steps:
                    group.create_task(self._step(step))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return self._answers

    async def _step(self, step: PlannedStep) -> None:
        for name in step.after:
            await self._there[name].wait()
        given = {
            name: self._answers[source.step].outputs[source.tensor] if source.step else self._tensors[source.tensor]
            for name, source in step.inputs.items()
        }
        try:
            self._answers[step.name] = await self._asked(step, given)
        except TiationError as error:
            raise StepError(step.name, error) from None
        self._there[step.name].set()

    async def _asked(self, step: PlannedStep, given: Tensors) -> Inference:
        """A model's answer; where its version is just going, the one that has come in its place answers."""
        member = self._members[step.name]
        try:
            with member.figures.request():
                return await member.infer(given, self._terms)
        except ModelNotReadyError:
            now = self._find(step.model, step.version)
            if now.name == member.name and now.uid == member.uid:
                raise
        with now.figures.request():
            return await now.infer(given, self._terms)


def _depth_of(servable: Servable) -> int:
    return servable.depth if isinstance(servable, Ensemble) else 0


def _line(spec: TensorSpec) -> str:
    return f"{{name: {spec.name}, datatype: {spec.datatype}, shape: {list(spec.shape)}}}"
