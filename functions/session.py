"""Transactions: how the store's statements reach the database, and what its being away is called."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache

from sqlalchemy import Connection, Engine, event, func
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session, create_engine, select

from functions import database
from functions.errors import Busy, Unusable


@contextmanager
def write() -> Iterator[Session]:
    """Run one transaction that may write; it commits at the end of the block.

    Raises:
        Busy: the database is locked, restarting or away; nothing was written.
        Unusable: a value cannot be stored, such as a NUL character.
    """
    with _refusals(), Session(engine(), expire_on_commit=False) as session, session.begin():
        yield session


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
    if database.is_sqlite():
        return datetime.now(UTC)
    now: datetime = session.exec(select(func.clock_timestamp())).one()
    return now.astimezone(UTC)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise refusal_of(error.orig or error) from error
    except PoolTimeout as error:
        raise Busy("all connections to the database are in use") from error


def refusal_of(error: BaseException) -> Busy | Unusable:
    """Return what a driver's error means to the caller (PEP 249 names the classes, so both drivers share them)."""
    if "no such table" in str(error) or "does not exist" in str(error):
        return Busy("the database has no tables yet: run `./taskw migrate`")
    if type(error).__name__ in {"DataError", "ProgrammingError", "UntranslatableCharacter"}:
        return Unusable("a value cannot be stored: remove control characters, and numbers out of range")
    return Busy("the database is busy or away")


@cache
def engine() -> Engine:
    """Return this process's engine; connections are made when first needed."""
    if not database.is_sqlite():
        url = database.postgresql_url().replace("postgresql://", "postgresql+psycopg://", 1)
        return create_engine(url, pool_pre_ping=True, pool_size=8, connect_args={"connect_timeout": 5})
    made = create_engine(f"sqlite:///{database.sqlite_path()}")

    @event.listens_for(made, "connect")
    def _prepare(connection: object, _record: object) -> None:
        database.prepare_sqlite(connection)  # type: ignore[arg-type]  # SQLAlchemy types it as any DB-API connection

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once: a lock upgraded half-way fails without waiting.
        reads = connection.get_execution_options().get("only_reads")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return made
