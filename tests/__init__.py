"""The tests. What they share is in ``conftest``, ``fixtures`` and ``stopping``."""

import pytest

pytest.register_assert_rewrite("tests.fixtures", "tests.stopping")
