"""Fuzz the readers of notifications, led by coverage (``python -m tests.attack.fuzz SECONDS SEED``): atheris, libFuzzer.

An input's first byte picks the headers; the rest is the body. Only ValueError may come out, and what is found must be
what the functions can go on with. A failing input is left in the folder that is printed.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["functions"]):
    from functions.domain import identities, json_values
    from functions.events import cloudevents, notifications, upload_records
    from functions.events.notifications import Rejected, Upload

CORPUS = Path(__file__).parents[1] / "unit/notifications"
LENGTH_LIMIT = 8_192
HEADERS: tuple[dict[str, str], ...] = (
    {"content-type": "application/json"},
    {"content-type": "application/cloudevents+json"},
    {"content-type": "application/cloudevents-batch+json; charset=utf-8"},
    {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/x", "ce-type": "x", "content-type": "application/json"},
    {
        "ce-specversion": "1.0",
        "ce-id": "%31%ff",
        "ce-source": "ü",
        "ce-type": "a\u2028b",
        "ce-subject": "%00",
        "content-type": "text/plain",
    },
    {},
)


def read(data: bytes) -> None:
    """Read one delivery as create-job does."""
    headers, body = HEADERS[data[0] % len(HEADERS)] if data else {}, data[1:]
    is_event = cloudevents.is_event(headers)
    try:
        messages = cloudevents.parse_each(headers, body) if is_event else [json_values.decode(body)]
        results = notifications.read(messages)
    except ValueError:
        return
    assert is_event or notifications.is_notification(messages[0]) or all(isinstance(one, Rejected) for one in results)
    for one in results:
        if isinstance(one, Upload):
            assert one.keys
            assert all(notifications.dataset_id(key) for key in one.keys)
            assert len(identities.of_upload(one.bucket, one.keys[0], one.etag)) == 64
        else:
            one.reason.encode("utf-8", "backslashreplace")


def seeds() -> list[bytes]:
    """Return what real storages send, with each of the headers."""
    files = [path.read_bytes() for path in sorted(CORPUS.glob("*.json"))]
    return [bytes([number]) + body for body in files for number in range(len(HEADERS))]


def main() -> None:
    """Fuzz for so long; libFuzzer's own report and exit status: 0 when nothing was found."""
    seconds, seed = sys.argv[1], sys.argv[2]
    folder = Path(tempfile.mkdtemp(prefix="stoker-fuzz-"))
    (folder / "corpus").mkdir()
    for number, content in enumerate(seeds()):
        (folder / "corpus" / f"seed-{number}").write_bytes(content)
    print(f"seed {seed}, {seconds} s, {len(seeds())} inputs to begin with; failures go to {folder}", flush=True)
    options = [
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        f"-max_len={LENGTH_LIMIT}",
        "-timeout=20",
        "-rss_limit_mb=2048",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(folder / "corpus")], read)
    atheris.Fuzz()


if __name__ == "__main__":
    assert upload_records is not None
    assert cloudevents is not None
    main()
