import { useRef, useState } from "preact/hooks";
import { datasetName, ENDINGS, refusal, refusalOfFolder } from "../archive.js";
import { bytes } from "../format.js";
import { html } from "../html.js";
import { upload } from "../upload.js";

/** Takes a dataset by drag and drop or from the file dialog, and uploads it. */
export function DropZone(/** @type {{ uploaded: (name: string) => void }} */ { uploaded }) {
  const [isOver, setOver] = useState(false);
  const [file, setFile] = useState(/** @type {File | null} */ (null));
  const [name, setName] = useState("");
  const [sent, setSent] = useState(/** @type {number | null} */ (null));
  const [error, setError] = useState("");
  const abort = useRef(new AbortController());
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));

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

  const onDrag = (/** @type {boolean} */ over) => (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    setOver(over);
  };
  const onDrop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    setOver(false);
    if (file && sent !== null) return; // one at a time
    const entry = event.dataTransfer?.items[0]?.webkitGetAsEntry();
    if (entry?.isDirectory) refusalOfFolder(entry).then(setError);
    else choose(event.dataTransfer?.files[0]);
  };

  return html`<div class=${`drop${isOver ? " over" : ""}`} onDragEnter=${onDrag(true)} onDragOver=${onDrag(true)} onDragLeave=${onDrag(false)} onDrop=${onDrop}>
    <input type="file" class="hidden" tabindex="-1" aria-hidden="true" ref=${input} accept=${ENDINGS.join()}
      onChange=${(/** @type {any} */ event) => {
        choose(event.target.files[0]);
        event.target.value = ""; // so that the same file can be chosen again, once it is mended
      }} />
    ${!file && html`<p>Drop a .zip or .tar.gz with images here, or <button type="button" onClick=${() => input.current?.click()}>choose a file</button></p>`}
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
    ${error && html`<p class="error" role="alert">${error}</p>`}
  </div>`;
}
