"""The stub, or the end that MODEL_NAME names: in a cluster, a trainer can end in more ways than on a laptop."""

import os
import sys

how, _, number = os.environ["MODEL_NAME"].partition("-")
if how == "exit":
    sys.exit(int(number))
if how == "hungry":
    hoard = [b"x" * 2**20 for _ in range(int(number))]
import stub  # noqa: E402, F401 -- it trains when it is imported
