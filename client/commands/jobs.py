"""The commands for jobs that exist: jobs, watch, logs, events, cancel, label, share, rm."""

import sys
from typing import Annotated

import typer

from client import fields, references, show, times
from client.api import Json, call, connect, request
from client.errors import FAILED, CallError, invalid
from client.options import AsJson, JobRef, trainer_option
from client.output import Column, note, print_error, print_json, print_table, width
from client.watching import detached_by_interrupt, watch_job

STATES = ("PENDING", "QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")
#: in terminals of fewer columns, a list has the main metric only, and shorter times
_WIDE = 125
#: an id is shown this long if no other job in the list begins alike
_SHORT_ID = 8
_COLUMNS = (
    Column("ID"),
    Column("NAME", optional=2, is_name=True),
    Column("STATE", is_state=True, is_flexible=True),
    Column("TASK", optional=7),
    Column("DATASET", is_name=True),
    Column("MODEL", optional=3, is_name=True),
    Column("EPOCH", is_number=True, optional=1),
    Column("METRICS", optional=4),
    Column("CREATED", optional=5),
    Column("TOOK", is_number=True, optional=6),
)


def jobs(
    *,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", "-s", metavar="STATE", help="running, failed, …; may be repeated, or a list: a,b."),
    ] = None,
    name: Annotated[str, typer.Option(metavar="TEXT", help="Jobs whose name contains this.")] = "",
    tag: Annotated[str, typer.Option("--tag", metavar="TAG", help="Jobs with this tag.")] = "",
    owner: Annotated[str, typer.Option(metavar="NAME", help="Jobs of this owner.")] = "",
    dataset: Annotated[str, typer.Option(metavar="NAME", help="Jobs on this dataset.")] = "",
    framework: Annotated[str, trainer_option("Jobs of this trainer.")] = "",
    since: Annotated[str, typer.Option(metavar="TIME", help="Jobs created since: 2d, 12h, 2026-11-26.")] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Jobs created before: 2d, 12h, 2026-11-26.")] = "",
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Oldest first.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, metavar="N", help="Number of jobs.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first.

    stoker jobs --state running --tag night --since 2d
    """
    states = _states(state or [])
    filters = {
        "state": ",".join(states) or None,
        "name": name or None,
        "tag": tag or None,
        "owner": owner or None,
        "dataset_id": dataset or None,
        "framework": framework or None,
        "created_after": times.moment(since, "--since") if since else None,
        "created_before": times.moment(until, "--until") if until else None,
        "sort": "created_at" if oldest_first else None,
    }
    page = call(connect(), "GET", "/v1/jobs", query=filters | {"limit": limit})
    if as_json:
        print_json(page)
    elif not page["jobs"]:
        print("no jobs" + (" match" if any(filters.values()) else " yet; start one: stoker train FOLDER --model NAME"))
    else:
        print_table(_COLUMNS, _rows(page["jobs"]))
        if page.get("next_cursor"):
            note(f"older jobs are left out: --limit {min(limit * 5, 500)} shows more")


def _states(words: list[str]) -> list[str]:
    states = [word.strip().upper() for each in words for word in each.split(",") if word.strip()]
    for each in states:
        if each not in STATES:
            raise invalid(fields.unknown(each.lower(), [state.lower() for state in STATES], "state"))
    return states


def _rows(jobs: list[Json]) -> list[list[str]]:
    """Return jobs as rows; ids are cut to what tells the jobs apart, unless a script reads them."""
    ids = [job["id"] for job in jobs]
    length = next(n for n in range(_SHORT_ID, 100) if len({each[:n] for each in ids}) == len(set(ids)))
    cells = width()
    is_brief = cells is not None and cells < _WIDE
    rows = [show.job_row(job, id_length=length if cells else None, is_brief=is_brief) for job in jobs]
    if is_brief and all(job["task"] == "train" for job in jobs):  # then a column of tasks is redundant
        return [
            ["" if column.header == "TASK" else cell for column, cell in zip(_COLUMNS, row, strict=True)]
            for row in rows
        ]
    return rows


def watch(job: JobRef, *, as_json: AsJson = False) -> None:
    """Show a job live until it ends; Ctrl-C leaves it running.

    Exits with 1 unless the job succeeds.
    """
    api = connect()
    watch_job(api, references.job_id(api, job), as_json=as_json)


def logs(
    job: JobRef,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print what is appended, until the job ends.")] = False,
    attempt: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The attempt; by default the last one.", show_default=False)
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Print lines as they are stored, with time, trace and job.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a job's log.

    stoker logs 3f2a --follow
    """
    from client import logs as job_logs  # noqa: PLC0415 -- only this command needs it

    api = connect()
    job_id = references.job_id(api, job)
    with detached_by_interrupt(job_id, f"stoker logs {job_id} --follow"):
        lines = job_logs.lines(api, job_id, attempt=attempt, is_followed=follow and not as_json)
        if as_json:
            print_json({"job_id": job_id, "lines": list(lines)})
            return
        for line in lines:
            print(line if raw else job_logs.short(line), flush=follow)


