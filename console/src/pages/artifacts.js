import { useState } from "preact/hooks";
import { get } from "../api.js";
import { bytes } from "../format.js";
import { html } from "../html.js";
import { isOpen } from "../jobs.js";
import { usePoll } from "../polling.js";

const SECONDS = 15;
const IMAGE = /\.(png|jpe?g|webp|gif)$/i;
/** Links are valid for an hour: until then, an object keeps its link, so that browsers do not load it again. */
const LINK_MILLISECONDS = 50 * 60 * 1000;

/** @typedef {{ key: string, size_bytes: number, url: string }} Artifact */

/**
 * Follows what a job has stored.
 * @param {import("../jobs.js").Job | null} job
 * @returns {{ artifacts: Artifact[], error: string }}
 */
export function useArtifacts(job) {
  const [artifacts, setArtifacts] = useState(/** @type {Artifact[]} */ ([]));
  const [links] = useState(/** @type {Map<string, { url: string, at: number }>} */ (new Map()));
  const [error, setError] = useState("");
  const isRunning = job !== null && isOpen(job);

  usePoll(
    async (abort) => {
      if (!job) return "ended";
      const next = (await load(job.id, abort)).map((artifact) => ({ ...artifact, url: kept(links, artifact) }));
      const hasChanged = JSON.stringify(next) !== JSON.stringify(artifacts);
      if (hasChanged) setArtifacts(next);
      setError("");
      if (!isRunning) return "ended";
      return hasChanged ? "changed" : "same";
    },
    SECONDS,
    (reason) => setError(String(/** @type {any} */ (reason).message)),
    [job?.id, isRunning],
  );
  return { artifacts, error };
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

/** @param {{ artifacts: Artifact[], id: string }} props */
export function Images({ artifacts, id }) {
  const images = artifacts.filter((artifact) => IMAGE.test(artifact.key));
  if (!images.length) return null;
  return html`<section>
    <h2>Images</h2>
    <div class="gallery">
      ${images.map(
        (image) => html`<figure key=${image.key}>
          <a href=${image.url} target="_blank" rel="noreferrer"><img src=${image.url} alt=${shortName(image.key, id)} loading="lazy" /></a>
          <figcaption>${shortName(image.key, id)}</figcaption>
        </figure>`,
      )}
    </div>
  </section>`;
}

/** @param {{ artifacts: Artifact[], error: string }} props */
export function Artifacts({ artifacts, error }) {
  if (error) return html`<p class="banner failed">${error}</p>`;
  if (!artifacts.length) return null;
  return html`<section>
    <h2>Artifacts</h2>
    <table class="artifacts">
      <thead><tr><th scope="col">Object</th><th scope="col" class="right">Size</th></tr></thead>
      <tbody>
        ${artifacts.map(
          (artifact) => html`<tr key=${artifact.key}>
            <th scope="row"><a class="mono" href=${artifact.url} target="_blank" rel="noreferrer">${artifact.key}</a></th>
            <td class="right">${bytes(artifact.size_bytes)}</td>
          </tr>`,
        )}
      </tbody>
    </table>
    <p class="hint">Links are valid for an hour.</p>
  </section>`;
}

/**
 * @param {string} key
 * @param {string} id
 */
function shortName(key, id) {
  return key.replace(new RegExp(`^[a-z]+/job-${id}/`), "");
}
