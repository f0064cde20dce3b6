import { useRef, useState } from "preact/hooks";
import { datasetName, ENDINGS, refusal, refusalOfFolder } from "../archive.js";
import { bytes } from "../format.js";
import { html } from "../html.js";
import { upload } from "../upload.js";
import { DropArea } from "./droparea.js";

/** Takes a dataset by drag and drop or from the file dialog, and uploads it. */
export function DropZone(/** @type {{ uploaded: (name: string) => void }} */ { uploaded }) {
  const [file, setFile] = useState(/** @type {File | null} */ (null));
  const [name, setName] = useState("");
  const [sent, setSent] = useState(/** @type {number | null} */ (null));
  const [error, setError] = useState("");
  const abort = useRef(new AbortController());

  async function choose(/** @type {File | undefined} */ chosen) {
    if (!chosen) return;
    setFile(null);
    const why = await refusal(chosen);
    setError(why);
    if (why) return;
    setFile(chosen);
    setName(datasetName(chosen.name));
  }

  async function start() {
    if (!file) return;
    abort.current = new AbortController();
    setError("");
    setSent(0);
    try {
      await upload(name, file, setSent, abort.current.signal);
      setFile(null);
      uploaded(name);
    } catch (reason) {
      if (!abort.current.signal.aborted) setError(/** @type {Error} */ (reason).message);
    }
    setSent(null);
  }

  const drop = (/** @type {DataTransfer} */ dropped) => {
    if (file && sent !== null) return; // one at a time
    const entry = dropped.items[0]?.webkitGetAsEntry();
    if (entry?.isDirectory) refusalOfFolder(entry).then(setError);
    else choose(dropped.files[0]);
  };

  return html`<${DropArea} accept=${ENDINGS.join()} choose=${(/** @type {File[]} */ [chosen]) => choose(chosen)} drop=${drop}>
    ${(/** @type {() => void} */ browse) => html`
      ${!file && html`<p>Drop a .zip or .tar.gz with images here, or <button type="button" onClick=${browse}>choose a file</button></p>`}
      ${
        file &&
        html`<div class="buttons">
          <label class="field">Name of the dataset
            <input value=${name} disabled=${sent !== null} onInput=${(/** @type {any} */ event) => setName(event.target.value)} />
          </label>
          ${sent === null && html`<button type="button" class="primary" onClick=${start}>Upload ${bytes(file.size)}</button>`}
          ${
            sent !== null &&
            html`<progress value=${sent} max=${file.size} aria-label="Uploaded" />
              <span>${bytes(sent)} of ${bytes(file.size)}</span>
              <button type="button" onClick=${() => abort.current.abort()}>Stop</button>`
          }
        </div>`
      }
      ${error && html`<p class="error" role="alert">${error}</p>`}`}
  <//>`;
}
