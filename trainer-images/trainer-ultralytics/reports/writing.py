"""Write and store report.json and report.html at the end of a training."""

import json
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from reports import page
from reports.content import Content
from reports.samples import of_all_attempts
from utils import Contract, StorageError

log = logging.getLogger("reports")


def write(contract: Contract, content: Content) -> list[Path]:
    """Store the report, and return its files. What cannot be written or stored is a warning."""

    @cache
    def report() -> dict[str, Any]:
        return content.as_json(contract.settings)

    def as_page() -> str:
        samples = of_all_attempts(contract)
        return page.render(report(), content, samples, contract.scratch, contract.settings.job_id)

    def as_json() -> str:
        return json.dumps(report(), ensure_ascii=False, allow_nan=False)

    texts = {"report.json": as_json, "report.html": as_page}
    paths = [contract.scratch / name for name in texts]
    return [path for path in paths if _is_stored(contract, path, texts[path.name])]


def _is_stored(contract: Contract, path: Path, text: Callable[[], str]) -> bool:
    try:
        path.write_text(text(), encoding="utf-8")
        contract.save_result(path)
    except StorageError as error:
        contract.warn_once(f"{path.name} was not stored: {error}")
    except Exception as error:
        log.exception("there is no %s", path.name)
        contract.warn_once(f"there is no {path.name}: {type(error).__name__}: {error}")
    else:
        return True
    return False
