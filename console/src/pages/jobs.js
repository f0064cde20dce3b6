import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { change } from "../api.js";
import { ago, dateTime, number, plural } from "../format.js";
import { html } from "../html.js";
import { headline, isOpen, STATES, sortedByMetric, stateWord, timing, title } from "../jobs.js";
import { Dialog } from "../parts/dialog.js";
import { Live, useLive } from "../parts/live.js";
import { now } from "../parts/now.js";
import { Progress } from "../parts/progress.js";
import { State } from "../parts/state.js";
import { TableBox } from "../parts/tablebox.js";
import { Tags } from "../parts/tags.js";
import { Link, query, setQuery, urlWith } from "../router.js";
import { allows } from "../session.js";
import { Rejected } from "./rejected.js";

/** @typedef {import("../jobs.js").Job} Job */

const PAGE = 50;
/** How many jobs can be compared: as many as the palette has colours. */
const COMPARED = 8;
/** The pause in typing after which a search starts. */
const TYPING_MILLISECONDS = 300;
const STATE_CHOICES = [
  ["", "All"],
  ["PENDING,QUEUED,RUNNING", "Not ended"],
  ...STATES.map((state) => [state, stateWord(state)]),
];
/** The searches: parameter, words, hint. */
const SEARCHES = /** @type {const} */ ([
  ["name", "Name", "part of it"],
  ["dataset_id", "Dataset", "exact name"],
  ["tag", "Tag", "exact tag"],
]);
/** What the order by the metric is called, and the next one. */
const ORDERS =
  /** @type {Record<string, { words: string, sort: "descending" | "ascending", arrow: string, next: string }>} */ ({
    best: { words: "best first", sort: "descending", arrow: " ↓", next: "worst" },
    worst: { words: "worst first", sort: "ascending", arrow: " ↑", next: "" },
  });
/** The parameters of the page's URL that the API takes too. */
const FILTERS = ["state", "name", "dataset_id", "tag", "owner", "framework"];

