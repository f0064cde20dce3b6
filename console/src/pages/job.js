import { useEffect, useMemo, useState } from "preact/hooks";
import { change, get } from "../api.js";
import { eventsAfter } from "../events.js";
import { ago, clock, dateTime, duration, number, setting } from "../format.js";
import { html } from "../html.js";
import { epochs, failure, isOpen, progress, timeline, timing, title, waitingReason } from "../jobs.js";
import { label, primary } from "../metrics.js";
import { places } from "../palette.js";
import { Curves } from "../parts/curves.js";
import { Dialog } from "../parts/dialog.js";
import { Edit } from "../parts/edit.js";
import { now } from "../parts/now.js";
import { Resume } from "../parts/resume.js";
import { State } from "../parts/state.js";
import { Tags } from "../parts/tags.js";
import { JOB_SECONDS, usePoll } from "../polling.js";
import { Link, open } from "../router.js";
import { best, points } from "../series.js";
import { allows } from "../session.js";
import { Artifacts, Images, useArtifacts } from "./artifacts.js";
import { Log } from "./log.js";
import { DatasetReport } from "./report.js";

/** @typedef {import("../jobs.js").Job} Job */

/** Steps of the timeline that follow faster than this are shown as one moment. */
const SHORT_SECONDS = 0.05;

/** One job, followed until it ends. */
export function JobPage(/** @type {{ id: string }} */ { id }) {
  const [job, setJob] = useState(/** @type {Job | null} */ (null));
  const [events, setEvents] = useState(/** @type {any[]} */ ([]));
  const [archive, setArchive] = useState(/** @type {string | undefined} */ (undefined));
  const [error, setError] = useState("");
  const [turn, setTurn] = useState(0);

  usePoll(
    async (abort) => {
      // The job before its events: when it has ended, these events are complete.
      const loaded = await get(`/v1/jobs/${id}`, abort);
      const { added, archive } = await eventsAfter(id, events.at(-1)?.id ?? 0, abort);
      setArchive(archive);
      setError("");
      setJob(loaded);
      if (added.length) setEvents([...events, ...added]);
      if (!isOpen(loaded)) return "ended";
      return loaded === job && !added.length ? "same" : "changed";
    },
    JOB_SECONDS,
    (reason) => setError(String(/** @type {any} */ (reason).message)),
    [id, turn],
  );
  const stored = useArtifacts(job);
  useEffect(() => {
    document.title = job ? `${title(job)} · Stoker` : "Stoker";
  }, [job]);

  if (error && !job) return html`<p class="banner failed" role="alert">${error}</p>`;
  if (!job) return html`<p class="empty">Loading …</p>`;
  return html`<article>
    <${Header} job=${job} refresh=${() => setTurn(turn + 1)}
      hasCheckpoint=${stored.artifacts.some(({ key }) => key.endsWith("/last.pt"))} />
    ${error && html`<p class="banner failed" role="alert">${error}</p>`}
    <${Notice} job=${job} />
    <${Figures} job=${job} events=${events} />
    <${Training} job=${job} events=${events} />
    <${Images} artifacts=${stored.artifacts} id=${id} />
    <${Log} job=${job} artifacts=${stored.artifacts} />
    <div class="columns">
      <div>
        <${Timeline} events=${events} archive=${archive} />
        <${DatasetReport} artifacts=${stored.artifacts} />
      </div>
      <${Settings} job=${job} />
    </div>
    <${Artifacts} artifacts=${stored.artifacts} error=${stored.error} />
  </article>`;
}

/** @param {{ job: Job, refresh: () => void, hasCheckpoint: boolean }} props */
function Header({ job, refresh, hasCheckpoint }) {
  const [dialog, setDialog] = useState(/** @type {"" | "cancel" | "edit" | "resume" | "delete"} */ (""));
  const canResume = hasCheckpoint && ["FAILED", "CANCELLED"].includes(job.state);
  const close = () => setDialog("");
  const cancel = async () => {
    await change("POST", `/v1/jobs/${job.id}/cancel`, { message: "cancelled in the console" });
    refresh();
  };
  const remove = async () => {
    await change("DELETE", `/v1/jobs/${job.id}`);
    open("/");
  };
  return html`<header class="heading">
      <div>
        <p class="crumbs"><${Link} href="/">Jobs<//> / <span class="mono">${job.id}</span></p>
        <h1>${title(job)}</h1>
        <p class="facts">
          <span aria-live="polite"><${State} job=${job} /></span>
          <span>${[job.task === "train" ? "" : job.task, job.framework].filter(Boolean).join(" · ")}</span>
          <span>dataset <${Link} href=${`/?dataset_id=${encodeURIComponent(job.dataset_id)}`}>${job.dataset_id}<//></span>
          <span>model ${job.model_name}</span>
          <${Origin} words="continues" id=${job.resumed_from} />
          <${Origin} words="copy of" id=${job.cloned_from} />
          <span>created <time datetime=${job.created_at} title=${dateTime(job.created_at)}>${ago(job.created_at, now.value)}</time>${job.owner && ` by ${job.owner}`}</span>
        </p>
        <${Tags} tags=${job.tags} />
        ${job.notes && html`<p class="notes">${job.notes}</p>`}
      </div>
      ${
        allows("jobs:write") &&
        html`<div class="buttons">
          ${canResume && html`<button type="button" class="primary" onClick=${() => setDialog("resume")}>Resume</button>`}
          <${Link} class="button" href=${`/new?from=${job.id}`}>Train again<//>
          <button type="button" onClick=${() => setDialog("edit")}>Edit</button>
          ${isOpen(job) && html`<button type="button" onClick=${() => setDialog("cancel")}>Cancel</button>`}
          ${!isOpen(job) && html`<button type="button" onClick=${() => setDialog("delete")}>Delete</button>`}
        </div>`
      }
    </header>
    ${dialog === "resume" && html`<${Resume} job=${job} close=${close} />`}
    ${
      dialog === "delete" &&
      html`<${Dialog} title="Delete this job?" dismiss="Keep it" action="Delete the job" act=${remove} close=${close}>
        <p>Its weights, results and logs are deleted, too. This cannot be undone.</p>
      <//>`
    }
    ${dialog === "edit" && html`<${Edit} job=${job} saved=${refresh} close=${close} />`}
    ${
      dialog === "cancel" &&
      html`<${Dialog} title="Cancel this job?" dismiss="Keep it" action="Cancel the job" act=${cancel} close=${close}>
        <p>Its trainer stores a checkpoint and stops. What it has stored stays.</p>
      <//>`
    }`;
}

/** The job that a job was made from. */
function Origin(/** @type {{ words: string, id: string | null | undefined }} */ { words, id }) {
  return id ? html`<span>${words} <${Link} href=${`/jobs/${id}`}>${id}<//></span>` : null;
}

