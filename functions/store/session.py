"""Transactions: how the store's statements reach the database, and the errors of an unavailable database."""

import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from select import POLLIN, poll
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, event, func
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session, create_engine, select

from functions.domain.errors import Busy, Unusable
from functions.runtime.configuration import check_database
from functions.runtime.logs import log
from functions.runtime.settings import settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

#: SQLSTATEs of an undefined table and column; SQLite's code of a statement that does not fit the tables
_NO_TABLES = {"42P01", "42703", sqlite3.SQLITE_ERROR}
_DISK_FULL = {"53100", sqlite3.SQLITE_FULL}
#: Keepalives end an idle connection whose server vanished without closing it.
_CONNECT_OPTIONS = {"connect_timeout": 5, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
#: where a session holds the lines to log after its commit
_LINES = "lines"


@contextmanager
def write() -> Iterator[Session]:
    """Run one transaction that may write; it commits at the end of the block, and then logs its lines.

    Raises:
        Busy: the database is locked, restarting or unreachable; nothing was written.
        Unusable: a value cannot be stored, such as a NUL character.
    """
    with _refusals(), Session(engine(), expire_on_commit=False) as session:
        with session.begin():
            yield session
        for level, message, fields in session.info.get(_LINES, ()):
            log(level, message, **fields)


def log_after_commit(session: Session, level: int, message: str, **fields: Any) -> None:
    """Log a line once the transaction has committed, and never if it does not.

    A process that is killed between the two logs nothing. The timeline, written by the transaction itself, is complete.
    """
    session.info.setdefault(_LINES, []).append((level, message, fields))


@contextmanager
def read() -> Iterator[Session]:
    """Run one transaction that only reads.

    Raises:
        Busy: as ``write``.
    """
    reader = engine().execution_options(only_reads=True)
    with _refusals(), Session(reader, expire_on_commit=False) as session, session.begin():
        yield session


def database_now(session: Session) -> datetime:
    """Return the time by the one clock that all replicas share: the server's, or for SQLite this machine's."""
    if is_sqlite():
        return datetime.now(UTC)
    now: datetime = session.exec(select(func.clock_timestamp())).one()
    return now.astimezone(UTC)


@contextmanager
def sqlite_statements() -> Iterator[sqlite3.Connection]:
    """Lend SQLite's own connection for a transaction of a few statements, for the one hot path.

    Raises:
        Busy, Unusable: as ``write``.
    """
    with _refusals(), closing(engine().raw_connection()) as pooled:
        connection: Any = pooled.driver_connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.commit()
        except BaseException as error:
            # Its state is unknown: it must not return to the pool.
            pooled.invalidate(error)
            raise


@asynccontextmanager
async def statement() -> AsyncIterator[Any]:
    """Lend psycopg's own connection for one statement that is a transaction of its own, for the one hot path.

    SQLAlchemy's ``Connection`` costs that path more time than the statement.

    Raises:
        Busy, Unusable: as ``write``.
    """
    with _refusals():
        pooled = await async_engine().raw_connection()
        connection: Any = pooled.driver_connection
        try:
            yield connection
        except BaseException:
            await connection.close()  # its state is unknown; a closed connection is replaced at its next checkout
            raise
        finally:
            pooled.close()


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise _refusal_of(error.orig) from error
    except PoolTimeout as error:
        raise Busy("all connections to the database are in use") from error
    except engine().dialect.loaded_dbapi.Error as error:
        raise _refusal_of(error) from error


def _refusal_of(error: BaseException | None) -> Busy | Unusable:
    """Return the refusal for a driver's error, by its class, SQLSTATE or SQLite's code; never by its text."""
    state, code = getattr(error, "sqlstate", None), getattr(error, "sqlite_errorcode", None)
    if state in _NO_TABLES or code in _NO_TABLES:
        return Busy("the database has no tables yet, or those of another release: run `./taskw migrate`")
    if isinstance(error, engine().dialect.loaded_dbapi.DataError):
        return Unusable("a value cannot be stored: remove control characters, and numbers out of range")
    if state in _DISK_FULL or code in _DISK_FULL:
        log(logging.ERROR, "the database's disk is full: free some space")
        return Busy("the database's disk is full: free some space there")
    # The driver's message contains no secret: libpq omits the password.
    log(
        logging.WARNING,
        "the database is busy or unavailable",
        detail=str(error)[:300],
        sqlstate=state,
        sqlite_code=code,
    )
    return Busy("the database is busy or unavailable")


def is_sqlite() -> bool:
    """Return whether the store is an SQLite file; else it is PostgreSQL."""
    return settings().database_url.startswith("sqlite:")


def sqlite_path() -> Path:
    """Return the SQLite file of ``sqlite:///relative`` or ``sqlite:////absolute``; its folder exists afterwards."""
    path = Path(settings().database_url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def prepare_sqlite(connection: sqlite3.Connection) -> None:
    """Configure a new SQLite connection; transactions then begin only where the code begins them."""
    connection.isolation_level = None
    connection.execute("PRAGMA busy_timeout = 20000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


@cache
def engine() -> Engine:
    """Return this process's engine; connections are made when first needed.

    Raises:
        ConfigurationError: DATABASE_URL is neither an SQLite file nor a PostgreSQL URL.
    """
    check_database()
    return _sqlite_engine() if is_sqlite() else _postgresql_engine()


@cache
def async_engine() -> "AsyncEngine":
    """Return this process's engine for ``statement``: PostgreSQL's, with connections that an event loop waits for."""
    # Imported only where it is used: it takes a tenth of a cold start.
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415

    # No overflow and no reset: then a connection's return needs no waiting, which only a coroutine could do.
    made = create_async_engine(
        _postgresql_url(),
        pool_size=16,
        max_overflow=0,
        pool_reset_on_return=None,
        connect_args={**_CONNECT_OPTIONS, "autocommit": True},
    )
    event.listen(made.sync_engine, "checkout", _refuse_closed)
    return made


def _postgresql_engine() -> Engine:
    made = create_engine(_postgresql_url(), pool_size=8, connect_args=_CONNECT_OPTIONS)
    event.listen(made, "checkout", _refuse_closed)
    return made


def _postgresql_url() -> str:
    return f"postgresql+psycopg://{settings().database_url.partition('://')[2]}"


def _refuse_closed(_connection: object, record: Any, _proxy: object) -> None:
    """Have the pool replace a connection that the server has closed.

    To an idle connection a server sends only its end: the socket shows it without pool_pre_ping's round trip.
    """
    connection = record.driver_connection
    if connection.closed:
        raise DisconnectionError
    socket = poll()
    socket.register(connection.fileno(), POLLIN)
    if socket.poll(0):
        raise DisconnectionError


def _sqlite_engine() -> Engine:
    made = create_engine(f"sqlite:///{sqlite_path()}")

    @event.listens_for(made, "connect")
    def _prepare(connection: object, _record: object) -> None:
        prepare_sqlite(connection)  # type: ignore[arg-type]  # SQLAlchemy types it as any DB-API connection

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once: a lock upgraded half-way fails without waiting.
        reads = connection.get_execution_options().get("only_reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return made