/** The list of jobs, newest first. */
export function Jobs() {
  const [turn, setTurn] = useState(0);
  const [selected, setSelected] = useState(/** @type {Map<string, Job>} */ (new Map()));
  const { data: page, error, isOld } = useLive(`/v1/jobs?${listQuery(query.value)}`, [turn]);
  useEffect(() => {
    document.title = "Jobs · Stoker";
  }, []);

  const select = useCallback((/** @type {Job} */ job, /** @type {boolean} */ isSelected) => {
    setSelected((last) => {
      const next = new Map(last);
      if (isSelected) next.set(job.id, job);
      else next.delete(job.id);
      return next;
    });
  }, []);

  const clear = () => {
    setSelected(new Map());
    setTurn(turn + 1);
  };
  return html`<div class="heading">
      <h1>Jobs</h1>
      ${allows("jobs:write") && html`<${Link} class="button primary" href="/new">New job<//>`}
    </div>
    <${Rejected} />
    <${Filters} />
    <${Live} data=${page} error=${error} isOld=${isOld} isEmpty=${page?.jobs.length === 0} empty=${html`<${Nothing} />`}>
      <${Order} count=${page?.jobs.length} isPart=${Boolean(page?.next_after || query.value.get("after"))} />
      <${Table} jobs=${sortedByMetric(page?.jobs ?? [], query.value.get("sort") ?? "")} selected=${selected} select=${select} />
    <//>
    ${page && html`<${Pages} next=${page.next_after} />`}
    ${selected.size > 0 && html`<${Actions} selected=${selected} current=${page?.jobs ?? []} clear=${clear} />`}`;
}

/**
 * Returns the API's query for the page's own.
 * @param {URLSearchParams} own
 */
function listQuery(own) {
  const sent = new URLSearchParams({ limit: String(PAGE) });
  for (const name of [...FILTERS, "after"]) {
    const value = own.get(name);
    if (value) sent.set(name, value);
  }
  return sent.toString();
}

function Filters() {
  const own = query.value;
  const state = own.get("state") ?? "";
  const search = (/** @type {string} */ name) => (/** @type {string} */ value) =>
    setQuery({ [name]: value.trim(), after: "" }, { replace: true });
  return html`<form class="filters" role="search" aria-label="Filter jobs"
    onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <label>State
      <select onChange=${(/** @type {any} */ event) => search("state")(event.target.value)}>
        ${STATE_CHOICES.map(([value, words]) => html`<option key=${value} value=${value} selected=${state === value}>${words}</option>`)}
      </select>
    </label>
    ${SEARCHES.map(
      ([name, words, hint]) =>
        html`<${Search} key=${name} words=${words} hint=${hint} value=${own.get(name) ?? ""} search=${search(name)} />`,
    )}
  </form>`;
}

/** @param {{ words: string, hint: string, value: string, search: (value: string) => void }} props */
function Search({ words, hint, value, search }) {
  const [text, setText] = useState(value);
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  useEffect(() => setText(value), [value]);
  const onInput = (/** @type {any} */ event) => {
    const typed = event.target.value;
    setText(typed);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => search(typed), TYPING_MILLISECONDS);
  };
  return html`<label>${words} <input type="search" value=${text} placeholder=${hint} onInput=${onInput} /></label>`;
}

function Nothing() {
  const isFiltered = FILTERS.some((name) => query.value.get(name));
  return isFiltered
    ? html`<p class="empty">No job matches. <${Link} href="/">Show all jobs<//></p>`
    : html`<div class="empty">
        <p>There are no jobs yet.</p>
        <p>
          ${allows("jobs:write") && html`<${Link} href="/new">Start one<//> on a dataset that you upload. `}A dataset that arrives in the bucket starts one, too;
          on a laptop, <code>./taskw demo</code> tries it out.
        </p>
      </div>`;
}

/** Chooses another order of the loaded jobs. */
function sort(/** @type {string} */ order) {
  setQuery({ sort: order }, { replace: true });
}

/** How the jobs are sorted, if not by their age; narrow screens choose it here, where the table has no header. */
function Order(/** @type {{ count: number, isPart: boolean }} */ { count, isPart }) {
  const current = query.value.get("sort") ?? "";
  const order = ORDERS[current];
  return html`<p class="order">
    <label class="narrow">Order
      <select onChange=${(/** @type {any} */ event) => sort(event.target.value)}>
        <option value="">newest first</option>
        ${Object.entries(ORDERS).map(([name, { words }]) => html`<option key=${name} value=${name} selected=${name === current}>metric, ${words}</option>`)}
      </select>
    </label>
    <span role="status" class="hint">${order && `Sorted by metric, ${order.words}${isPart ? `: only the ${plural(count, "job")} of this page. The others are not loaded` : ""}.`}</span>
  </p>`;
}

/** @param {{ jobs: Job[], selected: Map<string, Job>, select: (job: Job, isSelected: boolean) => void }} props */
function Table({ jobs, selected, select }) {
  const areAll = jobs.every((job) => selected.has(job.id));
  const order = ORDERS[query.value.get("sort") ?? ""];
  const selectAll = () => {
    for (const job of jobs) select(job, !areAll);
  };
  return html`<${TableBox} label="Jobs">
    <table class="jobs">
      <caption class="hidden">Jobs, ${order ? order.words : "newest first"}</caption>
      <thead>
        <tr>
          <th scope="col" class="check">
            <input type="checkbox" aria-label="Select all jobs of this page" checked=${areAll}
              onChange=${() => selectAll()} />
          </th>
          <th scope="col">State</th>
          <th scope="col">Job</th>
          <th scope="col">Epoch</th>
          <th scope="col" class="right" aria-sort=${order?.sort}>
            <button type="button" class="sort" onClick=${() => sort(order ? order.next : "best")}>
              Metric<span aria-hidden="true">${order?.arrow}</span>
            </button>
          </th>
          <th scope="col" class="right">Time</th>
          <th scope="col" class="right">Created</th>
        </tr>
      </thead>
      <tbody>
        ${jobs.map((job) => html`<${Row} key=${job.id} job=${job} isSelected=${selected.has(job.id)} select=${select} />`)}
      </tbody>
    </table>
  <//>`;
}

