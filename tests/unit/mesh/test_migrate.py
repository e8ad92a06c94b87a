import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from mesh import migrate as module
from mesh.config import SERVICES
from mesh.db import DatabaseUnreadableError, open_database
from mesh.migrate import _newest, migrate
from mesh.revisions import revisions

CLONE = Path(__file__).parents[3]
ONE = """
revision = "0001"
down_revision = None
def upgrade():
    from alembic import op
    op.execute("CREATE TABLE things (name TEXT PRIMARY KEY)")
"""


@pytest.fixture
def versions(tmp_path):
    folder = tmp_path / "versions"
    folder.mkdir()
    (folder / "0001_things.py").write_text(ONE)
    return folder


@pytest.fixture
async def state(place):
    """Opens the same database as often as asked, and closes all."""
    opened = []

    def open_it():
        opened.append(open_database(place.location, schema=place.schema))
        return opened[-1]

    yield open_it
    for database in opened:
        await database.close()


async def test_a_schema_is_made_once_and_stays(state, versions):
    for _ in range(2):
        migrate(state().engine, versions)
    with state().engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM things")).scalar() == 0


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
async def test_a_machine_that_takes_seconds_to_bring_in_alembic_migrates_all_the_same(state, versions, monkeypatch):
    slowly = module._to_newest

    def late(*arguments):
        time.sleep(3.5)  # longer than a transaction may stand idle otherwise
        slowly(*arguments)

    monkeypatch.setattr(module, "_to_newest", late)
    migrate(state().engine, versions)
    with state().engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM things")).scalar() == 0


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
async def test_a_file_that_is_no_database_is_named_with_what_to_do(state, versions, tmp_path):
    (tmp_path / "test.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(DatabaseUnreadableError, match=r"test\.db cannot be read .* restore it from a backup"):
        migrate(state().engine, versions)


async def test_the_database_of_a_newer_release_is_refused(state, versions, tmp_path):
    migrate(state().engine, versions)
    with state().engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    with pytest.raises(DatabaseUnreadableError, match=r"was made by another release .*0999"):
        migrate(state().engine, versions)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("owner", ["mesh", *(name for name in SERVICES if (CLONE / name / "migrations").is_dir())])
async def test_the_newest_revision_is_read_from_the_files_as_alembic_reads_it(state, owner):
    folder = CLONE / owner / "migrations" / "versions"
    assert _newest(folder) == revisions(state().engine, folder).known[-1]


async def test_what_follows_is_run_and_nothing_where_the_schema_is_the_newest(state, versions, monkeypatch):
    migrate(state().engine, versions)
    two = ONE.replace("0001", "0002").replace("None", '"0001"').replace("things", "more")
    (versions / "0002_more.py").write_text(two)
    migrate(state().engine, versions)
    with state().engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM more")).scalar() == 0
    monkeypatch.setitem(sys.modules, "alembic", None)
    migrate(state().engine, versions)
