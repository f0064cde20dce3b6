"""The migrations create exactly what the tables say."""

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlmodel import SQLModel

from functions import (
    migrate,
    tables,  # noqa: F401 -- fills the metadata
)
from functions.session import engine


@pytest.mark.usefixtures("database_url")
def test_migrations_create_what_the_tables_say() -> None:
    with engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SQLModel.metadata) == []


@pytest.mark.usefixtures("database_url")
def test_each_migration_can_be_undone_and_done_again() -> None:
    command.downgrade(migrate.configuration(), "0001")
    command.upgrade(migrate.configuration(), "head")

    test_migrations_create_what_the_tables_say()
