import { useEffect, useMemo, useState } from "preact/hooks";
import { get } from "../api.js";
import { Side } from "../compare/side.js";
import { number, setting } from "../format.js";
import { html } from "../html.js";
import { isOpen, timing, title } from "../jobs.js";
import { isLowerBetter, isResult, label } from "../metrics.js";
import { colours, places } from "../palette.js";
import { Swatch } from "../parts/chart.js";
import { Curves } from "../parts/curves.js";
import { now } from "../parts/now.js";
import { State } from "../parts/state.js";
import { isDark } from "../parts/theme.js";
import { JOB_SECONDS, usePoll } from "../polling.js";
import { Link, query } from "../router.js";
import { best, history } from "../series.js";

/** @typedef {import("../jobs.js").Job} Job */
/** @typedef {{ job: Job, columns: any, history: import("../series.js").History }} Loaded */

/** As many rows of metrics of each job as a chart can show. */
const POINTS = 1000;

/** Several jobs side by side: curves, results, and the settings that differ. */
export function Compare() {
  const ids = (query.value.get("ids") ?? "").split(",").filter(Boolean);
  const [loaded, setLoaded] = useState(/** @type {Loaded[]} */ ([]));
  const [error, setError] = useState("");
  const key = ids.join(",");

  usePoll(
    async (abort) => {
      const last = new Map(loaded.map((one) => [one.job.id, one]));
      let hasChanged = loaded.length !== ids.length;
      const next = await Promise.all(
        ids.map(async (id) => {
          const before = last.get(id);
          if (before && !isOpen(before.job)) return before;
          const job = await get(`/v1/jobs/${id}`, abort);
          const columns = await get(`/v1/jobs/${id}/metrics?points=${POINTS}`, abort);
          if (before && job === before.job && columns === before.columns) return before;
          hasChanged = true;
          return { job, columns, history: history(columns) };
        }),
      );
      setError("");
      if (hasChanged) setLoaded(next);
      if (next.every((one) => !isOpen(one.job))) return "ended";
      return hasChanged ? "changed" : "same";
    },
    JOB_SECONDS,
    (reason) => setError(String(/** @type {any} */ (reason).message)),
    [key],
  );
  useEffect(() => {
    document.title = "Compare · Stoker";
  }, []);

  const shown = loaded.filter((one) => ids.includes(one.job.id));
  const place = places(ids);
  const runs = useMemo(
    () =>
      shown.map(({ job, history: own }) => ({
        label: nameIn(job, shown),
        place: place.get(job.id) ?? 0,
        history: own,
        startedAt: job.started_at,
      })),
    [loaded, key],
  );
  const palette = colours(isDark.value);
  return html`<div class="heading">
      <div>
        <p class="crumbs"><${Link} href="/">Jobs<//> / Compare</p>
        <h1>Compare ${ids.length > 1 ? `${ids.length} jobs` : "jobs"}</h1>
      </div>
    </div>
    ${error && html`<p class="banner failed" role="alert">${error}</p>`}
    ${ids.length < 2 && html`<p class="empty">Select two or more jobs in <${Link} href="/">the list<//>, and then Compare below it.</p>`}
    ${!shown.length && !error && ids.length > 1 && html`<p class="empty">Loading …</p>`}
    ${
      shown.length > 0 &&
      html`<${Results} shown=${shown} colour=${(/** @type {string} */ id) => palette[place.get(id) ?? 0]} />
        <section><h2>Training</h2><${Curves} runs=${runs} /></section>
        <${Side} jobs=${shown.map(({ job }) => ({ job, name: nameIn(job, shown), colour: palette[place.get(job.id) ?? 0] ?? "" }))} />
        <${Differences} shown=${shown} />`
    }`;
}

/**
 * @param {Job} job
 * @param {Loaded[]} shown
 */
function nameIn(job, shown) {
  const isAmbiguous = shown.some((other) => other.job.id !== job.id && title(other.job) === title(job));
  return isAmbiguous ? `${title(job)} ${job.id.slice(0, 6)}` : title(job);
}

/** @param {{ shown: Loaded[], colour: (id: string) => string | undefined }} props */
function Results({ shown, colour }) {
  const names = [...new Set(shown.flatMap((one) => [...one.history.metrics.keys()]))];
  const rows = names.filter(isResult).map((name) => ({ name, tops: shown.map((one) => best(one.history, name)) }));
  return html`<section>
    <h2>Results</h2>
    <div class="table-box" tabindex="0" role="region" aria-label="Results">
      <table class="compared">
        <caption class="hidden">The best value of each metric, by job</caption>
        <thead>
          <tr>
            <td></td>
            ${shown.map(
              ({ job }) => html`<th scope="col" key=${job.id}>
                ${Swatch({ colour: colour(job.id) ?? "" })} <${Link} href=${`/jobs/${job.id}`}>${nameIn(job, shown)}<//>
              </th>`,
            )}
          </tr>
        </thead>
        <tbody>
          <tr><th scope="row">state</th>${shown.map(({ job }) => html`<td key=${job.id}><${State} job=${job} /></td>`)}</tr>
          <tr><th scope="row">time</th>${shown.map(({ job }) => html`<td key=${job.id}>${timing(job, now.value)}</td>`)}</tr>
          ${rows.map(
            ({ name, tops }) => html`<tr key=${name}>
              <th scope="row" title=${name}>best ${label(name)}</th>
              ${tops.map(
                (top) => html`<td class=${isBest(name, top, tops) ? "best" : undefined}>
                  <span>${number(top?.value)}</span>
                  ${top && top.last !== top.value && html` <span class="sub last">last ${number(top.last)}</span>`}
                </td>`,
              )}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`;
}

/**
 * @param {string} name
 * @param {import("../series.js").Best | undefined} top
 * @param {(import("../series.js").Best | undefined)[]} tops
 */
function isBest(name, top, tops) {
  const values = tops.flatMap((other) => (other ? [other.value] : []));
  if (!top || new Set(values).size < 2) return false;
  return top.value === (isLowerBetter(name) ? Math.min(...values) : Math.max(...values));
}

/** The settings; only those that differ, unless all are asked for. */
function Differences(/** @type {{ shown: Loaded[] }} */ { shown }) {
  const [areAll, setAll] = useState(false);
  const specs = shown.map(({ job }) => flat(job));
  const names = [...new Set(specs.flatMap((spec) => Object.keys(spec)))];
  const rows = names.map((name) => ({ name, values: specs.map((spec) => setting(spec[name])) }));
  const different = rows.filter((row) => new Set(row.values).size > 1);
  const visible = areAll ? rows : different;
  return html`<section>
    <h2>Settings</h2>
    <label class="check"><input type="checkbox" checked=${areAll} onChange=${() => setAll(!areAll)} /> Also show equal settings</label>
    ${
      visible.length
        ? html`<div class="table-box" tabindex="0" role="region" aria-label="Settings">
            <table class="compared">
              <thead><tr><td></td>${shown.map(({ job }) => html`<th scope="col" key=${job.id}>${nameIn(job, shown)}</th>`)}</tr></thead>
              <tbody>
                ${visible.map(({ name, values }) => html`<tr key=${name}><th scope="row">${name}</th>${values.map((value) => html`<td class="mono">${value || "–"}</td>`)}</tr>`)}
              </tbody>
            </table>
          </div>`
        : html`<p class="empty">All settings are equal.</p>`
    }
  </section>`;
}

/** @param {Job} job */
function flat(job) {
  const { hyperparameters = {}, ...own } = job.spec ?? {};
  return /** @type {Record<string, unknown>} */ ({
    ...own,
    dataset_etag: job.dataset_etag,
    image: job.image,
    ...hyperparameters,
  });
}
