"""The wallet's balances and reservations, in SQLite.

Each method is one transaction: a process that is killed leaves either all of it or nothing. Each is idempotent, because NATS
delivers at least once. Several wallets may share the file.

An account's balance is what is not reserved. balance + reservations = deposits - charges, at any moment.
"""

import sqlite3
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass

SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (user_id TEXT PRIMARY KEY, balance INTEGER NOT NULL, deposited INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    call_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, state TEXT NOT NULL, grant_id TEXT, until_ms INTEGER NOT NULL,
    first_grant_id TEXT, reserved INTEGER NOT NULL, charged INTEGER NOT NULL DEFAULT 0, reserved_at REAL NOT NULL,
    wanted_ms INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS open_reservations ON calls (reserved_at) WHERE state = 'reserved';
CREATE INDEX IF NOT EXISTS wanted_renewals ON calls (wanted_ms) WHERE state = 'running' AND wanted_ms > 0;
"""
# The states of a call: `reserved` by authorize, `running` once `requested` is stored, `settled`, or `released` because no
# `requested` followed. `wanted_ms`: the `untilMs` of a `credit_low` that the balance did not cover.


@dataclass(frozen=True)
class Price:
    """What is reserved and charged. Amounts are in the smallest unit of the currency."""

    per_interval: int
    interval_ms: int
    first_intervals: int
    renew_intervals: int
    max_ms: int
    opening_balance: int = 0


@dataclass(frozen=True)
class Grant:
    grant_id: str
    until_ms: int


class Ledger:
    def __init__(self, path: str, price: Price):
        self.price = price
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        # A power cut must not lose a reservation that was granted.
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self):
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def deposit(self, user_id: str, amount: int) -> None:
        with self._transaction():
            self._open_account(user_id)
            self._db.execute(
                "UPDATE accounts SET balance = balance + ?, deposited = deposited + ? WHERE user_id = ?",
                (amount, amount, user_id),
            )

    def authorize(self, call_id: str, user_id: str) -> Grant | None:
        """Reserves the first intervals; None if the balance does not cover one. The same call again has the same grant."""
        with self._transaction():
            call = self._call(call_id)
            if call is not None:
                again = call["state"] in ("reserved", "running") and call["user_id"] == user_id
                return Grant(call["grant_id"], call["until_ms"]) if again and call["grant_id"] else None
            self._open_account(user_id)
            intervals = min(self.price.first_intervals, self._affordable(user_id), self._most_intervals())
            if intervals == 0:
                return None
            grant = Grant(uuid.uuid4().hex, intervals * self.price.interval_ms)
            amount = intervals * self.price.per_interval
            self._add(user_id, -amount)
            self._insert(call_id, user_id, "reserved", grant, amount)
            return grant

    def requested(self, call_id: str, user_id: str, grant_id: str | None) -> None:
        """The call exists: its reservation stays until it is settled."""
        with self._transaction():
            call = self._call(call_id)
            if call is None:
                # The edge's fallback, or a call without credit control: its bill is charged without a reservation.
                self._open_account(user_id)
                self._insert(call_id, user_id, "running", None, 0)
            elif call["state"] == "reserved":
                self._db.execute("UPDATE calls SET state = 'running' WHERE call_id = ?", (call_id,))
                if call["first_grant_id"] != grant_id:
                    # The edge did not wait for the answer, and granted its fallback.
                    self._add(user_id, call["reserved"])
                    self._db.execute(
                        "UPDATE calls SET grant_id = NULL, until_ms = 0, reserved = 0 WHERE call_id = ?", (call_id,)
                    )
            elif call["state"] == "released":
                # It was stored later than a minute after the answer.
                amount = call["until_ms"] // self.price.interval_ms * self.price.per_interval
                self._add(user_id, -amount)
                self._db.execute("UPDATE calls SET state = 'running', reserved = ? WHERE call_id = ?", (amount, call_id))

    def renew(self, call_id: str, until_ms: int) -> Grant | None:
        """Reserves more, once for each `until_ms`; the grant to send, or None if nothing is left."""
        with self._transaction():
            call = self._call(call_id)
            if call is None or call["state"] not in ("reserved", "running"):
                return None
            if call["until_ms"] > until_ms:
                # Renewed already: the grant may not have arrived.
                return Grant(call["grant_id"], call["until_ms"])
            room = self._most_intervals() - until_ms // self.price.interval_ms
            intervals = min(self.price.renew_intervals, self._affordable(call["user_id"]), room)
            if intervals <= 0:
                self._db.execute("UPDATE calls SET wanted_ms = ? WHERE call_id = ?", (until_ms if room > 0 else 0, call_id))
                return None
            grant = Grant(uuid.uuid4().hex, until_ms + intervals * self.price.interval_ms)
            amount = intervals * self.price.per_interval
            self._add(call["user_id"], -amount)
            self._db.execute(
                "UPDATE calls SET grant_id = ?, until_ms = ?, reserved = reserved + ? WHERE call_id = ?",
                (grant.grant_id, grant.until_ms, amount, call_id),
            )
            return grant

    def wanted(self) -> list[tuple[str, int]]:
        """Renewals that the balance did not cover when they were due, and covers now: each with its `until_ms`."""
        rows = self._db.execute(
            """SELECT call_id, wanted_ms FROM calls JOIN accounts USING (user_id)
               WHERE state = 'running' AND wanted_ms > 0 AND balance >= ? LIMIT 100""",
            (self.price.per_interval,),
        )
        return [(row["call_id"], row["wanted_ms"]) for row in rows]

    def answered(self, call_id: str, until_ms: int) -> None:
        """The renewal at this `until_ms` was sent, and answered."""
        self._db.execute("UPDATE calls SET wanted_ms = 0 WHERE call_id = ? AND wanted_ms = ?", (call_id, until_ms))

    def settled(self, call_id: str, user_id: str, billed_minutes: int) -> None:
        """Charges the bill, and refunds what was reserved beyond it."""
        with self._transaction():
            call = self._call(call_id)
            if call is None:
                self._open_account(user_id)
                self._insert(call_id, user_id, "running", None, 0)
                call = self._call(call_id)
            if call["state"] == "settled":
                return
            charge = billed_minutes * self.price.per_interval
            self._add(user_id, call["reserved"] - charge)
            self._db.execute(
                "UPDATE calls SET state = 'settled', reserved = 0, charged = ? WHERE call_id = ?", (charge, call_id)
            )

    def unconfirmed(self, age_s: float) -> list[str]:
        """Calls that were authorized longer ago, and of which no `requested` was read."""
        rows = self._db.execute(
            "SELECT call_id FROM calls WHERE state = 'reserved' AND reserved_at <= ? LIMIT 100", (time.time() - age_s,)
        )
        return [row["call_id"] for row in rows]

    def release(self, call_id: str) -> None:
        """Refunds a reservation of which no `requested` is stored."""
        with self._transaction():
            call = self._call(call_id)
            if call is not None and call["state"] == "reserved":
                self._add(call["user_id"], call["reserved"])
                self._db.execute("UPDATE calls SET state = 'released', reserved = 0 WHERE call_id = ?", (call_id,))

    def balances(self) -> list[dict]:
        """Of each user: the balance, what is reserved and what was charged."""
        rows = self._db.execute(
            """SELECT user_id, balance, deposited,
                   (SELECT COALESCE(SUM(reserved), 0) FROM calls WHERE calls.user_id = accounts.user_id) AS reserved,
                   (SELECT COALESCE(SUM(charged), 0) FROM calls WHERE calls.user_id = accounts.user_id) AS charged
               FROM accounts ORDER BY user_id"""
        )
        return [dict(row) for row in rows]

    def _call(self, call_id: str):
        return self._db.execute("SELECT * FROM calls WHERE call_id = ?", (call_id,)).fetchone()

    def _open_account(self, user_id: str) -> None:
        opening = self.price.opening_balance
        self._db.execute("INSERT OR IGNORE INTO accounts VALUES (?, ?, ?)", (user_id, opening, opening))

    def _insert(self, call_id: str, user_id: str, state: str, grant: Grant | None, amount: int) -> None:
        grant_id, until_ms = (grant.grant_id, grant.until_ms) if grant else (None, 0)
        self._db.execute(
            "INSERT INTO calls (call_id, user_id, state, grant_id, until_ms, first_grant_id, reserved, reserved_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (call_id, user_id, state, grant_id, until_ms, grant_id, amount, time.time()),
        )

    def _add(self, user_id: str, amount: int) -> None:
        self._db.execute("UPDATE accounts SET balance = balance + ? WHERE user_id = ?", (amount, user_id))

    def _affordable(self, user_id: str) -> int:
        row = self._db.execute("SELECT balance FROM accounts WHERE user_id = ?", (user_id,)).fetchone()
        return max(row["balance"], 0) // self.price.per_interval

    def _most_intervals(self) -> int:
        return self.price.max_ms // self.price.interval_ms
