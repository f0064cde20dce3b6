"""``python -m client``."""

from client.cli import app

app()
