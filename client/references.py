"""Find the job that a word refers to: by its id, a prefix of the id, its name, or its dataset's name."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence

from client import fields
from client.api import Api, call
from client.errors import FAILED, CallError, Json
from client.output import note

ID_LENGTH = 20
_SHORTEST_PREFIX = 2
_HEX = frozenset("0123456789abcdef")
#: a prefix of an id is searched among this many of the newest jobs
_PAGE, _PAGES = 500, 10
_MANY = 5


def job(api: Api, reference: str, *, is_strict: bool = False, prefers: Callable[[Json], bool] | None = None) -> Json:
    """Return the job; of several jobs with a name the newest one, with a note on stderr.

    ``is_strict``: refuse a name that several jobs have. ``prefers``: the jobs that are meant if there are any.

    Raises:
        CallError: no job matches, or several do.
    """
    word = unicodedata.normalize("NFC", reference.strip())
    if len(word) == ID_LENGTH and set(word) <= _HEX:
        return call(api, "GET", f"/v1/jobs/{word}")
    if word == "last":
        jobs = call(api, "GET", "/v1/jobs", query={"limit": _PAGE if prefers else 1})["jobs"]
        return _only(_preferred(jobs, prefers)[:1], word, "there are no jobs yet")
    rows = list(_newest(api))
    is_prefix = len(word) >= _SHORTEST_PREFIX and set(word.lower()) <= _HEX
    by_id = [row for row in rows if is_prefix and row["id"].startswith(word.lower())]
    field, by_name = _named(rows, word)
    named = _preferred(by_name, prefers)
    if not by_id and len(named) > 1 and not is_strict:
        newest = named[0]
        what = "have the name" if field == "name" else "are on the dataset"
        note(f"{len(named)} jobs {what} {newest[field]}; this is the newest: {newest['id']} ({newest['state']})")
        return newest
    near = fields.nearest(word, [str(row["name"]) for row in rows if row.get("name")])
    fix = f"did you mean {near}?" if near else "stoker jobs lists them"
    return _only(by_id or named, word, f"no job has the id or the name {word}; {fix}")


def _preferred(jobs: list[Json], prefers: Callable[[Json], bool] | None) -> list[Json]:
    return [row for row in jobs if prefers and prefers(row)] or jobs


def is_training(job: Json) -> bool:
    """Return whether a job trains."""
    return bool(job["task"] == "train")


def job_id(api: Api, reference: str) -> str:
    """Return the job's id. Raises: as ``job``."""
    return str(job(api, reference)["id"])


def _newest(api: Api) -> Iterator[Json]:
    """Yield the jobs among which one is looked for, newest first."""
    cursor: str | None = None
    for _ in range(_PAGES):
        page = call(api, "GET", "/v1/jobs", query={"limit": _PAGE, "cursor": cursor})
        yield from page["jobs"]
        cursor = page["next_cursor"]
        if not cursor:
            break


def _named(rows: Sequence[Json], word: str) -> tuple[str, list[Json]]:
    """Return the jobs that have the name, or else the dataset; its case counts only if both are there."""
    for changed in (str, str.casefold):
        for field in ("name", "dataset_id"):
            same = [row for row in rows if changed(row.get(field) or "") == changed(word)]
            if same:
                return field, same
    return "", []


def _only(jobs: list[Json], word: str, none: str) -> Json:
    if len(jobs) == 1:
        return jobs[0]
    if not jobs:
        raise CallError(none, {"title": "no such job"}, exit_code=FAILED)
    some = ", ".join(f"{row['id']} ({row['state']}, {row['created_at'][:16]})" for row in jobs[:_MANY])
    more = f" and {len(jobs) - _MANY} more" if len(jobs) > _MANY else ""
    raise CallError(f"{word} is not unique: {some}{more}; give more of the id", {"title": "several jobs"})
