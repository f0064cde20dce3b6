"""Coverage-guided fuzzing of the parsers of notifications with atheris: ``python -m tests.attack.fuzz SECONDS SEED``.

The first byte of an input selects the headers; the rest is the body. Parsers may raise only ValueError, and their results
must be valid. A failing input is kept in the folder that is printed.
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
    """Parse one delivery like create-job."""
    headers, body = HEADERS[data[0] % len(HEADERS)] if data else {}, data[1:]
    is_event = cloudevents.is_event(headers)
    try:
        messages = cloudevents.parse_each(headers, body) if is_event else [json_values.decode(body)]
        results = notifications.read(messages)
    except ValueError:
        return
    assert (
        is_event
        or notifications.is_notification(messages[0])
        or all(isinstance(result, Rejected) for result in results)
    )
    for result in results:
        if isinstance(result, Upload):
            assert result.keys
            assert all(notifications.dataset_id(key) for key in result.keys)
            assert len(identities.of_upload(result.bucket, result.keys[0], result.etag)) == 64
        else:
            result.reason.encode("utf-8", "backslashreplace")


def seeds() -> list[bytes]:
    """Return the notifications of real storages, with each of the headers."""
    files = [path.read_bytes() for path in sorted(CORPUS.glob("*.json"))]
    return [bytes([number]) + body for body in files for number in range(len(HEADERS))]


def main() -> None:
    """Fuzz; libFuzzer prints the report and sets the exit status, 0 if no input failed."""
    seconds, seed = sys.argv[1], sys.argv[2]
    folder = Path(tempfile.mkdtemp(prefix="stoker-fuzz-"))
    (folder / "corpus").mkdir()
    for number, content in enumerate(seeds()):
        (folder / "corpus" / f"seed-{number}").write_bytes(content)
    print(f"seed {seed}, {seconds} s, {len(seeds())} initial inputs; failures go to {folder}", flush=True)
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
