"""Participations in SQLite: conditions dealt out evenly, one participation each, and what is acknowledged is on disk.

Every call opens the database, which costs a fraction of a millisecond, so that any thread or process may call.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.study.answers import Participation
from featvis.errors import UserError

FILE = "answers.sqlite"
TABLES = """
create table if not exists study (hash text primary key, name text not null);
create table if not exists starts (participant text primary key, condition text not null, started real not null);
create table if not exists participations (participant text primary key, data text not null, arrived real not null);
"""


class Busy(RuntimeError):
    """The database cannot be written now; the message says why, and that trying again may help."""


class Store:
    """The answers to one study.

    Args:
        path: of the database; it is made where it is not there.
        name: of the study.
        digest: of its trials.
        conditions: that there are.
        wait: seconds to wait for another writer.
        patience: seconds after which somebody who has started, but not ended, is no longer waited for.

    Raises:
        UserError: for a file that is no database, cannot be written, or is of another study.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        digest: str,
        conditions: Sequence[str],
        wait: float = 10.0,
        patience: float = 3600.0,
    ) -> None:
        self.path, self.conditions, self.wait, self.patience = path, list(conditions), wait, patience
        try:
            with self._open() as db:
                db.execute("pragma journal_mode = wal")
                db.executescript(TABLES)
                db.execute("insert into study select ?, ? where not exists (select * from study)", (digest, name))
        except (sqlite3.DatabaseError, OSError) as error:
            raise UserError(f"{path} cannot be used as a database ({error}); name another with --database") from error
        check_study(path, digest)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=self.wait, isolation_level=None)
        try:
            # What has been acknowledged survives a power cut too.
            db.execute("pragma synchronous = full")
            yield db
        finally:
            db.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._open() as db:
                db.execute("begin immediate")
                try:
                    yield db
                except BaseException:
                    # On a full disk SQLite has done it already.
                    if db.in_transaction:
                        db.execute("rollback")
                    raise
                db.execute("commit")
        except sqlite3.OperationalError as error:
            reason = "is full" if "full" in str(error) else f"cannot be written now ({error})"
            raise Busy(f"the database {reason}; nothing is lost, please send it again") from error

    def start(self, participant: str) -> str:
        """The condition that somebody is in: always the same, and of those that have the fewest people.

        Raises:
            Busy: when the database cannot be written.
        """
        now = time.time()
        with self._writing() as db:
            there = db.execute("select condition from starts where participant = ?", (participant,)).fetchone()
            if there is not None:
                return str(there[0])
            counts = dict.fromkeys(self.conditions, 0)
            # Those who left without an answer make room.
            found = db.execute(
                "select condition, count(*) from starts where started > ? or participant in "
                "(select participant from participations) group by condition",
                (now - self.patience,),
            )
            counts |= {c: n for c, n in found if c in counts}
            condition = min(self.conditions, key=lambda c: (counts[c], self.conditions.index(c)))
            db.execute("insert into starts values (?, ?, ?)", (participant, condition, now))
        return condition

    def add(self, given: Participation) -> bool:
        """Keep a participation; whether it is new. The same one again changes nothing.

        Raises:
            UserError: for somebody who has answered otherwise before, or was in another condition.
            Busy: when the database cannot be written.
        """
        data = json.dumps(asdict(given), sort_keys=True, ensure_ascii=False)
        with self._writing() as db:
            started = db.execute("select condition from starts where participant = ?", (given.participant,)).fetchone()
            if started is not None and started[0] != given.condition:
                raise UserError(
                    f"participant {given.participant} was in the condition {started[0]}, not {given.condition}"
                )
            there = db.execute("select data from participations where participant = ?", (given.participant,)).fetchone()
            if there is not None and there[0] != data:
                raise UserError(f"participant {given.participant} has taken part already, with other answers")
            if there is not None:
                return False
            if started is None:
                db.execute("insert into starts values (?, ?, ?)", (given.participant, given.condition, time.time()))
            db.execute("insert into participations values (?, ?, ?)", (given.participant, data, time.time()))
        return True


def _read(path: Path, question: str) -> list[tuple[Any, ...]]:
    """What a database answers to a question; it is left as it is."""
    if not path.is_file():
        raise UserError(f"there is no database {path}; `featvis study serve` makes one")
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(question).fetchall()
        finally:
            db.close()
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path} cannot be read as a database of answers ({error})") from error


def check_study(path: Path, digest: str) -> None:
    """Check that a database is of the study whose trials have this hash.

    Raises:
        UserError: for a database of another study, or a file that is none.
    """
    if _read(path, "select hash from study") != [(digest,)]:
        raise UserError(f"{path} holds the answers to another making of the study; name another with --database")


def counts(path: Path, conditions: Sequence[str]) -> dict[str, tuple[int, int]]:
    """How many have started and how many have finished in each condition.

    Raises:
        UserError: for a file that is no database of answers.
    """
    started = dict(_read(path, "select condition, count(*) from starts group by condition"))
    done = dict(
        _read(
            path,
            "select condition, count(*) from starts where participant in (select participant from participations) "
            "group by condition",
        )
    )
    return {c: (started.get(c, 0), done.get(c, 0)) for c in conditions}


def export(path: Path) -> list[dict[str, Any]]:
    """Every participation in a database, in the order of their arrival.

    Raises:
        UserError: for a file that is no database of answers.
    """
    rows = _read(path, "select data from participations order by arrived, participant")
    return [json.loads(row[0]) for row in rows]
