"""A process that pushes, loads and unloads versions of one model for ever, to be killed in the midst of it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from engine.repository.models import Model
from tests.unit.engine.graphs import heavy
from tests.unit.engine.shelf import MODEL, Shelf


async def _churn(root: Path) -> None:
    shelf = Shelf(root)
    repository = await shelf.started()
    known = await repository._records.known(Model, MODEL)
    at = known.body.latest if known else 0
    content = heavy(1)
    print("started", flush=True)
    while True:
        await shelf.push(repository, content=content)
        at += 1
        print(f"pushed {at}", flush=True)
        if at > 1:
            await repository.lifecycle.unload(f"{MODEL}/versions/{at}")
            print(f"unloaded {at}", flush=True)
            await repository.lifecycle.load(f"{MODEL}/versions/{at}")
            print(f"loaded {at}", flush=True)


if __name__ == "__main__":
    asyncio.run(_churn(Path(sys.argv[1])))
