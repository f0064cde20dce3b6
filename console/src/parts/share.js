import { useEffect, useRef, useState } from "preact/hooks";
import { change } from "../api.js";
import { dateTime } from "../format.js";
import { html } from "../html.js";
import { allows } from "../session.js";

const DAY_SECONDS = 86_400;
const CHOICES = [1, 7, 30];
/** Links may end a little earlier than requested, for the time that the request took. */
const SPARE_MILLISECONDS = 60_000;

/**
 * Shows a link with which anyone can read one job, and nothing else.
 * @param {{ id: string, close: () => void }} props
 */
export function Share({ id, close }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [days, setDays] = useState(7);
  const [link, setLink] = useState(/** @type {{ path: string, expires_at: string } | null} */ (null));
  const [note, setNote] = useState("");
  // How often links were revoked in this dialog; a new link is created each time.
  const [revocations, setRevocations] = useState(0);
  useEffect(() => dialog.current?.showModal(), []);
  useEffect(() => {
    let isCurrent = true;
    setNote("");
    setLink(null);
    change("POST", `/v1/jobs/${id}/links`, { valid_seconds: days * DAY_SECONDS }).then(
      (made) => isCurrent && setLink(made),
      (error) => isCurrent && setNote(error.message),
    );
    return () => {
      isCurrent = false;
    };
  }, [id, days, revocations]);

  const address = link ? location.origin + link.path : "";
  const copy = () =>
    navigator.clipboard.writeText(address).then(
      () => setNote("Copied"),
      (error) => setNote(`Copy it yourself: ${error.message}`),
    );
  const revoke = () =>
    change("DELETE", `/v1/jobs/${id}/links`).then(
      () => setRevocations(revocations + 1),
      (error) => setNote(error.message),
    );
  return html`<dialog ref=${dialog} onClose=${close} aria-labelledby="share-title">
    <h2 id="share-title">Share this job</h2>
    <p>Anyone with this link can view this job: its curves, log, settings and files. It gives no other access.</p>
    <label class="field">Valid for
      <select onChange=${(/** @type {any} */ event) => setDays(Number(event.target.value))}>
        ${CHOICES.map((choice) => html`<option key=${choice} value=${choice} selected=${choice === days}>${choice === 1 ? "1 day" : `${choice} days`}</option>`)}
      </select>
    </label>
    <label class="field">Link
      <input readonly class="mono" value=${address} placeholder=${note || "…"}
        onFocus=${(/** @type {any} */ event) => event.target.select()} />
    </label>
    ${link && html`<p class="hint">${expiry(link.expires_at, days)}</p>`}
    <p role="status">${note || (revocations > 0 && "All earlier links are revoked; this one is new.")}</p>
    ${
      allows("jobs:write") &&
      html`<details>
        <summary>Revoke links</summary>
        <p>All existing links to this job are revoked. Download links may still work for up to an hour.</p>
        <button type="button" onClick=${revoke}>Revoke all links to this job</button>
      </details>`
    }
    <div class="buttons">
      <button type="button" onClick=${() => dialog.current?.close()}>Close</button>
      ${navigator.clipboard && html`<button type="button" class="primary" disabled=${!link} onClick=${copy}>Copy the link</button>`}
    </div>
  </dialog>`;
}

/**
 * @param {string} at
 * @param {number} days
 */
function expiry(at, days) {
  const isShort = Date.parse(at) - Date.now() < days * DAY_SECONDS * 1000 - SPARE_MILLISECONDS;
  const why = isShort ? ", the longest that your own sign-in and this installation allow" : "";
  return `It ends on ${dateTime(at)}${why}, or when the job is deleted.`;
}
