// The results of compared jobs side by side: the same image at the same epoch, and the results by class.

import { useCallback, useEffect, useMemo, useState } from "preact/hooks";
import { COLUMNS, parsedReport } from "../evaluation.js";
import { number } from "../format.js";
import { html } from "../html.js";
import { useView, ViewChoice } from "../job/gallery.js";
import { useArtifacts } from "../pages/artifacts.js";
import { Annotated, SampleCaption } from "../parts/annotated.js";
import { Swatch } from "../parts/chart.js";
import { Lightbox } from "../parts/lightbox.js";
import { parsedSheet, sheetsOf } from "../samples.js";
import { useStored } from "../stored.js";

/** @typedef {import("../jobs.js").Job} Job */
/** @typedef {import("../samples.js").Sample} Sample */
/** @typedef {{ job: Job, name: string, colour: string }} Named */
/** @typedef {{ epochs: number[], epoch: number | null, samples: Sample[], urlOf: (sample: Sample) => string | undefined, renew: () => void, perClass: import("../evaluation.js").Row[] }} Own */

/** By which of these results classes are compared: the first that several jobs have. */
const RESULTS = ["ap", "ap50", "f1", "recall", "precision"];

/** @param {{ jobs: Named[] }} props */
export function Side({ jobs }) {
  const [all, setAll] = useState(/** @type {Map<string, Own>} */ (new Map()));
  const [chosen, setChosen] = useState(/** @type {number | null} */ (null));
  const report = useCallback(
    (/** @type {string} */ id, /** @type {Own} */ own) => setAll((last) => new Map(last).set(id, own)),
    [],
  );
  const present = jobs.flatMap((one) => {
    const own = all.get(one.job.id);
    return own ? [{ ...one, ...own }] : [];
  });
  const epochs = [...new Set(present.flatMap((one) => one.epochs))].sort((a, b) => a - b);
  const epoch = chosen ?? epochs.at(-1) ?? null;
  return html`${jobs.map(({ job }) => html`<${Loader} key=${job.id} job=${job} epoch=${epoch} report=${report} />`)}
    <${Classes} all=${present.filter((one) => one.perClass.length)} />
    ${
      present.filter((one) => one.samples.length).length > 1 &&
      html`<${Images} all=${present.filter((one) => one.samples.length)} epochs=${epochs} epoch=${epoch}
        choose=${(/** @type {number | undefined} */ next) => setChosen(next === epochs.at(-1) ? null : (next ?? null))} />`
    }`;
}

/**
 * Loads a job's stored results; renders nothing.
 * @param {{ job: Job, epoch: number | null, report: (id: string, own: Own) => void }} props
 */
function Loader({ job, epoch, report }) {
  const stored = useArtifacts(job);
  const sheets = sheetsOf(stored.artifacts);
  // A job that has no sheet of this epoch shows its last one before it.
  const sheet = sheets.findLast((one) => epoch === null || one.epoch <= epoch) ?? sheets[0];
  const text = useStored(sheet?.artifact, stored.renew);
  const result = useStored(
    stored.artifacts.find(({ key }) => key === `results/job-${job.id}/report.json`),
    stored.renew,
  );
  const parsed = useMemo(() => (text === null ? null : parsedSheet(text)), [text]);
  const perClass = useMemo(() => (result === null ? [] : parsedReport(result).perClass), [result]);
  useEffect(() => {
    const urlOf = (/** @type {Sample} */ { file }) =>
      stored.artifacts.find(({ key }) => key === `results/job-${job.id}/${file}`)?.url;
    const epochs = sheets.map((one) => one.epoch);
    report(job.id, {
      epochs,
      epoch: parsed?.epoch ?? null,
      samples: parsed?.samples ?? [],
      urlOf,
      renew: stored.renew,
      perClass,
    });
  }, [stored.artifacts, parsed, perClass]);
  return null;
}

