import { html } from "../html.js";
import { stateDetail, stateWord } from "../jobs.js";

/** A shape for each state, so that colour is never the only sign. */
/** @type {Record<string, any>} */
const SHAPES = {
  PENDING: html`<circle cx="8" cy="8" r="6" stroke-dasharray="2.6 2.2" />`,
  QUEUED: html`<circle cx="8" cy="8" r="6" /><path d="M8 4.500V8l2.300 1.600" />`,
  RUNNING: html`<circle cx="8" cy="8" r="6" class="track" /><path d="M8 2a6 6 0 0 1 6 6" />`,
  SUCCEEDED: html`<circle cx="8" cy="8" r="7" class="solid" /><path d="M4.800 8.300l2.200 2.200 4.300-4.700" class="cut" />`,
  FAILED: html`<path d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" class="solid" /><path d="M5.500 5.500l5 5m0-5l-5 5" class="cut" />`,
  CANCELLED: html`<circle cx="8" cy="8" r="6" /><path d="M3.800 12.200l8.400-8.400" />`,
};

/** A job's state as a word and a shape. */
export function State(/** @type {{ job: import("../jobs.js").Job }} */ { job }) {
  const detail = stateDetail(job);
  return html`<span class=${`state ${String(job.state).toLowerCase()}`}>
    <svg viewBox="0 0 16 16" aria-hidden="true">${SHAPES[job.state]}</svg>
    <span>${stateWord(job.state)}${detail && html`<span class="detail">, ${detail}</span>`}</span>
  </span>`;
}
