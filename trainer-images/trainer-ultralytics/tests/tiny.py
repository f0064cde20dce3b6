"""A trainer without a framework, for what all trainers share."""

import math
import sys
import time

from utils import Contract, run


def train(contract: Contract) -> dict[str, float]:
    last = contract.scratch / "last.pt"
    for epoch in range(1, contract.settings.epochs + 1):
        contract.check()
        contract.heartbeat(epoch=epoch, epochs=contract.settings.epochs, metrics={"loss": 1 / epoch, "bad": math.nan})
        last.write_bytes(f"weights of {epoch}".encode())
        contract.save_checkpoint(last, now=True)
        sys.stdout.write(f"\r{epoch} of many")
        time.sleep(0.05)  # stands for work
    contract.event("log", "odd", number=math.nan)
    contract.save_result(last, kind="checkpoints")
    return {"loss": 1.0, "worst": math.inf}


if __name__ == "__main__":
    sys.exit(run(train))
