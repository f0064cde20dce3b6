"""metrics: the metrics of jobs, outbox and sweep, read from the store, in OpenMetrics format for Prometheus."""

from collections.abc import Iterator
from datetime import datetime
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from functions.api import tokens
from functions.api.requests import Request
from functions.api.responses import Response
from functions.api.routes import api, function, route
from functions.domain.errors import ConfigurationError
from functions.domain.states import FINAL, Reason, State
from functions.runtime.registry import trainers
from functions.runtime.settings import settings
from functions.store import statistics

#: what each histogram measures
_MEANING = {
    "queue": "from the submission to the launcher until the trainer's first call: slot, node, image, start",
    "start": "from the request until the trainer's first call",
    "run": "from the trainer's first call to the end",
}


@route("GET", "/v1/metrics", access=api("metrics:read"), media_type="application/openmetrics-text")
def show_metrics(_: Request) -> Response:
    """Show metrics as OpenMetrics. Counters and histograms begin at the start of each month (UTC)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Store(tokens.now()))
    content = generate_latest(registry)  # type: ignore[no-untyped-call]  # 503
    return Response(200, content, {"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"})


class _Store(Collector):
    """The metrics of the store at one time."""

    def __init__(self, now: datetime) -> None:
        self._since = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    def collect(self) -> Iterator[Metric]:
        yield from self._open_jobs()
        yield self._ended_jobs()
        for name in statistics.DURATIONS:
            yield self._durations(name)
        yield from self._backlog()

    def _open_jobs(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily(
            "stoker_jobs_open",
            "Jobs that have not ended; liveness is that of RUNNING jobs: live, silent or waiting",
            labels=["framework", "state", "liveness"],
        )
        oldest = GaugeMetricFamily(
            "stoker_job_oldest_timestamp_seconds",
            "When the oldest job of a state was created",
            labels=["state"],
        )
        # Zeros, so that a series does not end with its last job.
        kinds = [("PENDING", ""), ("QUEUED", "")]
        kinds += [("RUNNING", liveness) for liveness in ("live", "silent", "waiting")]
        counts = {(framework, *kind): 0 for framework in _registered() for kind in kinds}
        times: dict[str, float] = {}
        for row in statistics.open_jobs():
            counts[row.framework, row.state, row.liveness or ""] = row.jobs
            times[row.state] = min(row.oldest_at.timestamp(), times.get(row.state, float("inf")))
        for labels, count in counts.items():
            jobs.add_metric(labels, count)
        for state, time in times.items():
            oldest.add_metric([state], time)
        yield jobs
        yield oldest

    def _ended_jobs(self) -> Metric:
        family = CounterMetricFamily(
            "stoker_jobs_ended",
            "Jobs that ended since the start of the month; a FAILED job has a reason",
            labels=["framework", "state", "reason"],
        )
        # Zeros, because Prometheus sees no increase in a series that begins with 1.
        kinds = [(str(state), "") for state in sorted(FINAL - {State.FAILED})]
        kinds += [(str(State.FAILED), str(reason)) for reason in Reason]
        counts = {(framework, *kind): 0 for framework in _registered() for kind in kinds}
        counts |= {(row.framework, row.state, row.reason or ""): row.jobs for row in self._ended()}
        for labels, count in counts.items():
            family.add_metric(labels, count, created=self._since.timestamp())
        return family

    def _ended(self) -> list[statistics.EndedJobs]:
        return statistics.ended_jobs(since=self._since)

    def _durations(self, name: str) -> Metric:
        family = HistogramMetricFamily(
            f"stoker_job_{name}_seconds",
            f"Time of the jobs that ended since the start of the month, {_MEANING[name]}",
            labels=["framework"],
        )
        known = {row.framework: row for row in statistics.durations(name, since=self._since)}
        bounds = [str(float(bound)) for bound in statistics.BOUNDS] + ["+Inf"]
        for framework in {**dict.fromkeys(_registered()), **dict.fromkeys(known)}:
            row = known.get(framework) or statistics.Durations(framework, [0] * len(bounds), 0.0)
            buckets = list(zip(bounds, map(float, accumulate(row.counts)), strict=True))
            family.add_metric([framework], buckets, row.sum_seconds)
        return family

    def _backlog(self) -> Iterator[Metric]:
        backlog = statistics.backlog(since=self._since)
        rejected = CounterMetricFamily(
            "stoker_rejected_events", "Uploads and events that were rejected since the start of the month"
        )
        rejected.add_metric([], backlog.rejected, created=self._since.timestamp())
        yield rejected
        if backlog.swept_at is not None:
            yield GaugeMetricFamily(
                "stoker_sweep_timestamp_seconds", "When sweep last began", value=backlog.swept_at.timestamp()
            )
        if settings().k_sink:  # without a sink, sweep drops events after a day
            yield from _outbox(backlog)


def _registered() -> tuple[str, ...]:
    """Return the registered frameworks, whose series begin with zeros; none while TRAINERS cannot be used."""
    try:
        return tuple(trainers())
    except ConfigurationError:
        return ()


def _outbox(backlog: statistics.Backlog) -> Iterator[Metric]:
    yield GaugeMetricFamily("stoker_outbox_events", "Events about jobs that are not delivered", value=backlog.outbox)
    if backlog.oldest_at is not None:
        yield GaugeMetricFamily(
            "stoker_outbox_oldest_timestamp_seconds",
            "When the oldest event that is not delivered was written",
            value=backlog.oldest_at.timestamp(),
        )


metrics = function("metrics", show_metrics)
