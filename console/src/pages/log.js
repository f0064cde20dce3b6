import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { send, whole } from "../api.js";
import { html } from "../html.js";
import { logLines, storedLog } from "../log.js";
import { JOB_SECONDS, usePoll } from "../polling.js";

/** How much of a log is loaded at first: its end. */
const TAIL_BYTES = 128 * 1024;
/** How many lines are kept while a log grows. */
const LINES = 5000;

/**
 * The end of the log of a job's trainer, followed while it grows.
 * @param {{ job: import("../jobs.js").Job, artifacts: import("./artifacts.js").Artifact[] }} props
 */
export function Log({ job, artifacts }) {
  const [chosen, setChosen] = useState(0);
  const attempt = chosen || job.attempt;
  if (!job.attempt) return null;
  return html`<section>
    <h2>Log</h2>
    <${Attempt} key=${`${job.id} ${attempt}`} id=${job.id} attempt=${attempt} download=${storedLog(artifacts, attempt)?.url}>
      ${
        job.attempt > 1 &&
        html`<label>Attempt
          <select onChange=${(/** @type {any} */ event) => setChosen(Number(event.target.value))}>
            ${Array.from({ length: job.attempt }, (_, index) => index + 1).map((number) => html`<option key=${number} value=${number} selected=${number === attempt}>${number}</option>`)}
          </select>
        </label>`
      }
    <//>
  </section>`;
}

/** @param {{ id: string, attempt: number, download: string | undefined, children: any }} props */
function Attempt({ id, attempt, download, children }) {
  const [log, setLog] = useState(/** @type {{ text: string, isPart: boolean, next: number } | null} */ (null));
  const [search, setSearch] = useState("");
  const [error, setError] = useState("");
  const box = useRef(/** @type {HTMLPreElement | null} */ (null));
  const isAtEnd = useRef(true);

  usePoll(
    async (abort) => {
      const offset = log ? log.next : -TAIL_BYTES;
      const response = await send("GET", `/v1/jobs/${id}/log?attempt=${attempt}&offset=${offset}`, { abort });
      const bytes = await whole(response.arrayBuffer(), abort);
      const next = Number(response.headers.get("Log-Next-Offset"));
      const added = new TextDecoder().decode(bytes);
      const isPart = log ? log.isPart : next > bytes.byteLength;
      if (!log || added) setLog({ text: (log?.text ?? "") + added, isPart, next });
      if (response.headers.get("Log-Complete") === "true") return "ended";
      return added ? "changed" : "same";
    },
    JOB_SECONDS,
    (reason) => setError(String(/** @type {any} */ (reason).message)),
    [id, attempt],
  );

  const all = log ? logLines(log.text, log.isPart).slice(-LINES) : [];
  const lines = search ? all.filter((line) => line.toLowerCase().includes(search.toLowerCase())) : all;
  useLayoutEffect(() => {
    if (box.current && isAtEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines.length]);
  const onScroll = () => {
    const { scrollTop = 0, scrollHeight = 0, clientHeight = 0 } = box.current ?? {};
    isAtEnd.current = scrollTop + clientHeight > scrollHeight - 20;
  };
  const nothing = search ? "No line has this text." : log ? "The log is empty." : "Loading …";
  return html`<div class="toolbar">
      ${children}
      <label>Search
        <input type="search" value=${search} onInput=${(/** @type {any} */ event) => setSearch(event.target.value)} />
      </label>
      ${download && html`<a href=${download} target="_blank" rel="noreferrer">Download</a>`}
    </div>
    ${error && html`<p class="error">${error}</p>`}
    <pre class="log" tabindex="0" role="region" aria-label="The end of the log" ref=${box} onScroll=${onScroll}>${lines.join("\n") || nothing}</pre>`;
}
