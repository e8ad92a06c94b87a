"""Manifests of ensembles: models put together to one, as a graph of steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

import msgspec

from engine.ensembles.references import check_references
from engine.manifest.fields import Base, Common, ModelName

__all__ = ["DeclaredInput", "EnsembleManifest", "EnsembleStep"]

_StepName: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z", description="a name of 1 to 64 letters, digits, `_` and `-`")
]
_TensorName: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_InputName: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[^.\s]{1,256}\Z", description="a name of 1 to 256 characters without `.` and spaces")
]
_Version: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] | ModelName
_Wires: TypeAlias = Annotated[Mapping[_TensorName, _TensorName], msgspec.Meta(min_length=1, max_length=64)]


class EnsembleStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model's part.

    Attributes:
        model: its id; the tenant's own first, then `system`.
        inputs: for each of the model's inputs where it comes from: an input of the ensemble, `text`, or an output of
            another step, `step.output`.
        name: of the step, for others to refer to; the model's id where it is not said.
        version: a number or an alias; without it the newest that is loaded when a request comes.
    """

    model: ModelName
    inputs: _Wires
    name: _StepName | None = None
    version: _Version | None = None

    @property
    def called(self) -> str:
        """How others refer to it."""
        return self.name or self.model


class DeclaredInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An input of the ensemble, as the protocol describes it; -1 stands for any length."""

    name: _InputName
    datatype: Annotated[str, msgspec.Meta(max_length=8)]
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=-1, le=2**31)], ...], msgspec.Meta(max_length=16)]


class EnsembleManifest(Common, frozen=True, tag="ensemble"):
    """Steps that are computed as soon as their inputs are there.

    Attributes:
        steps: the models, in any order.
        outputs: what the ensemble gives: for each name an output of a step, `step.output`.
        inputs: what it takes; read from the steps where it is not said.
    """

    steps: Annotated[tuple[EnsembleStep, ...], msgspec.Meta(min_length=1, max_length=32)]
    outputs: _Wires
    inputs: Annotated[tuple[DeclaredInput, ...], msgspec.Meta(max_length=64)] = ()

    @property
    def stands_on(self) -> tuple[Base, ...]:
        """The models of its steps."""
        return tuple(Base(step.model, str(step.version or "")) for step in self.steps)

    def check(self) -> None:
        """Every reference leads somewhere, and no step waits for itself.

        Raises:
            ManifestError: naming the line.
        """
        check_references(
            [(step.called, step.inputs) for step in self.steps], self.outputs, [given.name for given in self.inputs]
        )
