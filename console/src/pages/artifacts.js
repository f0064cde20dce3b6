import { useState } from "preact/hooks";
import { get } from "../api.js";
import { grouped, IMAGE, shortKey } from "../artifacts.js";
import { bytes, plural } from "../format.js";
import { html } from "../html.js";
import { isOpen } from "../jobs.js";
import { Lightbox } from "../parts/lightbox.js";
import { Picture } from "../parts/picture.js";
import { usePoll } from "../polling.js";

const SECONDS = 15;
/** Links are valid for an hour: until then, an object keeps its link, so that browsers do not load it again. */
const LINK_MILLISECONDS = 50 * 60 * 1000;
/** The most requests for new links after refused ones. */
const RENEWAL_MILLISECONDS = 30 * 1000;
/** Artifacts that have their own section. */
const ELSEWHERE = /\/images\//;

/** @typedef {{ key: string, size_bytes: number, url: string }} Artifact */
/** @typedef {{ artifacts: Artifact[], error: string, renew: () => void }} Stored  renew: a link was refused */

/**
 * Follows what a job has stored.
 * @param {import("../jobs.js").Job | null} job
 * @returns {Stored}
 */
export function useArtifacts(job) {
  const [artifacts, setArtifacts] = useState(/** @type {Artifact[]} */ ([]));
  const [links] = useState(/** @type {Map<string, { url: string, at: number }>} */ (new Map()));
  const [error, setError] = useState("");
  const [renewedAt, setRenewedAt] = useState(0);
  const isRunning = job !== null && isOpen(job);

  usePoll(
    async (abort) => {
      if (!job) return "ended";
      const isRenewed = links.size === 0; // also if the new links are equal to the refused ones
      const next = (await load(job.id, abort)).map((artifact) => ({ ...artifact, url: kept(links, artifact) }));
      const hasChanged = JSON.stringify(next) !== JSON.stringify(artifacts);
      if (hasChanged || isRenewed) setArtifacts(next);
      setError("");
      if (!isRunning) return "ended";
      return hasChanged ? "changed" : "same";
    },
    SECONDS,
    (reason) => setError(String(/** @type {any} */ (reason).message)),
    [job?.id, isRunning, renewedAt],
  );
  const renew = () => {
    if (Date.now() - renewedAt < RENEWAL_MILLISECONDS) return;
    links.clear();
    setRenewedAt(Date.now());
  };
  return { artifacts, error, renew };
}

/**
 * @param {string} id
 * @param {AbortSignal} abort
 * @returns {Promise<Artifact[]>}
 */
async function load(id, abort) {
  const loaded = [];
  for (let after = ""; ; ) {
    const page = await get(`/v1/jobs/${id}/artifacts?${new URLSearchParams(after ? { after } : {})}`, abort);
    loaded.push(...page.artifacts);
    if (!page.next_after) return loaded;
    after = page.next_after;
  }
}

/**
 * @param {Map<string, { url: string, at: number }>} links
 * @param {Artifact} artifact
 */
function kept(links, { key, size_bytes, url }) {
  const id = `${key} ${size_bytes}`;
  const last = links.get(id);
  if (last && Date.now() - last.at < LINK_MILLISECONDS) return last.url;
  links.set(id, { url, at: Date.now() });
  return url;
}

/** @param {{ stored: Stored, id: string }} props */
export function Images({ stored, id }) {
  const [open, setOpen] = useState(/** @type {number | null} */ (null));
  const images = stored.artifacts.filter(({ key }) => IMAGE.test(key) && !ELSEWHERE.test(key));
  const large = open === null ? undefined : images[open];
  if (!images.length) return null;
  return html`<section>
    <h2>Images</h2>
    <ul class="gallery">
      ${images.map(
        (image, index) => html`<li key=${image.key}>
          <button type="button" onClick=${() => setOpen(index)}>
            <${Picture} src=${image.url} alt="" failed=${stored.renew} />
            <span>${shortName(image.key, id)}</span>
          </button>
        </li>`,
      )}
    </ul>
    ${
      large &&
      open !== null &&
      html`<${Lightbox} title=${shortName(large.key, id)} index=${open} count=${images.length} move=${setOpen} close=${() => setOpen(null)}>
        <${Picture} src=${large.url} alt=${shortName(large.key, id)} failed=${stored.renew} />
      <//>`
    }
  </section>`;
}

/** @param {{ artifacts: Artifact[], error: string, id: string }} props */
export function Artifacts({ artifacts, error, id }) {
  if (error) return html`<p class="banner failed">${error}</p>`;
  if (!artifacts.length) return null;
  const { files, folders } = grouped(artifacts, id);
  return html`<section>
    <h2>Artifacts</h2>
    <table class="artifacts">
      <thead><tr><th scope="col">Object</th><th scope="col" class="right">Size</th></tr></thead>
      <tbody>
        ${files.map(
          (file) => html`<tr key=${file.artifact.key}>
            <th scope="row"><${Download} file=${file} /></th>
            <td class="right">${bytes(file.artifact.size_bytes)}</td>
          </tr>`,
        )}
        ${folders.map((folder) => html`<${Folder} key=${folder.title} folder=${folder} />`)}
      </tbody>
    </table>
    <p class="hint">Links are valid for an hour. In the bucket, <code>results/</code> is <code>results/job-${id}/</code>, and so on.</p>
  </section>`;
}

/** A folder as one line, which opens. */
function Folder(/** @type {{ folder: import("../artifacts.js").Folder }} */ { folder: { title, files, size_bytes } }) {
  const [isOpen, setOpen] = useState(false);
  return html`<tr>
    <th scope="row">
      <details onToggle=${(/** @type {any} */ event) => setOpen(event.target.open)}>
        <summary><span class="mono">${title}</span> <span class="sub">${plural(files.length, "file")}</span></summary>
        ${isOpen && html`<ul>${files.map((file) => html`<li key=${file.artifact.key}><${Download} file=${file} /> <span class="sub">${bytes(file.artifact.size_bytes)}</span></li>`)}</ul>`}
      </details>
    </th>
    <td class="right">${bytes(size_bytes)}</td>
  </tr>`;
}

function Download(/** @type {{ file: import("../artifacts.js").File }} */ { file: { name, artifact } }) {
  return html`<a class="mono" href=${artifact.url} title=${artifact.key} target="_blank" rel="noreferrer">${name}</a>`;
}

/**
 * @param {string} key
 * @param {string} id
 */
function shortName(key, id) {
  return shortKey(key, id).replace(/^[a-z]+\//, "");
}
