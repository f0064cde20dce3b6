"""Migrates the database to the newest schema: ``python -m functions.store.migrate``."""

from pathlib import Path

from alembic import command
from alembic.config import Config


def main(revision: str = "head") -> None:
    """Run the migrations up to a revision; do nothing if the schema is current."""
    command.upgrade(configuration(), revision)


def configuration() -> Config:
    """Return Alembic's configuration."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


if __name__ == "__main__":
    main()
