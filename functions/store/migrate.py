"""Migrates the database to the newest schema: ``python -m functions.store.migrate``."""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from functions.runtime import logs
from functions.runtime.settings import settings
from functions.store.session import engine


def main(revision: str = "head") -> None:
    """Run the migrations up to a revision; do nothing if the schema is current, or that of a newer release.

    Functions work with newer tables, so a release can be rolled back without the schema.
    """
    logs.start(settings().log_format, settings().log_level)
    with engine().connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    newest = ScriptDirectory.from_config(configuration()).get_current_head()
    # Revisions are numbers with leading zeros.
    if current is not None and newest is not None and current > newest:
        logs.log(
            logging.WARNING, "the schema is newer than this release, which works with it", schema=current, newest=newest
        )
        return
    command.upgrade(configuration(), revision)
    logs.log(logging.INFO, "the schema is current", before=current)


def configuration() -> Config:
    """Return Alembic's configuration."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


if __name__ == "__main__":
    main()
