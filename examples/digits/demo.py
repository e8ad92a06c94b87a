"""Digits: sends images that the model has never seen through REST and gRPC, and through an agent that files them.

`make demo` runs it beside the other examples; `.venv/bin/python examples/digits/demo.py` runs it alone.
"""

from __future__ import annotations

import base64
import itertools
import sqlite3
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
from rich.table import Table
from tiation.engine.v1 import prediction_pb2, prediction_pb2_grpc
from tiation.orchestrator.v1 import run_pb2_grpc

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from examples.driver import DemoPlatform, main, run_to_end  # noqa: E402 -- needs the path above
from tools.models.digits import draw, split  # noqa: E402 -- as above

MODEL = "tenants/system/models/digits"
AGENT = "tenants/default/agents/digit-reader"
COUNT = 20
SCHEMA = """
CREATE TABLE readings (id TEXT NOT NULL, label INTEGER NOT NULL, probability REAL NOT NULL);
CREATE TABLE questions (id TEXT NOT NULL, label INTEGER NOT NULL, probability REAL NOT NULL);
"""
Format = Literal["PNG", "JPEG", "WEBP"]
DRAWN: tuple[tuple[Format, int, bool], ...] = (("PNG", 1, False), ("JPEG", 16, True), ("WEBP", 32, True))
"""As the held-out images are, like a small scan, like a larger one: format, times 8 pixels, dark on light."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image: what it is called here, its file, the digit that it shows."""

    title: str
    file: bytes
    truth: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one image, how, and after how many milliseconds."""

    sample: Sample
    way: str
    label: str
    probability: float
    elapsed_ms: float


def show(platform: DemoPlatform) -> bool:
    """Run the example; true when nearly every digit is read, and every image was filed once."""
    archive = platform.database("digits.db", SCHEMA)
    platform.deploy(
        {
            "connection digit-archive": ("connections", "apply", str(HERE / "archive.yaml")),
            "agent digit-reader": ("agents", "apply", str(HERE / "agent.yaml")),
        }
    )
    samples = held_out()
    with platform.rest() as client, platform.channel() as channel:
        stub = prediction_pb2_grpc.PredictionServiceStub(channel)
        answers = [
            over_rest(client, sample) if turn % 2 == 0 else over_grpc(stub, sample)
            for turn, sample in enumerate(samples)
        ]
    matched = report(platform, answers)
    return file_all(platform, samples, archive) and matched >= 0.9 * len(samples)


def held_out() -> list[Sample]:
    """Images from the part of scikit-learn's digits that the model was not trained on, drawn in three manners."""
    _, _, images, truths = split()
    samples = []
    for image, truth, (kind, times, dark) in zip(images[:COUNT], truths, itertools.cycle(DRAWN), strict=False):
        file = draw(image, times=times, dark_on_light=dark, file=kind)
        title = f"{kind}, {8 * times} x {8 * times}, {'dark on light' if dark else 'light on dark'}"
        samples.append(Sample(title, file, int(truth)))
    return samples


def over_rest(client: httpx.Client, sample: Sample) -> Answer:
    """Classify one image as curl would."""
    body = {"images": [base64.b64encode(sample.file).decode()]}
    began = time.perf_counter()
    answer = client.post(f"/v1/{MODEL}:classify", json=body).raise_for_status().json()
    found = answer["classifications"][0]
    return Answer(sample, "REST", found["label"], found["score"], (time.perf_counter() - began) * 1000)


def over_grpc(stub: prediction_pb2_grpc.PredictionServiceStub, sample: Sample) -> Answer:
    """Classify one image as a client with the generated stubs does."""
    request = prediction_pb2.ClassifyRequest(name=MODEL, images=[sample.file])
    began = time.perf_counter()
    found = stub.Classify(request, timeout=30).classifications[0]
    return Answer(sample, "gRPC", found.label, found.score, (time.perf_counter() - began) * 1000)


def report(platform: DemoPlatform, answers: list[Answer]) -> int:
    """Print the table and the share that matched; returns how many did."""
    table = Table(title="Digits")
    for heading in ("image", "way", "truth", "label", "probability", "ms"):
        table.add_column(heading, justify="left" if heading in ("image", "way") else "right")
    matched = 0
    for answer in answers:
        hit = answer.label == str(answer.sample.truth)
        matched += hit
        label = answer.label if hit else f"[red]{answer.label}[/red]"
        cells = (answer.sample.title, answer.way, str(answer.sample.truth), label)
        table.add_row(*cells, f"{answer.probability:.2f}", f"{answer.elapsed_ms:.0f}")
    platform.console.print(table)
    platform.console.print(f"{matched} of {len(answers)} digits were read as they are ({matched / len(answers):.0%}).")
    return matched


def file_all(platform: DemoPlatform, samples: list[Sample], archive: Path) -> bool:
    """Have the agent file every image, four at a time; true when each was filed once."""
    with platform.channel() as channel, ThreadPoolExecutor(4) as pool:
        runs = run_pb2_grpc.RunServiceStub(channel)
        given = (
            {"id": f"d-{number}", "image": base64.b64encode(sample.file).decode()}
            for number, sample in enumerate(samples, start=1)
        )
        list(pool.map(lambda each: run_to_end(runs, AGENT, each), given))
    with sqlite3.connect(archive) as database:
        kept = database.execute("SELECT id FROM readings").fetchall()
        asked = database.execute("SELECT id FROM questions").fetchall()
    database.close()
    platform.console.print(f"The agent kept {len(kept)} readings and asks a person about {len(asked)}.")
    return len(kept) + len(asked) == len({*kept, *asked}) == len(samples)


if __name__ == "__main__":
    sys.exit(main(__doc__, show))
