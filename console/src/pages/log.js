import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { bytes } from "../format.js";
import { html } from "../html.js";
import { attempts, logLines } from "../log.js";
import { storedText } from "../stored.js";

/** How much of a log is shown: its end. */
const TAIL_BYTES = 128 * 1024;

/** The end of a trainer's log, which it stores while it runs. */
export function Log(/** @type {{ artifacts: import("./artifacts.js").Artifact[] }} */ { artifacts }) {
  const logs = attempts(artifacts);
  const [chosen, setChosen] = useState(0);
  const [lines, setLines] = useState(/** @type {string[]} */ ([]));
  const [search, setSearch] = useState("");
  const [error, setError] = useState("");
  const box = useRef(/** @type {HTMLPreElement | null} */ (null));
  const isAtEnd = useRef(true);
  const log = (logs.find(({ attempt }) => attempt === chosen) ?? logs[0])?.artifact;

  useEffect(() => {
    if (!log) return;
    const abort = new AbortController();
    const from = Math.max(log.size_bytes - TAIL_BYTES, 0);
    storedText(log.url, from, abort.signal).then(
      (text) => {
        setLines(logLines(text, from > 0));
        setError("");
      },
      (reason) => abort.signal.aborted || setError(String(reason.message)),
    );
    return () => abort.abort();
  }, [log?.url]);

  const shown = search ? lines.filter((line) => line.toLowerCase().includes(search.toLowerCase())) : lines;
  useLayoutEffect(() => {
    if (box.current && isAtEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [shown.length]);

  if (!log) return null;
  const onScroll = () => {
    const { scrollTop = 0, scrollHeight = 0, clientHeight = 0 } = box.current ?? {};
    isAtEnd.current = scrollTop + clientHeight > scrollHeight - 20;
  };
  return html`<section>
    <h2>Log</h2>
    <div class="toolbar">
      ${
        logs.length > 1 &&
        html`<label>Attempt
          <select onChange=${(/** @type {any} */ event) => setChosen(Number(event.target.value))}>
            ${logs.map(({ attempt }) => html`<option key=${attempt} value=${attempt} selected=${attempt === chosen}>${attempt}</option>`)}
          </select>
        </label>`
      }
      <label>Search
        <input type="search" value=${search} onInput=${(/** @type {any} */ event) => setSearch(event.target.value)} />
      </label>
      <a href=${log.url} target="_blank" rel="noreferrer">Download (${bytes(log.size_bytes)})</a>
    </div>
    ${error && html`<p class="hint">The log cannot be shown here, but downloaded: the bucket must allow requests from this page (CORS).</p>`}
    ${
      !error &&
      html`<pre class="log" tabindex="0" role="region" aria-label="The end of the log" ref=${box} onScroll=${onScroll}>${shown.join("\n") || (search ? "No line has this text." : "")}</pre>`
    }
  </section>`;
}
