"""Makes the SQLite database that stands for the CRM, in the folder where connections may have theirs.

    .venv/bin/python examples/support-triage/make_crm.py [HOME]

HOME is the platform's state folder, `.tiation` unless said otherwise.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

__all__ = ["make_crm"]

SCHEMA = Path(__file__).with_name("crm.sql")


def make_crm(home: Path) -> Path:
    """Make the database and return where it is; one that is there already stays as it is."""
    crm = home / "integration" / "data" / "crm.db"
    crm.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not crm.exists():
        database = sqlite3.connect(crm)
        database.executescript(SCHEMA.read_text(encoding="utf-8"))
        database.close()
    return crm


if __name__ == "__main__":
    print(make_crm(Path(sys.argv[1] if len(sys.argv) > 1 else ".tiation").resolve()))
