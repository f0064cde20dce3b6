import { useEffect, useState } from "preact/hooks";
import { change, get } from "../api.js";
import { ago, bytes, dateTime, number, plural } from "../format.js";
import { html } from "../html.js";
import { headline, title } from "../jobs.js";
import { Dialog } from "../parts/dialog.js";
import { Live, useLive } from "../parts/live.js";
import { now } from "../parts/now.js";
import { Picture } from "../parts/picture.js";
import { State } from "../parts/state.js";
import { TableBox } from "../parts/tablebox.js";
import { Link, open } from "../router.js";
import { allows } from "../session.js";
import { useArtifacts } from "./artifacts.js";
import { DatasetReport } from "./report.js";

/** @typedef {import("../jobs.js").Job} Job */

const JOBS = 20;
/** In how many of the newest jobs a report is looked for. */
const REPORTS = 10;
const SAMPLE = /\/samples\/images\/[^/]+$/;
const SAMPLES = 8;

/** One dataset: its versions, what its trainers found in it, and its jobs. */
export function DatasetPage(/** @type {{ name: string }} */ { name }) {
  const mayRead = allows("jobs:read") || allows("jobs:write");
  const { data: dataset, error } = useLive(`/v1/datasets/${encodeURIComponent(name)}`);
  const { data: page } = useLive(
    mayRead ? `/v1/jobs?${new URLSearchParams({ dataset_id: name, limit: String(JOBS) })}` : "",
  );
  const reporter = useReporter(page?.jobs ?? []);
  const [dialog, setDialog] = useState(/** @type {"" | "check" | "delete"} */ (""));
  const close = () => setDialog("");
  useEffect(() => {
    document.title = `${name} · Stoker`;
  }, [name]);

  return html`<header class="heading">
      <div>
        <p class="crumbs"><${Link} href="/datasets">Datasets<//></p>
        <h1>${name}</h1>
        ${
          dataset &&
          html`<p class="facts">
            <span>${bytes(dataset.bytes)}</span>
            <span>uploaded <time datetime=${dataset.modified_at} title=${dateTime(dataset.modified_at)}>${ago(dataset.modified_at, now.value)}</time></span>
            <span>version <span class="mono">${dataset.etag.slice(0, 8)}</span></span>
          </p>`
        }
      </div>
      ${
        dataset &&
        html`<div class="buttons">
          ${
            allows("jobs:write") &&
            html`<${Link} class="button primary" href=${`/new?dataset=${encodeURIComponent(name)}`}>Train on it<//>
              <button type="button" onClick=${() => setDialog("check")}>Check</button>`
          }
          ${allows("datasets:write") && html`<button type="button" onClick=${() => setDialog("delete")}>Delete</button>`}
        </div>`
      }
    </header>
    ${dialog === "check" && html`<${Check} name=${name} jobs=${page?.jobs ?? []} close=${close} />`}
    ${dialog === "delete" && html`<${Delete} name=${name} close=${close} />`}
    <${Live} data=${dataset} error=${error} isEmpty=${false} empty=${null}>
      ${dataset?.versions.length > 0 && html`<${Versions} dataset=${dataset} jobs=${page?.jobs ?? []} />`}
    <//>
    ${reporter && html`<${Report} key=${reporter.id} job=${reporter} dataset=${dataset} />`}
    ${page && (dataset || page.jobs.length > 0) && html`<${DatasetJobs} jobs=${page.jobs} name=${name} hasMore=${Boolean(page.next_after)} />`}`;
}

/**
 * Returns the newest of some jobs that has stored a report of its dataset; those of predictions count images only.
 * @param {Job[]} jobs
 */
function useReporter(jobs) {
  const [reporter, setReporter] = useState(/** @type {Job | null} */ (null));
  useEffect(() => {
    const abort = new AbortController();
    const readers = jobs.filter(({ task }) => task !== "predict");
    reporterOf(readers.slice(0, REPORTS), abort.signal).then(setReporter, () => {}); // the page is useful without it
    return () => abort.abort();
  }, [jobs.map(({ id, state }) => `${id} ${state}`).join()]);
  return reporter;
}

/**
 * @param {Job[]} jobs
 * @param {AbortSignal} abort
 */
async function reporterOf(jobs, abort) {
  for (const job of jobs) {
    const prefix = new URLSearchParams({ prefix: `results/job-${job.id}/dataset.json` });
    const { artifacts } = await get(`/v1/jobs/${job.id}/artifacts?${prefix}`, abort);
    if (artifacts.length) return job;
  }
  return null;
}

/** What a job read in the dataset, and the images that it took as samples. */
function Report(/** @type {{ job: Job, dataset: any }} */ { job, dataset }) {
  const stored = useArtifacts(job);
  const samples = stored.artifacts.filter(({ key }) => SAMPLE.test(key)).slice(0, SAMPLES);
  const isOld = dataset && job.dataset_etag && job.dataset_etag !== dataset.etag;
  return html`<div class="report">
    <${DatasetReport} stored=${stored} />
    <p class="hint">As <${Link} href=${`/jobs/${job.id}`}>${title(job)}<//> (${job.framework}) read it ${ago(job.created_at, now.value)}${isOld && ", in an earlier version"}.</p>
    ${
      samples.length > 0 &&
      html`<h3>Samples</h3>
        <ul class="gallery">
          ${samples.map(({ key, url }, index) => html`<li key=${key}><${Picture} src=${url} alt=${`Sample ${index + 1}`} failed=${stored.renew} /></li>`)}
        </ul>`
    }
  </div>`;
}

