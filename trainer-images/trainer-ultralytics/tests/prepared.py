"""ultralytics as the trainer prepares it: safe loading above all, which it reads when it is imported."""

import os
from collections.abc import Iterator

import pytest

import yolo


@pytest.fixture(scope="session", autouse=True)
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = dict(os.environ)
    yolo.prepare(tmp_path_factory.mktemp("scratch"))
    yield
    os.environ.clear()
    os.environ.update(before)
