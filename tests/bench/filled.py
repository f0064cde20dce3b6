"""Fill stores with years of jobs; the database itself generates the rows, in minutes."""

from datetime import datetime, timedelta

import psycopg

#: of finished and of open jobs
EVENTS_PER_JOB = 10
#: one of this many finished jobs has a rare framework
RARE = 20_000
#: finished jobs are spread over this many days before now
DAYS = 30

# IDs consist of the time and random characters. State, framework and time depend on the number, so that each filter selects a share.
_JOBS = """
INSERT INTO job (id, identity, state, reason, liveness, framework, task, dataset_id, model_name, spec, trace_id, attempt,
    attempt_limit, launch, sequence, epoch, epochs, metrics, artifacts, created_at, submitted_at, queued_at, started_at,
    finished_at, heartbeat_at, progress_at, name, name_key, owner)
SELECT lpad(to_hex(extract(epoch FROM at)::bigint), 8, '0') || substr(md5(%(salt)s || n), 1, 12),
    encode(sha256(convert_to('["upload", "stoker", "datasets/' || n || '.zip", "' || md5(%(salt)s || n) || '"]', 'UTF8')), 'hex'),
    state, CASE state WHEN 'FAILED' THEN 'lost' END, CASE state WHEN 'RUNNING' THEN 'live' END,
    CASE WHEN state <> 'RUNNING' AND n %% %(rare)s = 0 THEN 'rare' ELSE 'stub' END, 'train', 'dataset-' || n %% 5000,
    'stub-1', '{"framework": "stub", "model_name": "stub-1", "dataset_id": "digits", "epochs": 8}', md5('t' || n), 1, 1, 1,
    CASE state WHEN 'RUNNING' THEN 3 ELSE 4 END, 8, 8, '{"loss": 0.25, "mAP50": 0.75}', '[]',
    at, at, at, at, CASE WHEN state <> 'RUNNING' THEN at + interval '1 hour' END, heard_at, heard_at,
    'Night run ' || n, 'night run ' || n, 'person-' || n %% 50
FROM (
    SELECT n, CASE WHEN %(open)s THEN 'RUNNING' WHEN n %% 10 = 0 THEN 'FAILED' ELSE 'SUCCEEDED' END AS state,
        %(at)s - (%(count)s - n) * %(apart)s - interval '2 hours' AS at,
        CASE WHEN %(open)s THEN %(at)s ELSE %(at)s - (%(count)s - n) * %(apart)s - interval '1 hour' END AS heard_at
    FROM generate_series(1, %(count)s) AS n
) AS numbered
"""
_TAGS = """
INSERT INTO job_tag (job_id, tag, created_at)
SELECT id, CASE framework WHEN 'rare' THEN 'rare' ELSE 'night' END, created_at FROM job ORDER BY created_at
"""
# In the order of the indexes, so that they grow at their end.
_EVENTS = """
INSERT INTO job_event (job_id, kind, type, attempt, epoch, metrics, ce_source, ce_id, at)
SELECT job.id, 'heartbeat', 'heartbeat', 1, n, '{"loss": 0.25, "mAP50": 0.75, "mAP50-95": 0.5}', '/v1/jobs/' || job.id,
    md5(job.id || n), job.started_at + n * interval '1 minute'
FROM (SELECT id, started_at FROM job ORDER BY id) AS job CROSS JOIN generate_series(1, %(events)s) AS n
"""
_OUTBOX = """
INSERT INTO outbox (job_id, sequence, type, data, trace_id, created_at, sent_at)
SELECT id, 4, 'dev.stoker.job.succeeded', '{"state": "SUCCEEDED"}', trace_id, finished_at, finished_at
FROM job WHERE finished_at IS NOT NULL ORDER BY id
"""


def fill(url: str, *, finished: int, running: int, now: datetime) -> None:
    """Fill an empty PostgreSQL store with jobs that ended before ``now``, running jobs, and their events."""
    with psycopg.connect(url, autocommit=True) as connection:
        # Foreign keys are checked row by row; these rows satisfy them by construction.
        connection.execute("SET session_replication_role = replica")
        for count, is_open in ((finished, False), (running, True)):
            days = timedelta(minutes=10) if is_open else timedelta(days=DAYS)
            values = {
                "count": count, "open": is_open, "at": now, "apart": days / max(count, 1), "rare": RARE,
                "salt": "r" if is_open else "f",
            }  # fmt: skip
            connection.execute(_JOBS, values)
        connection.execute(_TAGS)
        connection.execute(_EVENTS, {"events": EVENTS_PER_JOB})
        connection.execute(_OUTBOX)
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
