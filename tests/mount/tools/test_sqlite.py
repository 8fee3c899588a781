"""SQLite trusts its file system with everything: locks, fsync, truncation, shared memory."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.support.tools import Conversation, Place, background, python_child, run

pytestmark = pytest.mark.parametrize("journal", ["delete", "truncate", "persist", "wal"])

ROWS: Final = 1_000
BATCH: Final = 50

_WRITER: Final = """
import sqlite3, sys
database, rows, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
connection = sqlite3.connect(database, timeout=60, isolation_level=None)
connection.execute("PRAGMA synchronous = FULL")
done = 0
while done < rows:
    connection.execute("BEGIN IMMEDIATE")
    for number in range(batch):
        connection.execute("INSERT INTO t (n, text) VALUES (?, ?)", (done + number, "x" * (number * 7 % 500)))
    connection.execute("COMMIT")
    done += batch
    print(done)
connection.close()
"""

_READER: Final = """
import sqlite3, sys
database, rows, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
connection = sqlite3.connect(database, timeout=60)
seen = 0
while seen < rows:
    now, = connection.execute("SELECT count(*) FROM t").fetchone()
    assert now >= seen, f"{now} rows after {seen}"
    assert now % batch == 0, f"{now} rows: half a transaction"
    seen = now
assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
connection.close()
print(seen)
"""


@pytest.fixture
def database(place: Place, journal: str) -> Path:
    """A database with an empty table `t`, made by the command line tool."""
    path = place.path / "test.db"
    schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, text TEXT); CREATE INDEX i ON t (n);"
    assert run("sqlite3", "-batch", path, f"PRAGMA journal_mode={journal}; {schema}") == f"{journal}\n"
    return path


def _child(source: str, database: Path, rows: int = ROWS) -> Conversation:
    return python_child(source, database, str(rows), str(BATCH), cwd=database.parent)


def _sql(database: Path, statement: str) -> str:
    return run("sqlite3", "-batch", "-bail", database, statement).strip()


def test_a_writer_and_readers_at_a_time(place: Place, database: Path) -> None:
    children = [_child(_READER, database), _child(_READER, database), _child(_WRITER, database)]
    with background(children):
        for child in reversed(children):
            assert child.finish().splitlines()[-1] == str(ROWS)
    assert _sql(database, "PRAGMA integrity_check; SELECT count(*), sum(n) FROM t") == (
        f"ok\n{ROWS}|{ROWS * (ROWS - 1) // 2}"
    )
    with closing(sqlite3.connect(place.server_path / "test.db")) as on_server:
        assert on_server.execute("SELECT count(*) FROM t").fetchone() == (ROWS,)


def test_two_writers_take_turns(database: Path) -> None:
    children = [_child(_WRITER, database, 500) for _ in range(2)]
    with background(children):
        for child in children:
            child.finish()
    assert _sql(database, "PRAGMA integrity_check; SELECT count(*) FROM t") == "ok\n1000"


def test_vacuum_and_delete(database: Path) -> None:
    _child(_WRITER, database).finish()
    before = database.stat().st_size
    assert _sql(database, "DELETE FROM t WHERE n >= 100; VACUUM; PRAGMA integrity_check") == "ok"
    assert _sql(database, "PRAGMA wal_checkpoint(TRUNCATE); SELECT count(*) FROM t").endswith("100")
    assert database.stat().st_size < before
    assert _sql(database, ".dump").count("INSERT INTO") == 100


def test_a_killed_writer_leaves_a_sound_database(database: Path) -> None:
    for _ in range(3):
        with _child(_WRITER, database, 100_000) as writer:
            confirmed = 0
            while confirmed < 3 * BATCH:
                confirmed = int(writer.hear())
            before = int(_sql(database, "PRAGMA busy_timeout=60000; SELECT count(*) FROM t").split()[-1])
            writer.kill()
        found = int(_sql(database, "SELECT count(*) FROM t"))
        assert found >= before >= confirmed
        assert found % BATCH == 0
        assert _sql(database, "PRAGMA integrity_check") == "ok"
