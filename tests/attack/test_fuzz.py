"""A short run of ``./taskw fuzz``, which starts from the notifications of real storages."""

import re
import subprocess
import sys

from tests.conftest import ROOT


def test_no_notification_breaks_the_parsers() -> None:
    command = [sys.executable, "-m", "tests.attack.fuzz", "15", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr[-4_000:]
    runs = re.search(r"Done (\d+) runs", result.stderr)
    assert runs is not None
    assert int(runs[1]) > 200