/** @param {{ job: Job, isSelected: boolean, select: (job: Job, isSelected: boolean) => void }} props */
function Row({ job, isSelected, select }) {
  const metric = headline(job);
  return html`<tr class=${isSelected ? "selected" : undefined}>
    <td class="check">
      <input type="checkbox" aria-label=${`Select ${title(job)}, ${job.id}`} checked=${isSelected}
        onChange=${() => select(job, !isSelected)} />
    </td>
    <td class="status"><${State} job=${job} /></td>
    <th scope="row" class="name">
      <${Link} href=${`/jobs/${job.id}`}>${title(job)}<//>
      <span class="sub">${details(job)}</span>
      <${Tags} tags=${job.tags} />
    </th>
    <td data-label="Epoch"><${Progress} job=${job} /></td>
    <td class="right" data-label=${metric?.label}>
      ${metric && html`<span class="value">${number(metric.value)}</span> <span class="sub" title=${metric.name}>${metric.label}</span>`}
    </td>
    <td class="right" data-label="Time">${timing(job, now.value)}</td>
    <td class="right" data-label="Created"><time datetime=${job.created_at} title=${dateTime(job.created_at)}>${ago(job.created_at, now.value)}</time></td>
  </tr>`;
}

/** @param {Job} job */
function details(job) {
  const named = job.name ? [job.dataset_id, job.model_name] : [];
  return [...(job.task === "train" ? [] : [job.task]), ...named, job.framework, job.id].join(" · ");
}

/** @param {{ next: string | null }} props */
function Pages({ next }) {
  const isFirst = !query.value.get("after");
  if (isFirst && !next) return null;
  return html`<nav class="pages" aria-label="Pages">
    ${!isFirst && html`<${Link} href=${urlWith("/", query.value, { after: "" })}>Newest<//>`}
    ${next && html`<${Link} href=${urlWith("/", query.value, { after: next })}>Older<//>`}
  </nav>`;
}

/** @param {{ selected: Map<string, Job>, current: Job[], clear: () => void }} props */
function Actions({ selected, current, clear }) {
  const [dialog, setDialog] = useState(/** @type {"" | "cancel" | "delete"} */ (""));
  const close = () => setDialog("");
  // As they are now, not as they were when they were selected.
  const jobs = [...selected.values()].map((job) => current.find(({ id }) => id === job.id) ?? job);
  const open = jobs.filter(isOpen);
  const ended = jobs.filter((job) => !isOpen(job));
  const cancel = async () => {
    await Promise.all(
      open.map((job) => change("POST", `/v1/jobs/${job.id}/cancel`, { message: "cancelled in the console" })),
    );
    clear();
  };
  const remove = async () => {
    await Promise.all(ended.map((job) => change("DELETE", `/v1/jobs/${job.id}`)));
    clear();
  };
  return html`<div class="actions" role="region" aria-label="Actions for the selected jobs">
    <span>${plural(jobs.length, "job")} selected</span>
    ${
      jobs.length > 1 &&
      jobs.length <= COMPARED &&
      html`<${Link} class="button primary" href=${`/compare?ids=${jobs.map((job) => job.id).join(",")}`}>Compare<//>`
    }
    ${jobs.length > COMPARED && html`<span class="hint">Compare up to ${COMPARED}</span>`}
    ${
      open.length > 0 &&
      allows("jobs:write") &&
      html`<button type="button" onClick=${() => setDialog("cancel")}>Cancel ${plural(open.length, "job")}</button>`
    }
    ${
      ended.length > 0 &&
      allows("jobs:write") &&
      html`<button type="button" onClick=${() => setDialog("delete")}>Delete ${plural(ended.length, "job")}</button>`
    }
    <button type="button" onClick=${clear}>Clear</button>
    ${
      dialog === "delete" &&
      html`<${Dialog} title=${`Delete ${plural(ended.length, "job")}?`} action=${`Delete ${plural(ended.length, "job")}`}
        dismiss="Keep them" act=${remove} close=${close}>
        <p>Their weights, results and logs are deleted, too. This cannot be undone.</p>
      <//>`
    }
    ${
      dialog === "cancel" &&
      html`<${Dialog} title=${`Cancel ${plural(open.length, "job")}?`} action=${`Cancel ${plural(open.length, "job")}`}
        dismiss="Keep them" act=${cancel} close=${close}>
        <p>Their trainers store a checkpoint and stop. Stored files are kept.</p>
      <//>`
    }
  </div>`;
}
