import { html } from "../html.js";
import { epochs, progress } from "../jobs.js";

/** The epochs of a job as a bar and in words. */
export function Progress(/** @type {{ job: import("../jobs.js").Job }} */ { job }) {
  const share = progress(job);
  if (job.epoch === null) return null;
  return html`<span class="progress">
    ${share !== null && html`<progress value=${share} max="1" aria-label="Epochs" class=${String(job.state).toLowerCase()} />`}
    <span class="figures">${epochs(job)}</span>
  </span>`;
}
