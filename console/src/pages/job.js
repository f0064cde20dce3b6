import { useEffect, useMemo, useState } from "preact/hooks";
import { get } from "../api.js";
import { timelineOf } from "../events.js";
import { ago, capital, number } from "../format.js";
import { html } from "../html.js";
import { EvaluationSection } from "../job/evaluation.js";
import { Header } from "../job/header.js";
import { Predict } from "../job/predict.js";
import { Predictions } from "../job/predictions.js";
import { Samples } from "../job/samples.js";
import { Settings } from "../job/settings.js";
import { Timeline } from "../job/timeline.js";
import { epochs, failure, isOpen, progress, queuePlace, timing, title, waitingReason } from "../jobs.js";
import { isLoad, label, primary } from "../metrics.js";
import { places } from "../palette.js";
import { Curves } from "../parts/curves.js";
import { Load } from "../parts/load.js";
import { now } from "../parts/now.js";
import { Resume } from "../parts/resume.js";
import { JOB_SECONDS, usePoll } from "../polling.js";
import { Link } from "../router.js";
import { best, history as historyOf, NOTHING } from "../series.js";
import { allows, claims } from "../session.js";
import { Artifacts, Images, useArtifacts } from "./artifacts.js";
import { Log } from "./log.js";
import { DatasetReport } from "./report.js";

/** @typedef {import("../jobs.js").Job} Job */

/** As many rows of metrics as a chart can show. */
const POINTS = 1000;

/** One job, followed until it ends. */
export function JobPage(/** @type {{ id: string }} */ { id }) {
  const [job, setJob] = useState(/** @type {Job | null} */ (null));
  const [events, setEvents] = useState(/** @type {any[]} */ ([]));
  const [archive, setArchive] = useState(/** @type {string | undefined} */ (undefined));
  const [metrics, setMetrics] = useState(/** @type {any} */ (null));
  const [error, setError] = useState("");
  const [turn, setTurn] = useState(0);
  const [isResuming, setResuming] = useState(false);

  usePoll(
    async (abort) => {
      // The job before the rest: when it has ended, that is complete.
      const loaded = await get(`/v1/jobs/${id}`, abort);
      const [timeline, columns] = await Promise.all([
        timelineOf(id, events, abort),
        get(`/v1/jobs/${id}/metrics?points=${POINTS}`, abort),
      ]);
      setArchive(timeline.archive);
      setError("");
      setJob(loaded);
      setEvents(timeline.events);
      setMetrics(columns);
      if (!isOpen(loaded)) return "ended";
      return loaded === job && timeline.events === events && columns === metrics ? "same" : "changed";
    },
    JOB_SECONDS,
    (reason) => setError(String(/** @type {any} */ (reason).message)),
    [id, turn],
  );
  const stored = useArtifacts(job);
  const history = useMemo(() => (metrics ? historyOf(metrics) : NOTHING), [metrics]);
  useEffect(() => {
    document.title = job ? `${title(job)} · Stoker` : "Stoker";
  }, [job]);

  if (error && !job) return html`<${Unavailable} id=${id} error=${error} />`;
  if (!job) return html`<p class="empty">Loading …</p>`;
  const has = (/** @type {string} */ name) => stored.artifacts.some(({ key }) => key.endsWith(name));
  const canResume = allows("jobs:write") && ["FAILED", "CANCELLED"].includes(job.state) && has("/last.pt");
  const resume = canResume ? () => setResuming(true) : undefined;
  return html`<article>
    <${Header} job=${job} refresh=${() => setTurn(turn + 1)} resume=${resume} />
    ${isResuming && html`<${Resume} job=${job} close=${() => setResuming(false)} />`}
    ${error && html`<p class="banner failed" role="alert">${error}</p>`}
    <${Notice} job=${job} resume=${resume} />
    <${Figures} job=${job} history=${history} />
    ${job.task === "train" && html`<${Training} job=${job} history=${history} />`}
    ${job.task === "predict" && html`<${Predictions} job=${job} stored=${stored} />`}
    <${Samples} id=${id} stored=${stored} />
    <${EvaluationSection} id=${id} stored=${stored} />
    ${job.state === "SUCCEEDED" && job.task === "train" && has("/best.pt") && html`<${Predict} job=${job} />`}
    <${Images} stored=${stored} id=${id} />
    <${Load} history=${history} startedAt=${job.started_at} />
    <${Log} job=${job} artifacts=${stored.artifacts} />
    <div class="columns">
      <div>
        <${Timeline} events=${events} archive=${archive} />
        <${DatasetReport} stored=${stored} known=${job.message} />
      </div>
      <${Settings} job=${job} />
    </div>
    <${Artifacts} artifacts=${stored.artifacts} error=${stored.error} id=${id} />
  </article>`;
}

