"""The contract's rules: each with the scenario that decides it, and a check.

A check returns a message about the violation, or None.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.contract.proxy import Call
from tests.contract.scenarios import AWAY_SECONDS, RETRY_AFTER_SECONDS
from tests.contract.workbench import STORAGE_SECRET, Run

Check = Callable[..., str | None]
GRACE_SECONDS = 30.0
STOP_SECONDS = 30.0
_BODY_LIMIT_BYTES = 64 * 1024
_CLOCK_ERROR_SECONDS = 0.2
#: heartbeats that may be in flight when the first 409 arrives
_CONFLICTS = 3


class Rule(NamedTuple):
    """One rule of the contract."""

    name: str
    is_required: bool
    sentence: str
    scenario: str
    check: Check


def _started_first(run: Run) -> str | None:
    first = run.calls[0] if run.calls else None
    is_started = first is not None and first.name == "event" and (first.body or {}).get("type") == "started"
    return None if is_started else f"the first call was {_name(first)}"


def _attempt(run: Run) -> str | None:
    without = [call for call in run.calls[1:] if call.name != "presign" and (call.body or {}).get("attempt") != 1]
    return f"{_name(without[0])} did not name attempt 1" if without else None


def _epochs(run: Run) -> str | None:
    epochs = [(call.body or {})["epoch"] for call in run.beats]
    wanted = int(run.job["epochs"] or 0) or max(epochs, default=0)
    if epochs != sorted(epochs):
        return f"epochs went back: {epochs}"
    return None if wanted and wanted in epochs else f"the last epoch, {wanted or '?'}, was in no heartbeat: {epochs}"


def _in_time(run: Run) -> str | None:
    """Heartbeats may be a little late, while a framework is imported."""
    longest = _longest_silence(run.calls)
    return f"{longest:.1f} s passed without a callback; HEARTBEAT_SECONDS was 1" if longest > 3 else None


def _longest_silence(calls: list[Call]) -> float:
    """Return the longest time between two callbacks, without the time that the functions took to respond."""
    longest, silence, answered_at = -math.inf, 0.0, math.inf
    for call in sorted(calls, key=lambda call: call.at):
        silence += max(call.at - answered_at, 0.0)
        answered_at = call.answered_at
        if call.name != "presign":
            longest, silence = max(longest, silence), 0.0
    return longest if len(calls) > 1 else math.inf


def _done_once(run: Run) -> str | None:
    accepted = [call for call in run.dones if call.status == 200]
    if len(accepted) != 1:
        return f"done was accepted {len(accepted)} times"
    return None if run.job["state"] == "SUCCEEDED" else f"the job is {run.job['state']}"


def _artifacts(run: Run) -> str | None:
    artifacts = (run.dones[-1].body or {}).get("artifacts") if run.dones else None
    if not artifacts:
        return "done named no artifacts"
    missing = [key for key in artifacts if key not in run.stored]
    return f"done named {missing[0]}, which is not in storage" if missing else None


def _prefixes(run: Run) -> str | None:
    return f"wrote {run.strange[0]}, which is not below its own prefixes" if run.strange else None


def _checkpoints(run: Run) -> str | None:
    missing = [name for name in ("last.pt", "best.pt") if f"checkpoints/job-{run.job_id}/{name}" not in run.stored]
    return f"there is no checkpoints/job-{run.job_id}/{missing[0]}" if missing else None


def _log(run: Run) -> str | None:
    return None if f"logs/job-{run.job_id}/attempt-1.log" in run.stored else "there is no logs/job-{id}/attempt-1.log"


def _trace(run: Run) -> str | None:
    lines = [line for text in _texts(run) for line in text.splitlines() if line.strip()]
    without = [line for line in lines if f"[TRACE:{run.trace_id}]" not in line]
    if not lines:
        return "nothing was printed"
    return f"this line has no [TRACE:…]: {without[0][:80]!r}" if without else None


def _secrets(run: Run) -> str | None:
    secrets = {
        "its callback token": run.token,
        "the storage's secret": STORAGE_SECRET,
        "a presigned link": "Signature=",
    }
    renewed = [("a new token", token) for token in _renewed(run)]
    leaked = [what for what, secret in (*secrets.items(), *renewed) for text in _texts(run) if secret in text]
    return f"the log holds {leaked[0]}" if leaked else None


def _bodies(run: Run) -> str | None:
    for call in run.calls:
        if call.size_bytes > _BODY_LIMIT_BYTES or call.body is None or (call.status or 0) in {413, 415, 422}:
            return f"{_name(call)} has an unusable body: {call.answer.get('detail', call.size_bytes)}"
    return None


def _renewal(run: Run) -> str | None:
    offered = next((number for number, call in enumerate(run.calls) if call.answer.get("token")), None)
    if offered is None:
        return "there was no heartbeat whose response could have a new token"
    later = [call for call in run.calls[offered + 2 :] if call.name == "done"]
    tokens = {f"Bearer {token}" for token in _renewed(run)}
    used = [call for call in later if call.headers.get("authorization") in tokens]
    return None if used else "done still had the old token"


def _survives(run: Run) -> str | None:
    if run.exit_code != 0 or run.job["state"] != "SUCCEEDED":
        return f"exit code {run.exit_code}, the job is {run.job['state']}"
    return None


def _same_id(run: Run) -> str | None:
    if run.job["attempt"] != 1:
        return f"started was sent again with another ID after its response was lost: attempt {run.job['attempt']}"
    ids = {_id(call) for call in run.dones}
    return (
        None if len(ids) == 1 and None not in ids else "done was sent again without the same ce-id or Idempotency-Key"
    )


def _retry_after(run: Run) -> str | None:
    busy = [call for call in run.calls if call.status == 429]
    if not busy:
        return f"no call got the 429; there were {len(run.beats)} heartbeats"
    later = [call.at for call in run.calls if call.at > busy[0].at and call.name != "presign"]
    early = [now for now in later if now - busy[0].at < RETRY_AFTER_SECONDS - _CLOCK_ERROR_SECONDS]
    return (
        f"called again after {early[0] - busy[0].at:.1f} s; Retry-After was {RETRY_AFTER_SECONDS:g} s"
        if early
        else None
    )


def _retries(run: Run) -> str | None:
    """Events and ``done`` must be delivered; of heartbeats, only the newest."""
    for number, call in enumerate(run.calls):
        is_repeated = any(later.name == call.name and later.body == call.body for later in run.calls[number + 1 :])
        if call.status is None and call.name in {"event", "done"} and not is_repeated:
            return f"{_name(call)} got no response, and was not sent again"
    if not any(call.fault and call.fault.kind == "away" for call in run.calls):
        return f"no call was made during the outage of {AWAY_SECONDS:g} s: neither heartbeats nor done"
    return None


def _interrupted(first: Run, _second: Run) -> str | None:
    if first.signalled_at is None or first.exit_code == 0:
        return "it ended before SIGTERM: configure more epochs"
    took = first.ended_at - first.signalled_at
    if first.exit_code != 143:
        return f"exit code {first.exit_code} after {took:.0f} s, not 143"
    if took > GRACE_SECONDS:
        return f"it took {took:.0f} s to exit; the grace is {GRACE_SECONDS:g} s"
    types = [(call.body or {}).get("type") for call in first.proxy.named("event")]
    return None if "interrupted" in types else "the event interrupted was not sent"


def _saved_on_term(first: Run, _second: Run) -> str | None:
    return None if f"checkpoints/job-{first.job_id}/last.pt" in first.stored else "there is no last.pt in storage"


def _resumes(first: Run, second: Run) -> str | None:
    before = max(((call.body or {})["epoch"] for call in first.beats), default=0)
    after = min(((call.body or {})["epoch"] for call in second.beats), default=None)
    if second.exit_code != 0 or second.job["state"] != "SUCCEEDED":
        return f"the second start ended with exit code {second.exit_code}, the job is {second.job['state']}"
    # Epochs that were not stored may be repeated, but the first one was stored.
    # None: the last epoch was stored before the end of the first run; only ``done`` was left.
    return f"it began again with epoch 1, after {before} finished epochs" if after == 1 and before else None


def _second_attempt(_first: Run, second: Run) -> str | None:
    answer = next((call.answer for call in second.calls if (call.body or {}).get("type") == "started"), {})
    return None if answer.get("attempt") == 2 else "the second start did not claim the job"


def _stops(run: Run) -> str | None:
    if run.signalled_at is None or run.exit_code is None:
        return f"it went on for more than {STOP_SECONDS:g} s after its job was cancelled"
    took = run.ended_at - run.signalled_at
    if took > STOP_SECONDS:
        return f"it went on for {took:.0f} s after its job was cancelled"
    refused = [call for call in run.proxy.named("heartbeat") if call.status == 409]
    if len(refused) > _CONFLICTS:
        return f"{len(refused)} heartbeats got a 409"
    return None if run.job["state"] == "CANCELLED" else f"it ended before it was cancelled: {run.job['state']}"


def _no_crash(run: Run) -> str | None:
    if run.exit_code is None:
        return "it did not end"
    return "an exception reached the training" if "Traceback" in run.output else None


def _exit_of_dataset(run: Run) -> str | None:
    return None if run.exit_code == 65 else f"exit code {run.exit_code}, not 65"


def _reason_of_dataset(run: Run) -> str | None:
    return None if run.job["reason"] == "dataset_invalid" else f"the job is {run.job['state']}, {run.job['reason']}"


def _not_trained(run: Run) -> str | None:
    if run.exit_code != 65:
        return f"exit code {run.exit_code}, not 65"
    if run.beats or any(key.startswith("checkpoints/") for key in run.stored):
        return "it trained on a dataset that is not the version of DATASET_ETAG"
    return _reason_of_dataset(run)


def _marker(run: Run) -> str | None:
    stored = run.stored.get(f"results/job-{run.job_id}/done.json")
    if stored is None:
        return "there is no results/job-{id}/done.json"
    sent = {**((run.dones[-1].body or {}) if run.dones else {}), "attempt": 1}
    return None if json.loads(stored) == sent else f"done.json is not the body of done: {stored[:80]!r}"


def _exit_of_settings(run: Run) -> str | None:
    return None if run.exit_code in range(64, 79) else f"exit code {run.exit_code}, not 64 to 78"


def _reason_of_settings(run: Run) -> str | None:
    return None if run.job["reason"] == "config_invalid" else f"the job is {run.job['state']}, {run.job['reason']}"


def _renewed(run: Run) -> list[str]:
    return [call.answer["token"] for call in run.calls if call.answer.get("token")]


def _texts(run: Run) -> list[str]:
    return [run.output, *(text.decode(errors="replace") for key, text in run.stored.items() if key.startswith("logs/"))]


def _id(call: object) -> str | None:
    headers: Mapping[str, str] = call.headers  # type: ignore[attr-defined]  # a Call
    return headers.get("ce-id") or headers.get("idempotency-key")


def _name(call: object) -> str:
    if call is None:
        return "none"
    body = getattr(call, "body", None) or {}
    return f"{getattr(call, 'name', '?')} {body.get('type', '')}".strip()


REQUIRED, RECOMMENDED = True, False
RULES: tuple[Rule, ...] = (
    Rule("started-first", REQUIRED, "the first call is the event started", "plain", _started_first),
    Rule("heartbeat-by-epoch", REQUIRED, "each epoch has a heartbeat, in order, to the last", "plain", _epochs),
    Rule("heartbeat-by-time", RECOMMENDED, "no silence longer than HEARTBEAT_SECONDS", "plain", _in_time),
    Rule("done-once", REQUIRED, "done is accepted once, and the job SUCCEEDED", "plain", _done_once),
    Rule("artifacts-exist", REQUIRED, "the artifacts that done names are in storage", "plain", _artifacts),
    Rule("own-prefixes", REQUIRED, "nothing is written outside the job's own prefixes", "plain", _prefixes),
    Rule("checkpoints", REQUIRED, "last.pt and best.pt are stored", "plain", _checkpoints),
    Rule("exit-0", REQUIRED, "the exit code of success is 0", "plain", _survives),
    Rule(
        "usable-bodies", REQUIRED, "every body is JSON that the functions accept, of 64 KiB at most", "plain", _bodies
    ),
    Rule("trace-in-lines", REQUIRED, "every line of the log has [TRACE:<TRACE_ID>]", "plain", _trace),
    Rule("no-secrets", REQUIRED, "neither token nor storage secret nor presigned link is in a log", "plain", _secrets),
    Rule("token-renewal", REQUIRED, "a token from a heartbeat's response is used from then on", "plain", _renewal),
    Rule("attempt", RECOMMENDED, "calls name the attempt that started returned", "plain", _attempt),
    Rule("log-stored", RECOMMENDED, "the log is stored as logs/job-{id}/attempt-{n}.log", "plain", _log),
    Rule("done-marker", RECOMMENDED, "results/job-{id}/done.json holds the body of done", "plain", _marker),
    Rule("outage", REQUIRED, "an outage of the functions, 500 and 503 change nothing", "rough", _survives),
    Rule("retries", REQUIRED, "calls without a response are sent again", "rough", _retries),
    Rule("same-id", RECOMMENDED, "a call that is sent again keeps its ce-id or Idempotency-Key", "rough", _same_id),
    Rule("retry-after", RECOMMENDED, "a retry waits as long as Retry-After", "rough", _retry_after),
    Rule(
        "gateway",
        REQUIRED,
        "a 404 or 409 that is not application/problem+json does not end the training",
        "gateway",
        _survives,
    ),
    Rule("sigterm", REQUIRED, "SIGTERM: interrupted is sent, exit code 143, within the grace", "stopped", _interrupted),
    Rule("sigterm-saves", REQUIRED, "SIGTERM: last.pt is in storage", "stopped", _saved_on_term),
    Rule("resume", REQUIRED, "a second start resumes from last.pt", "stopped", _resumes),
    Rule("second-attempt", REQUIRED, "a second start claims the job again", "stopped", _second_attempt),
    Rule("resume-after-kill", REQUIRED, "after SIGKILL, too, a second start resumes", "killed", _resumes),
    Rule("conflict-stops", REQUIRED, "409 stops the training", "cancelled", _stops),
    Rule("refused-token", REQUIRED, "401 raises nothing into the training", "refused", _no_crash),
    Rule("exit-65", REQUIRED, "an invalid dataset: exit code 65", "bad_dataset", _exit_of_dataset),
    Rule("dataset-invalid", RECOMMENDED, "and done with the reason dataset_invalid", "bad_dataset", _reason_of_dataset),
    Rule(
        "dataset-etag", REQUIRED, "an overwritten dataset: exit code 65, nothing trained", "overwritten", _not_trained
    ),
    Rule("exit-78", REQUIRED, "an invalid setting: exit code 64 to 78", "bad_settings", _exit_of_settings),
    Rule("config-invalid", RECOMMENDED, "and done with the reason config_invalid", "bad_settings", _reason_of_settings),
    Rule("storage-outage", RECOMMENDED, "an outage of the storage changes nothing", "storage_away", _survives),
)


def broken(rule: Rule, runs: list[Run]) -> str | None:
    """Return how the runs of a rule's scenario violate the rule; None if they do not."""
    message = rule.check(*runs)
    return re.sub(r"\s+", " ", message) if message else None
