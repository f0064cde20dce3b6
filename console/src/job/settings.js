import { useEffect, useState } from "preact/hooks";
import { get } from "../api.js";
import { setting } from "../format.js";
import { html } from "../html.js";

/** @typedef {import("../jobs.js").Job} Job */

/** A job's own settings, beside the defaults of its trainer. */
export function Settings(/** @type {{ job: Job }} */ { job }) {
  const [defaults, setDefaults] = useState(/** @type {Map<string, unknown>} */ (new Map()));
  // The version is among the facts: it is the one that the job uses, also where none was requested.
  const { hyperparameters = {}, dataset_etag: _requested, ...own } = job.spec ?? {};
  const rows = [...Object.entries(own), ...Object.entries(hyperparameters)];
  const facts = [
    ["dataset version (ETag)", job.dataset_etag],
    ["image", job.image],
    ["trace id", job.trace_id],
  ].filter(([, value]) => value);
  useEffect(() => {
    const abort = new AbortController();
    // Without the defaults, the settings are still there.
    get("/v1/frameworks", abort.signal)
      .then(({ frameworks }) => setDefaults(defaultsOf(frameworks, job.framework)))
      .catch(() => {});
    return () => abort.abort();
  }, [job.framework]);

  return html`<section>
    <h2>Settings</h2>
    <p class="hint">The job's own settings, in <strong>bold</strong> if they differ from the trainer's default. All other settings have their defaults.</p>
    <div class="table-box plain-box" tabindex="0" role="region" aria-label="Settings">
    <table class="settings">
      <thead><tr><th scope="col">Setting</th><th scope="col">Value</th><th scope="col">Default</th></tr></thead>
      <tbody>
        ${rows.map(([name, value]) => {
          const usual = defaults.get(name);
          const isKnown = usual !== undefined && usual !== null;
          const differs = isKnown && setting(usual) !== setting(value);
          return html`<tr key=${name} class=${differs ? "differs" : undefined}>
            <th scope="row">${name}</th>
            <td class="mono">${setting(value)}${differs && html`<span class="hidden"> (differs)</span>`}</td>
            <td class="mono sub">${isKnown ? setting(usual) : ""}</td>
          </tr>`;
        })}
        ${facts.map(([name, value]) => html`<tr key=${name}><th scope="row">${name}</th><td class="mono" colspan="2">${value}</td></tr>`)}
      </tbody>
    </table>
    </div>
  </section>`;
}

/**
 * @param {any[]} frameworks
 * @param {string} name
 * @returns {Map<string, unknown>}
 */
function defaultsOf(frameworks, name) {
  const { fields = [], options = null } = frameworks.find(({ framework }) => framework === name) ?? {};
  return new Map([...fields, ...(options ?? [])].map((option) => [option.name, option.default]));
}