/** Why a job cannot be shown, with a link to the list. */
function Unavailable(/** @type {{ id: string, error: string }} */ { id, error }) {
  return html`<div class="heading"><div>
      <p class="crumbs"><${Link} href="/">Jobs<//></p>
      <h1>${id}</h1>
    </div></div>
    <p class="banner failed" role="alert">${error}</p>
    ${!claims.value.jobId && html`<p><${Link} href="/">Show all jobs<//></p>`}`;
}

/**
 * Why the job does not train: it waits, or has failed.
 * @param {{ job: Job, resume: (() => void) | undefined }} props
 */
function Notice({ job, resume }) {
  if (job.state === "FAILED") {
    const { meaning, advice } = failure(job);
    return html`<div class="banner failed" role="alert">
      <p><strong>${meaning}.</strong> ${advice}</p>
      ${job.message && html`<pre class="message">${job.message}</pre>`}
      ${resume && html`<button type="button" onClick=${resume}>Resume from its last checkpoint</button>`}
    </div>`;
  }
  if (job.state === "CANCELLED" && job.message) return html`<p class="banner">${job.message}</p>`;
  const reason = waitingReason(job);
  const place = queuePlace(job);
  return (
    (reason || place) &&
    html`<p class="banner warned">${place && html`<strong>${place}.</strong> `}${capital(reason)}</p>`
  );
}

/** @param {{ job: Job, history: import("../series.js").History }} props */
function Figures({ job, history }) {
  const name = primary(history.metrics.keys());
  const top = name && job.task === "train" && best(history, name);
  const share = progress(job);
  const attempts = job.attempt - (job.check_attempts ?? 0);
  return html`<dl class="figures">
    ${
      job.task === "train" &&
      html`<div>
        <dt>Epoch</dt>
        <dd>
          ${epochs(job) || "–"}
          ${share !== null && html`<progress value=${share} max="1" aria-label="Epochs" class=${String(job.state).toLowerCase()} />`}
        </dd>
      </div>`
    }
    <div>
      <dt>${isOpen(job) ? (job.eta_seconds === null ? "Time" : "Time left") : "Took"}</dt>
      <dd>${timing(job, now.value).replace(/ left$/, "") || "–"}</dd>
    </div>
    ${
      top &&
      html`<div>
        <dt title=${top.name}>Best ${label(top.name)}</dt>
        <dd>${number(top.value)} ${top.epoch !== null && html`<span class="sub">epoch ${top.epoch}</span>`}</dd>
      </div>`
    }
    ${
      isOpen(job) &&
      job.heartbeat_at &&
      html`<div>
        <dt>Last heartbeat</dt>
        <dd>${ago(job.heartbeat_at, now.value)}</dd>
      </div>`
    }
    ${
      attempts > 1 &&
      html`<div>
        <dt>Attempt</dt>
        <dd>${attempts} <span class="sub">of ${job.attempt_limit}</span></dd>
      </div>`
    }
  </dl>`;
}

/** @param {{ job: Job, history: import("../series.js").History }} props */
function Training({ job, history }) {
  const runs = useMemo(
    () => [{ label: job.id, place: places([job.id]).get(job.id) ?? 0, history, startedAt: job.started_at }],
    [history, job.started_at],
  );
  const hasCurves = [...history.metrics.keys()].some((name) => !isLoad(name));
  return html`<section>
    <h2>Training</h2>
    ${
      hasCurves
        ? html`<${Curves} runs=${runs} />`
        : html`<p class="empty">${isOpen(job) ? "The first curves appear after the first epoch." : "This job has reported no metrics."}</p>`
    }
  </section>`;
}
