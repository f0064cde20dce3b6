"""The stub, or the end that MODEL_NAME names: in a cluster, a trainer can end in more ways than on a laptop."""

import os
import runpy
import signal
import sys
from pathlib import Path

if os.environ.get("JOB_COMPLETION_INDEX", "0") != "0":
    signal.pause()  # of several nodes, the first one calls back; the others would compute
how, _, number = os.environ["MODEL_NAME"].partition("-")
if how == "exit":
    print(f"ends with {number}", flush=True)
    sys.exit(int(number))
if how == "slow":
    os.environ["EPOCH_SECONDS"] = number
if how == "hungry":
    hoard = [b"x" * 2**20 for _ in range(int(number))]
runpy.run_path(str(Path(__file__).with_name("stub.py")), run_name="__main__")
