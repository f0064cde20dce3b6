"""A run of the tests that is stopped by a signal takes its PostgreSQL and its S3 server with it."""

import signal
from pathlib import Path

import pytest

from tests.conftest import ROOT, eventually
from tests.stopping import processes_of, started

pytestmark = pytest.mark.timeout(600)
WAITS = """
import time
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range(2))
def test_waits(postgresql, s3_server, number, request):
    Path(request.config.rootpath, f"waits-{number}").touch()
    time.sleep(600)
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_that_is_stopped_leaves_no_server(tmp_path: Path, environment: pytest.MonkeyPatch, workers: str) -> None:
    (tmp_path / "test_waits.py").write_text(WAITS)
    environment.setenv("PYTHONPATH", str(ROOT))
    words = ["-p", "tests.conftest", f"--rootdir={tmp_path}", "-n", workers, str(tmp_path)]
    with started("pytest", *words) as tests:
        eventually(lambda: len([*tmp_path.glob("waits-*")]) >= max(int(workers), 1), within_seconds=300)
        assert any("postgres" in command[0] for command in processes_of(tests.folder).values() if command)
        tests.process.send_signal(signal.SIGTERM)
        printed, _ = tests.process.communicate(timeout=300)

        assert "SIGTERM" in printed or "KeyboardInterrupt" in printed
        assert processes_of(tests.folder) == {}
        assert [*tests.folder.glob("stoker-postgresql-*")] == []
