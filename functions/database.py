"""Where the store is: one URL, for SQLAlchemy and for the bare drivers alike."""

import sqlite3
from pathlib import Path

from functions.settings import check_database, settings


def is_sqlite() -> bool:
    """Say whether the store is an SQLite file; else it is PostgreSQL."""
    return settings().database_url.startswith("sqlite:")


def sqlite_path() -> Path:
    """Return the SQLite file of ``sqlite:///relative`` or ``sqlite:////absolute``; its folder exists afterwards."""
    path = Path(settings().database_url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def postgresql_url() -> str:
    """Return the URL as libpq takes it.

    Raises:
        ConfigurationError: DATABASE_URL is no PostgreSQL URL.
    """
    check_database()
    rest = settings().database_url.partition("://")[2]
    return f"postgresql://{rest}"


def prepare_sqlite(connection: sqlite3.Connection) -> None:
    """Set what every SQLite connection of ours needs; it then begins transactions only when told to."""
    connection.isolation_level = None
    connection.execute("PRAGMA busy_timeout = 20000")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
