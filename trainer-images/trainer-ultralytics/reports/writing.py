"""Write and store report.json at the end of a training."""

import json
import logging
from pathlib import Path

from reports.content import Content
from utils import Contract, StorageError

log = logging.getLogger("reports")


def write(contract: Contract, content: Content) -> list[Path]:
    """Store the report, and return its files. What cannot be written or stored is a warning."""
    path = contract.scratch / "report.json"
    try:
        report = content.as_json(contract.settings)
        path.write_text(json.dumps(report, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        contract.save_result(path)
    except StorageError as error:
        contract.warn_once(f"{path.name} was not stored: {error}")
    except Exception as error:
        log.exception("there is no %s", path.name)
        contract.warn_once(f"there is no {path.name}: {type(error).__name__}: {error}")
    else:
        return [path]
    return []
