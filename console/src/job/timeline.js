import { clock, dateTime, duration } from "../format.js";
import { html } from "../html.js";
import { timeline } from "../jobs.js";

/** Steps that follow faster than this are shown as one moment. */
const SHORT_SECONDS = 0.05;

/**
 * What happened to a job.
 * @param {{ events: any[], archive: string | undefined }} props
 */
export function Timeline({ events, archive }) {
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
