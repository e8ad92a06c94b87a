"""What is said of a variant, between the process that makes it, the row that keeps it and the contract."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["Outcome", "OutputReport", "Precision", "Task", "VariantReport"]


class Precision(StrEnum):
    """How a variant computes."""

    INT8 = "int8"
    FP16 = "fp16"


class OutputReport(msgspec.Struct, frozen=True):
    """How near an output is to the source's.

    Attributes:
        name: its name.
        cosine_mean: the mean over its rows of the cosine between both; None where it holds no numbers.
        cosine_min: the least of them.
        error_mean: mean difference, in parts of the largest number of the source's output.
        error_max: the largest one.
        agreement: share of rows whose largest number is at the same place, or whose words are the same; None where its
            rows are neither probabilities nor words.
        probability_difference_max: the largest difference of a probability.
    """

    name: str
    cosine_mean: float | None = None
    cosine_min: float | None = None
    error_mean: float | None = None
    error_max: float | None = None
    agreement: float | None = None
    probability_difference_max: float | None = None


class VariantReport(msgspec.Struct, frozen=True):
    """How a version was made of another one, and what that did to its answers.

    Attributes:
        source: the other one's full name.
        precision: how it computes.
        rows: how many both were asked.
        made_up: whether these mean nothing.
        source_bytes: of the source's graph and its weights.
        size_bytes: of its own.
        source_ms: what the source took for the rows; the middle of several runs in turn with its own.
        own_ms: what it took itself.
        device: where both were asked.
        outputs: what became of each.
    """

    source: str
    precision: Precision
    rows: int
    made_up: bool
    source_bytes: int
    size_bytes: int
    source_ms: float
    own_ms: float
    device: str
    outputs: tuple[OutputReport, ...]


class Task(msgspec.Struct, frozen=True):
    """What the process is told that makes a variant.

    Attributes:
        source: the version's full name.
        folder: where its files are.
        target: where the variant's files go; a folder that is there and empty.
        model_id: of the model that the variant becomes a version of.
        precision: how it shall compute.
        samples: what both are asked; none for something made up.
        device: where.
        threads: of a run.
        memory_bytes: the most that it may take; 0 for any number.
    """

    source: str
    folder: str
    target: str
    model_id: str
    precision: Precision
    samples: tuple[str, ...]
    device: str
    threads: int
    memory_bytes: int


class Outcome(msgspec.Struct, frozen=True):
    """What it says.

    Attributes:
        report: of what it has made; None where it could not.
        refused: why not.
        possible: whether other samples, or another precision, might do.
        sample: the one that it is about, from 0; -1 for none in particular.
    """

    report: VariantReport | None = None
    refused: str = ""
    possible: bool = False
    sample: int = -1