/** @param {{ all: (Named & Own)[], epochs: number[], epoch: number | null, choose: (epoch: number | undefined) => void }} props */
function Images({ all, epochs, epoch, choose }) {
  const [view, change] = useView();
  const [open, setOpen] = useState(/** @type {number | null} */ (null));
  const names = [...new Set(all.flatMap((one) => one.samples.map(({ name }) => name)))].filter(
    (name) => all.filter((one) => one.samples.some((sample) => sample.name === name)).length > 1,
  );
  const place = epochs.indexOf(epoch ?? -1);
  const large = open === null ? undefined : names[open];
  const cells = (/** @type {string} */ name, isLarge = false) =>
    all.map((one) => {
      const sample = one.samples.find((own) => own.name === name);
      return html`<figure key=${one.job.id}>
        ${isLarge && html`<p>${Swatch({ colour: one.colour })} ${one.name}</p>`}
        ${sample ? html`<${Annotated} sample=${sample} url=${one.urlOf(sample)} view=${view} isLarge=${isLarge} failed=${one.renew} />` : html`<p class="sub">not among its samples</p>`}
        ${sample?.isClassified && html`<figcaption class="caption"><${SampleCaption} sample=${sample} view=${view} /></figcaption>`}
      </figure>`;
    });
  return html`<section>
    <h2>Samples</h2>
    ${!names.length && html`<p class="empty">These jobs have stored different images.</p>`}
    ${
      names.length > 0 &&
      html`<${ViewChoice} view=${view} change=${change} samples=${all.flatMap((one) => one.samples)}>
          ${
            epochs.length > 1 &&
            html`<label class="slider">Epoch
              <input type="range" min="0" max=${epochs.length - 1} step="1" value=${place} aria-valuetext=${`epoch ${epoch}`}
                onInput=${(/** @type {any} */ event) => choose(epochs[Number(event.target.value)])} />
              <output>${epoch}</output>
            </label>`
          }
        <//>
        <div class="table-box" tabindex="0" role="region" aria-label="Samples">
          <table class="compared samples-table">
            <thead>
              <tr><td></td>${all.map((one) => html`<th scope="col" key=${one.job.id}>${Swatch({ colour: one.colour })} ${one.name} <span class="sub">epoch ${one.epoch}</span></th>`)}</tr>
            </thead>
            <tbody>
              ${names.map(
                (name, index) => html`<tr key=${name}>
                  <th scope="row"><button type="button" class="plain" onClick=${() => setOpen(index)}>${name}</button></th>
                  ${cells(name).map((cell) => html`<td>${cell}</td>`)}
                </tr>`,
              )}
            </tbody>
          </table>
        </div>`
    }
    ${
      large !== undefined &&
      open !== null &&
      html`<${Lightbox} title=${large} index=${open} count=${names.length} move=${setOpen} close=${() => setOpen(null)}>
        <div class="side">${cells(large, true)}</div>
      <//>`
    }
  </section>`;
}

/** @param {{ all: (Named & Own)[] }} props */
function Classes({ all }) {
  const column = RESULTS.find(
    (name) => all.filter((one) => one.perClass.some((row) => typeof row[name] === "number")).length > 1,
  );
  if (!column) return null;
  const names = [...new Set(all.flatMap((one) => one.perClass.map((row) => row.name)))];
  const title = COLUMNS.find(([name]) => name === column)?.[1] ?? column;
  return html`<section>
    <h2>${title} by class</h2>
    <div class="table-box tall" tabindex="0" role="region" aria-label=${`${title} by class`}>
      <table class="compared">
        <thead><tr><td></td>${all.map((one) => html`<th scope="col" key=${one.job.id}>${Swatch({ colour: one.colour })} ${one.name}</th>`)}</tr></thead>
        <tbody>
          ${names.map((name) => {
            const values = all.map((one) => one.perClass.find((row) => row.name === name)?.[column]);
            const known = values.filter((value) => typeof value === "number");
            const top = new Set(known).size > 1 ? Math.max(...known) : undefined;
            return html`<tr key=${name}><th scope="row">${name}</th>${values.map((value) => html`<td class=${value === top && top !== undefined ? "best" : undefined}>${number(value)}</td>`)}</tr>`;
          })}
        </tbody>
      </table>
    </div>
  </section>`;
}
