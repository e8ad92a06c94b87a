"""The schema goes back and forth with runs in it, on SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

import mesh
import orchestrator
from mesh.entries import Creation
from orchestrator.agents import Agent
from tests.unit.orchestrator.workplace import AGENT, Workplace

FLOW = "do: [{s: {set: {x: '{\"paused\":true,'}}}]"


def moved(database, to):
    """Take the schema to a revision."""
    config = Config()
    config.set_main_option("script_location", str(Path(mesh.__path__[0]) / "migrations"))
    config.set_main_option("version_locations", str(Path(orchestrator.__path__[0]) / "migrations" / "versions"))
    config.set_main_option("path_separator", "os")
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        config.attributes["version_table"] = "alembic_version"
        (command.upgrade if to == "head" else command.downgrade)(config, to)


async def test_runs_and_paused_agents_survive_the_way_back_and_forth(both):
    place = Workplace(both[0])
    await place.bring(FLOW, paused=True)
    await place.agents.create("tenants/default/agents/b", Agent(FLOW), {}, Creation("", "b"))
    await place.start(run_id="waits")
    await place.start(run_id="dead")
    await place.database.write(
        lambda transaction: transaction.exec_driver_sql(
            f"UPDATE runs SET state = 'DEAD_LETTERED', end_time = create_time WHERE name = '{AGENT}/runs/dead'"
        )
    )
    moved(place.database, "orchestrator_0001")
    with place.database.engine.connect() as connection:
        states = dict(connection.exec_driver_sql("SELECT name, state FROM runs").all())
    assert states == {f"{AGENT}/runs/waits": "QUEUED", f"{AGENT}/runs/dead": "FAILED"}
    moved(place.database, "head")
    queues = await place.database.read(
        lambda transaction: transaction.exec_driver_sql("SELECT agent, max_concurrency FROM queues WHERE paused").all()
    )
    assert [tuple(row) for row in queues] == [(AGENT, 0)]
    run = await place.get("waits")
    assert (run.state, run.attempt, run.priority, run.source) == ("QUEUED", 1, 0, None)
