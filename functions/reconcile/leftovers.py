"""Leftovers in the bucket: what trainers store after their job's deletion, and datasets of predictions that are over.

Each step can be repeated after a crash: an object is deleted before the row that names it.
"""

import logging
from datetime import datetime, timedelta
from itertools import islice

from functions.domain import names
from functions.runtime import datasets, storage
from functions.runtime.logs import log
from functions.store import queries, upkeep

#: After a cancel, a trainer stores its last checkpoint and its log by links that it got before the job was deleted.
#: These expire after an hour; an upload that has started by then may take another hour.
STORED_WITHIN = timedelta(seconds=2 * storage.LINK_SECONDS)
#: the client deletes the dataset of a prediction itself, unless it was interrupted or the prediction has failed
TEMPORARY_FOR = timedelta(days=1)
#: older datasets of predictions stay
_SEARCHED_FOR = timedelta(days=8)
#: within one sweep; the next one continues
_LIMIT = 100


def delete(*, now: datetime) -> None:
    """Delete leftovers.

    Raises:
        Busy, ConfigurationError: the store or the storage is unavailable; the next sweep continues.
    """
    for job_id in upkeep.deleted_jobs(before=now - STORED_WITHIN, limit=_LIMIT):
        storage.delete_artifacts(job_id)
        upkeep.forget_deleted(job_id)
    expired = datasets.temporary(after=now - _SEARCHED_FOR, before=now - TEMPORARY_FOR)
    for dataset in islice(expired, _LIMIT):
        name = names.normalised(storage.dataset_stem(dataset.key))
        if not queries.open_jobs_of_dataset(name, limit=1):
            datasets.delete(dataset.key)
            log(logging.INFO, "the dataset of a prediction is deleted", dataset_id=name, etag=dataset.etag)