/** Why the job does not train: it waits, or has failed. */
function Notice(/** @type {{ job: Job }} */ { job }) {
  if (job.state === "FAILED") {
    const { meaning, advice } = failure(job);
    return html`<div class="banner failed" role="alert">
      <p><strong>${meaning}.</strong> ${advice}</p>
      ${job.message && html`<pre class="message">${job.message}</pre>`}
    </div>`;
  }
  if (job.state === "CANCELLED" && job.message) return html`<p class="banner">${job.message}</p>`;
  const reason = waitingReason(job);
  return reason && html`<p class="banner warned">${reason}</p>`;
}

/** @param {{ job: Job, events: any[] }} props */
function Figures({ job, events }) {
  const all = points(events);
  const name = primary([...new Set(all.flatMap((point) => Object.keys(point.metrics)))]);
  const top = name && best(all, name);
  const share = progress(job);
  return html`<dl class="figures">
    <div>
      <dt>Epoch</dt>
      <dd>
        ${epochs(job) || "–"}
        ${share !== null && html`<progress value=${share} max="1" aria-label="Epochs" class=${String(job.state).toLowerCase()} />`}
      </dd>
    </div>
    <div>
      <dt>${isOpen(job) ? (job.eta_seconds === null ? "Time" : "Time left") : "Took"}</dt>
      <dd>${timing(job, now.value).replace(/ left$/, "") || "–"}</dd>
    </div>
    ${
      top &&
      html`<div>
        <dt>Best ${label(top.name)}</dt>
        <dd>${number(top.value)} <span class="sub">epoch ${top.epoch}</span></dd>
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
      job.attempt > 1 &&
      html`<div>
        <dt>Attempt</dt>
        <dd>${job.attempt} <span class="sub">of ${job.attempt_limit}</span></dd>
      </div>`
    }
  </dl>`;
}

/** @param {{ job: Job, events: any[] }} props */
function Training({ job, events }) {
  const runs = useMemo(
    () => [
      { label: job.id, place: places([job.id]).get(job.id) ?? 0, points: points(events), startedAt: job.started_at },
    ],
    [events, job.started_at],
  );
  return html`<section>
    <h2>Training</h2>
    ${
      runs[0]?.points.length
        ? html`<${Curves} runs=${runs} />`
        : html`<p class="empty">${isOpen(job) ? "The first curves appear after the first epoch." : "This job has reported no metrics."}</p>`
    }
  </section>`;
}

/** @param {{ events: any[], archive: string | undefined }} props */
function Timeline({ events, archive }) {
  const entries = timeline(events);
  return html`<section>
    <h2>Timeline</h2>
    ${
      archive &&
      html`<p class="hint">This job's events were <a href=${archive} target="_blank" rel="noreferrer">moved to an archive</a>.</p>`
    }
    <ol class="timeline">
      ${entries.map(
        (entry) => html`<li class=${entry.isWarning ? "warning" : undefined}>
          <strong>${entry.words}</strong>
          <time datetime=${entry.at} title=${dateTime(entry.at)}>${clock(entry.at)}</time>
          ${entry.afterSeconds !== null && entry.afterSeconds >= SHORT_SECONDS && html`<span class="sub">after ${duration(entry.afterSeconds)}</span>`}
          ${entry.actor && html`<span class="sub">by ${entry.actor}</span>`}
          ${entry.message && html`<p>${entry.message}</p>`}
        </li>`,
      )}
    </ol>
  </section>`;
}

/** @param {{ job: Job }} props */
function Settings({ job }) {
  const { hyperparameters = {}, ...own } = job.spec ?? {};
  const rows = [...Object.entries(own), ...Object.entries(hyperparameters)];
  return html`<section>
    <h2>Settings</h2>
    <p class="hint">What the job was given. The trainer's defaults apply to everything else.</p>
    <table class="settings">
      <tbody>
        ${rows.map(([name, value]) => html`<tr key=${name}><th scope="row">${name}</th><td class="mono">${setting(value)}</td></tr>`)}
        ${job.dataset_etag && html`<tr><th scope="row">dataset version (ETag)</th><td class="mono">${job.dataset_etag}</td></tr>`}
        ${job.image && html`<tr><th scope="row">image</th><td class="mono">${job.image}</td></tr>`}
        <tr><th scope="row">trace id</th><td class="mono">${job.trace_id}</td></tr>
      </tbody>
    </table>
  </section>`;
}
