import { useEffect, useRef, useState } from "preact/hooks";
import { change, get } from "../api.js";
import { bytes, plural } from "../format.js";
import { html } from "../html.js";
import { isImage, keep, named, zipped } from "../images.js";
import { DropArea } from "../parts/droparea.js";
import { open } from "../router.js";
import { allows } from "../session.js";
import { upload } from "../upload.js";

/** @typedef {import("../jobs.js").Job} Job */

/** Settings of the training that hold for its predictions, too. */
const KEPT = ["image_size", "device", "workers"];

/** Tries a trained model on images from this computer, or on a dataset. */
export function Predict(/** @type {{ job: Job }} */ { job }) {
  const [images, setImages] = useState(/** @type {Map<string, File>} */ (new Map()));
  const [dataset, setDataset] = useState("");
  const [datasets, setDatasets] = useState(/** @type {string[]} */ ([]));
  const [progress, setProgress] = useState(/** @type {{ sent: number, of: number } | null} */ (null));
  const [error, setError] = useState("");
  const abort = useRef(new AbortController());
  useEffect(() => () => abort.current.abort(), []);
  if (!allows("jobs:write")) return null;
  const canUpload = allows("datasets:write");

  const choose = (/** @type {File[]} */ chosen) => {
    const usable = chosen.filter(isImage);
    setError(usable.length ? "" : "None of these is an image. Choose JPEG, PNG, WebP, BMP, GIF or TIFF files.");
    if (usable.length) setImages(named([...images.values(), ...usable]));
  };
  const list = () =>
    get("/v1/datasets?limit=500").then(
      (page) => setDatasets(page.datasets.map((/** @type {any} */ one) => one.name)),
      () => {}, // a name can be typed, too
    );
  async function start(/** @type {Map<string, File>} */ chosen, /** @type {string} */ name) {
    setError("");
    abort.current = new AbortController();
    try {
      if (chosen.size) {
        const file = await zipped(chosen, name);
        setProgress({ sent: 0, of: file.size });
        await upload(name, file, (sent) => setProgress({ sent, of: file.size }), abort.current.signal);
      }
      const prediction = await change("POST", "/v1/jobs", bodyOf(job, name));
      if (chosen.size) keep(prediction.id, chosen);
      open(`/jobs/${prediction.id}`);
    } catch (reason) {
      if (!abort.current.signal.aborted) setError(/** @type {Error} */ (reason).message);
    }
    setProgress(null);
  }

  const size = [...images.values()].reduce((sum, file) => sum + file.size, 0);
  return html`<section>
    <h2>Predict</h2>
    <p class="hint">A new job runs this model's best weights on images, and shows what it predicts.</p>
    ${
      canUpload &&
      html`<${DropArea} kind="images" accept="image/*" isMultiple choose=${choose}>${(
        /** @type {() => void} */ browse,
      ) => html`
        <p>
          ${images.size ? `${plural(images.size, "image")}, ${bytes(size)}. ` : "Drop images here, or "}
          <button type="button" disabled=${progress !== null} onClick=${browse}>${images.size ? "Add images" : "choose images"}</button>
        </p>
        ${
          images.size > 0 &&
          html`<div class="buttons">
            ${
              progress
                ? html`<progress value=${progress.sent} max=${progress.of} aria-label="Uploaded" /> <span>${bytes(progress.sent)} of ${bytes(progress.of)}</span>
                  <button type="button" onClick=${() => abort.current.abort()}>Stop</button>`
                : html`<button type="button" class="primary" onClick=${() => start(images, nameOf(job))}>Predict on ${plural(images.size, "image")}</button>
                  <button type="button" onClick=${() => setImages(new Map())}>Clear</button>`
            }
          </div>`
        }`}<//>`
    }
    <form class="buttons on-dataset" onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      start(new Map(), dataset.trim());
    }}>
      <label class="field">${canUpload ? "Or on a dataset in the bucket" : "On a dataset in the bucket"}
        <input required list="prediction-datasets" value=${dataset} onFocus=${list} onInput=${(/** @type {any} */ event) => setDataset(event.target.value)} />
      </label>
      <datalist id="prediction-datasets">${datasets.map((name) => html`<option key=${name} value=${name} />`)}</datalist>
      <button type="submit" disabled=${progress !== null}>Predict on it</button>
    </form>
    ${error && html`<p class="error" role="alert">${error}</p>`}
  </section>`;
}

/**
 * @param {Job} job
 * @param {string} dataset
 */
function bodyOf(job, dataset) {
  const settings = Object.entries(job.spec ?? {}).filter(([name]) => KEPT.includes(name));
  return {
    ...Object.fromEntries(settings),
    framework: job.framework,
    model_name: job.model_name,
    dataset_id: dataset,
    task: "predict",
    checkpoint_key: `checkpoints/job-${job.id}/best.pt`,
  };
}

/** @param {Job} job */
function nameOf(job) {
  const time = new Date().toISOString().slice(0, 19).replace("T", " ").replaceAll(":", ".");
  return `images for ${job.id.slice(0, 8)} ${time}`;
}
