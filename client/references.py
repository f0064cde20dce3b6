"""Find the job that a word means: its id, the beginning of its id, or its name."""

from client.api import Api, call
from client.errors import FAILED, CallError, Json

ID_LENGTH = 20
_SHORTEST_PREFIX = 2
_HEX = frozenset("0123456789abcdef")
#: the beginning of an id is looked for among this many of the newest jobs
_PAGE, _PAGES = 500, 10
_MANY = 5


def job(api: Api, reference: str) -> Json:
    """Return the job.

    Raises:
        CallError: no job matches, or several do.
    """
    word = reference.strip()
    if len(word) == ID_LENGTH and set(word) <= _HEX:
        return call(api, "GET", f"/v1/jobs/{word}")
    if word == "last":
        jobs = call(api, "GET", "/v1/jobs", query={"limit": 1})["jobs"]
        return _only(jobs, word, "there are no jobs yet")
    matching = _matching(api, word)
    return _only(matching, word, f"no job has the id or the name {word}; stoker jobs lists them")


def job_id(api: Api, reference: str) -> str:
    """Return the job's id. Raises: as ``job``."""
    return str(job(api, reference)["id"])


def _matching(api: Api, word: str) -> list[Json]:
    """Return the jobs whose id begins with the word, or else those whose name it is."""
    is_prefix = len(word) >= _SHORTEST_PREFIX and set(word.lower()) <= _HEX
    by_id: list[Json] = []
    by_name: list[Json] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        page = call(api, "GET", "/v1/jobs", query={"limit": _PAGE, "cursor": cursor})
        by_id += [row for row in page["jobs"] if is_prefix and row["id"].startswith(word.lower())]
        by_name += [row for row in page["jobs"] if word in {row.get("name"), row["dataset_id"]}]
        cursor = page["next_cursor"]
        if not cursor:
            break
    named = [row for row in by_name if row.get("name") == word]
    return by_id or named or by_name


def _only(jobs: list[Json], word: str, none: str) -> Json:
    if len(jobs) == 1:
        return jobs[0]
    if not jobs:
        raise CallError(none, {"title": "no such job"}, exit_code=FAILED)
    some = ", ".join(f"{row['id']} ({row['state']}, {row['created_at'][:16]})" for row in jobs[:_MANY])
    more = f" and {len(jobs) - _MANY} more" if len(jobs) > _MANY else ""
    raise CallError(f"{word} is not unique: {some}{more}; give more of the id", {"title": "several jobs"})
