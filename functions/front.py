"""front: all functions in one process, for a laptop or a small installation with a single Service."""

from functions import (
    cancel,
    console,
    create_job,
    datasets,
    dead_letter,
    done,
    event,
    heartbeat,
    jobs,
    metrics,
    presign,
    sweep,
    uploads,
)
from functions.api.routes import function

#: the routes of the API; ``POST /`` goes to create-job
API = (
    heartbeat.record_heartbeat,
    event.record_event,
    done.report_done,
    presign.presign_object,
    jobs.list_jobs,
    jobs.get_job,
    jobs.describe_job,
    jobs.delete_job,
    jobs.list_job_events,
    jobs.get_job_metrics,
    jobs.get_job_log,
    jobs.list_job_artifacts,
    jobs.create_job_link,
    jobs.revoke_job_links,
    jobs.list_rejected_events,
    jobs.list_frameworks,
    jobs.get_openapi,
    datasets.list_datasets,
    datasets.get_dataset,
    datasets.delete_dataset,
    datasets.create_upload,
    datasets.get_upload,
    metrics.show_metrics,
    create_job.submit_job,
    create_job.validate_job,
    create_job.clone_job,
    create_job.resume_job,
    create_job.submit_job.at("/"),
    cancel.cancel_job,
    cancel.receive_cancel_event,
    sweep.run_sweep,
    uploads.receive_upload,
    dead_letter.receive_dead_letter,
)
#: all routes of all functions
ROUTES = (*API, *console.PAGES, console.get_asset)

front = function("front", *ROUTES)