/** @param {{ dataset: any, jobs: Job[] }} props */
function Versions({ dataset, jobs }) {
  const titleOf = (/** @type {string} */ id) => {
    const job = jobs.find((one) => one.id === id);
    return job ? title(job) : id;
  };
  return html`<section>
    <h2>Versions</h2>
    <${TableBox} label="Versions">
      <table class="versions">
        <thead><tr><th scope="col">ETag</th><th scope="col" class="right">Jobs</th><th scope="col">Last used by</th></tr></thead>
        <tbody>
          ${dataset.versions.map(
            (/** @type {any} */ version) => html`<tr key=${version.etag}>
              <th scope="row"><span class="mono">${version.etag ?? "unknown"}</span>${version.etag === dataset.etag && html` <span class="sub">now in the bucket</span>`}</th>
              <td class="right">${number(version.jobs)}</td>
              <td><${Link} href=${`/jobs/${version.last_job_id}`} title=${version.last_job_id}>${titleOf(version.last_job_id)}<//> <span class="sub">${ago(version.last_job_at, now.value)}</span></td>
            </tr>`,
          )}
        </tbody>
      </table>
    <//>
  </section>`;
}

/** @param {{ jobs: Job[], name: string, hasMore: boolean }} props */
function DatasetJobs({ jobs, name, hasMore }) {
  if (!jobs.length) return html`<section><h2>Jobs</h2><p class="empty">No job has used this dataset yet.</p></section>`;
  return html`<section>
    <h2>Jobs</h2>
    <${TableBox} label="Jobs of this dataset">
      <table>
        <thead><tr><th scope="col">State</th><th scope="col">Job</th><th scope="col" class="right">Metric</th><th scope="col" class="right">Created</th></tr></thead>
        <tbody>
          ${jobs.map((job) => {
            const metric = headline(job);
            return html`<tr key=${job.id}>
              <td><${State} job=${job} /></td>
              <th scope="row"><${Link} href=${`/jobs/${job.id}`}>${title(job)}<//> <span class="sub">${job.task}</span></th>
              <td class="right">${metric && html`${number(metric.value)} <span class="sub" title=${metric.name}>${metric.label}</span>`}</td>
              <td class="right"><time datetime=${job.created_at} title=${dateTime(job.created_at)}>${ago(job.created_at, now.value)}</time></td>
            </tr>`;
          })}
        </tbody>
      </table>
    <//>
    <p><${Link} href=${`/?dataset_id=${encodeURIComponent(name)}`}>${hasMore ? "Show all its jobs" : `Show ${plural(jobs.length, "job")} in the list`}<//></p>
  </section>`;
}

/** @param {{ name: string, jobs: Job[], close: () => void }} props */
function Check({ name, jobs, close }) {
  const [frameworks, setFrameworks] = useState(/** @type {any[]} */ ([]));
  // The one that has read this dataset before.
  const [chosen, setChosen] = useState(jobs.find(({ state }) => state === "SUCCEEDED")?.framework ?? "");
  useEffect(() => {
    get("/v1/frameworks").then(
      (loaded) => setFrameworks(loaded.frameworks.filter((/** @type {any} */ { tasks }) => tasks.includes("check"))),
      () => {}, // Check says so, too
    );
  }, []);
  const act = async () => {
    if (!frameworks.length) throw new Error("no trainer of this installation checks datasets");
    const framework = frameworks.find((one) => one.framework === chosen);
    if (!framework) throw new Error("choose the framework that is to read the dataset");
    const model = framework.models.find((/** @type {string} */ model) => !/[*?[]/.test(model)) ?? "check";
    const body = { task: "check", framework: framework.framework, model_name: model, dataset_id: name };
    const job = await change("POST", "/v1/jobs", body);
    open(`/jobs/${job.id}`);
  };
  return html`<${Dialog} title="Check this dataset?" action="Check it" dismiss="Not now" act=${act} close=${close}>
    <p>A trainer reads all of it as for a training, and reports every problem at once. Nothing is trained.</p>
    <label class="field">Framework
      <select onChange=${(/** @type {any} */ event) => setChosen(event.target.value)}>
        <option value="">Choose one</option>
        ${frameworks.map(({ framework }) => html`<option key=${framework} value=${framework} selected=${framework === chosen}>${framework}</option>`)}
      </select>
    </label>
  <//>`;
}

/** @param {{ name: string, close: () => void }} props */
function Delete({ name, close }) {
  const act = async () => {
    await change("DELETE", `/v1/datasets/${encodeURIComponent(name)}`);
    open("/datasets");
  };
  return html`<${Dialog} title="Delete this dataset?" action="Delete the dataset" dismiss="Keep it" act=${act} close=${close}>
    <p>The jobs that used it stay, with their weights and results, but cannot be resumed or run again. This cannot be undone.</p>
  <//>`;
}
