import { useState } from "preact/hooks";
import { get } from "../api.js";
import { ago, dateTime, plural } from "../format.js";
import { html } from "../html.js";
import { now } from "../parts/now.js";
import { usePoll } from "../polling.js";

const SECONDS = 30;
const PAGE = 500;
const SHOWN = 20;
/** The last rejected event that the user has hidden, for this browser. */
const HIDDEN = "stoker-rejected-hidden";

/** Uploads and events that can never become a job, with the reason; the newest first. */
export function Rejected() {
  const [events, setEvents] = useState(/** @type {any[]} */ ([]));
  const [hidden, setHidden] = useState(Number(localStorage.getItem(HIDDEN)) || 0);

  usePoll(
    async (abort) => {
      let after = hidden;
      /** @type {any[]} */
      const loaded = [];
      for (;;) {
        const page = await get(`/v1/rejected-events?after=${after}&limit=${PAGE}`, abort);
        loaded.push(...page.events);
        if (!page.next_after) break;
        after = page.next_after;
      }
      setEvents(loaded);
      return loaded.length === events.length ? "same" : "changed";
    },
    SECONDS,
    () => {}, // the list of jobs shows the same error
    [hidden],
  );

  if (!events.length) return null;
  const hide = () => {
    const last = events.at(-1).id;
    localStorage.setItem(HIDDEN, String(last));
    setEvents([]);
    setHidden(last);
  };
  return html`<details class="banner warned">
    <summary>${plural(events.length, "upload")} could not become a job</summary>
    <ul class="rejected">
      ${events
        .slice(-SHOWN)
        .reverse()
        .map(
          (event) => html`<li key=${event.id}>
            <span>${event.reason}</span>
            <time class="sub" datetime=${event.at} title=${dateTime(event.at)}>${ago(event.at, now.value)}</time>
          </li>`,
        )}
    </ul>
    ${events.length > SHOWN && html`<p class="hint">The newest ${SHOWN} of ${events.length}</p>`}
    <button type="button" onClick=${hide}>Hide these</button>
  </details>`;
}
