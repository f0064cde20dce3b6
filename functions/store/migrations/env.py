"""Alembic's entry point: the URL comes from ``DATABASE_URL``, the tables from ``functions.store.tables``."""

from alembic import context
from sqlmodel import SQLModel

from functions.store import tables  # noqa: F401 -- fills the metadata
from functions.store.session import engine

with engine().begin() as connection:
    context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True)
    context.run_migrations()