def events(
    job: JobRef,
    *,
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="state, event or heartbeat.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print a job's timeline: states, events and heartbeats."""
    from client.follow import events_of  # noqa: PLC0415 -- only this command needs it

    api = connect()
    timeline = events_of(api, references.job_id(api, job), kind=kind or None)
    if as_json:
        print_json({"events": list(timeline)})
        return
    for event in timeline:
        print(show.event_line(event))


def cancel(
    job: JobRef,
    *,
    message: Annotated[str, typer.Option("--message", "-m", metavar="TEXT", help="Why; shown with the job.")] = "",
    as_json: AsJson = False,
) -> None:
    """Cancel a job; its trainer stores a checkpoint and stops."""
    api = connect()
    row = references.job(api, job, is_strict=True, prefers=lambda each: each["state"] not in show.FINAL)
    cancelled = call(api, "POST", f"/v1/jobs/{row['id']}/cancel", body={"message": message} if message else {})
    if as_json:
        print_json(cancelled)
    else:
        later = f"; to go on later: stoker resume {cancelled['id']}" if cancelled.get("epoch") else ""
        print(f"job {cancelled['id']} is {cancelled['state']}{later}")


def label(
    job: JobRef,
    *,
    name: Annotated[str | None, typer.Option(help="The job's name.", metavar="TEXT", show_default=False)] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", metavar="TAG", help="The job's tags; may be repeated, replaces all.")
    ] = None,
    notes: Annotated[str | None, typer.Option(help="Notes on the job.", metavar="TEXT", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Give a job a name, tags or notes.

    stoker label 3f2a --name baseline --tag night
    """
    changes = {key: value for key, value in (("name", name), ("tags", tag), ("notes", notes)) if value is not None}
    if not changes:
        raise invalid("what to change? use --name, --tag or --notes")
    api = connect()
    path = f"/v1/jobs/{references.job_id(api, job)}"
    changed = call(api, "PATCH", path, body=changes, feature="names and tags of jobs")
    if as_json:
        print_json(changed)
    else:
        print(f"job {changed['id']}: {', '.join(f'{key} {_text(changed[key])}' for key in changes)}")


def _text(value: str | list[str] | None) -> str:
    return ", ".join(value) if isinstance(value, list) else value or "none"


def share(
    job: JobRef,
    *,
    days: Annotated[int, typer.Option(min=1, max=30, metavar="N", help="How long the link is valid.")] = 7,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Revoke all links to the job instead; a single one cannot be revoked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a link with which anyone can view one job, and nothing else.

    stoker share 3f2a --days 30
    """
    api = connect()
    job_id = references.job_id(api, job)
    path = f"/v1/jobs/{job_id}/links"
    if revoke:
        request(api, "DELETE", path, feature="revocation of links")
        if as_json:
            print_json({"revoked": job_id})
        else:
            print(f"all links to job {job_id} are revoked")
        return
    link = call(api, "POST", path, body={"valid_seconds": days * 86_400}, feature="links to jobs")
    if as_json:
        print_json(link)
    else:
        print(f"{api.url}{link['path']}")
        note(f"anyone with this link can view the job until {show.local_time(link['expires_at'])}")


def rm(
    jobs: Annotated[
        list[str], typer.Argument(metavar="JOB…", help="Ids, their beginnings, or names.", show_default=False)
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete ended jobs, with checkpoints, results and logs.

    The datasets stay.
    """
    api = connect()
    rows = list({row["id"]: row for row in (references.job(api, each, is_strict=True) for each in jobs)}.values())
    if not yes:
        if not sys.stdin.isatty():
            raise invalid("this deletes checkpoints and results for good; add --yes")
        for job in rows:
            print("  ".join(word for word in _described(job) if word))
        whose = "this job with its" if len(rows) == 1 else f"these {len(rows)} jobs with their"
        if not typer.confirm(f"Delete {whose} checkpoints and results?"):
            print("nothing is deleted")
            raise typer.Exit(FAILED)
    deleted, errors = [], list[CallError]()
    for job in rows:
        try:
            request(api, "DELETE", f"/v1/jobs/{job['id']}", feature="deletion of jobs")
        except CallError as error:
            errors.append(error)
            print_error(f"job {job['id']} is not deleted: {error}")
            continue
        deleted.append(job["id"])
        if not as_json:
            print(f"job {job['id']} is deleted")
    if as_json:
        print_json({"deleted": deleted, "errors": [error.problem for error in errors]})
    if errors:
        raise typer.Exit(errors[0].exit_code)


def _described(job: Json) -> list[str]:
    """Return what tells a job from others, before it is deleted."""
    words = (job.get("name"), job["dataset_id"], job["model_name"])
    return [job["id"], show.state(job), *(show.plain(word) for word in words), show.epochs(job)]
