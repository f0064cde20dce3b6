// Images in a grid with what is in them and what is predicted, and each of them large.

import { useState } from "preact/hooks";
import { html } from "../html.js";
import { Annotated, SampleCaption } from "../parts/annotated.js";
import { Lightbox } from "../parts/lightbox.js";
import { confident, isRight, sure } from "../samples.js";

/** @typedef {import("../samples.js").Sample} Sample */
/** @typedef {import("../samples.js").View} View */

const CONFIDENCE = 0.25;

/** @returns {[View, (changes: Partial<View>) => void]} */
export function useView() {
  const [view, setView] = useState({ showsTruth: true, showsPredictions: true, confidence: CONFIDENCE });
  return [view, (changes) => setView((last) => ({ ...last, ...changes }))];
}

/**
 * Chooses what is drawn.
 * @param {{ view: View, change: (changes: Partial<View>) => void, samples: Sample[], children?: any }} props
 */
export function ViewChoice({ view, change, samples, children }) {
  const hasTruth = samples.some((sample) => sample.truth.length);
  const isClassified = samples.some((sample) => sample.isClassified);
  return html`<div class="toolbar">
    ${children}
    ${
      hasTruth &&
      html`<label><input type="checkbox" checked=${view.showsTruth} onChange=${() => change({ showsTruth: !view.showsTruth })} />
        <span class=${isClassified ? undefined : "key truth"}>Truth</span>
      </label>`
    }
    <label><input type="checkbox" checked=${view.showsPredictions} onChange=${() => change({ showsPredictions: !view.showsPredictions })} />
      <span class=${isClassified ? undefined : "key prediction"}>Predictions</span>
    </label>
    ${
      !isClassified &&
      html`<label class="slider">Confidence from
        <input type="range" min="0" max="1" step="0.05" value=${view.confidence}
          onInput=${(/** @type {any} */ event) => change({ confidence: Number(event.target.value) })} />
        <output>${view.confidence.toFixed(2)}</output>
      </label>`
    }
  </div>`;
}

/**
 * @param {{
 *   samples: Sample[], view: View, urlOf: (sample: Sample) => string | undefined, failed?: () => void,
 *   keys?: Record<string, () => void>, note?: string
 * }} props  keys, note: of the large image
 */
export function Gallery({ samples, view, urlOf, failed, keys, note }) {
  const [open, setOpen] = useState(/** @type {number | null} */ (null));
  const large = open === null ? undefined : samples[open];
  return html`<ul class="samples">
      ${samples.map(
        (sample, index) => html`<li key=${sample.name}>
          <button type="button" class=${`sample ${sample.isClassified && isRight(sample) === false ? "wrong" : ""}`} onClick=${() => setOpen(index)}>
            <${Annotated} sample=${sample} url=${urlOf(sample)} view=${view} failed=${failed} />
            <span class="caption"><${SampleCaption} sample=${sample} view=${view} /></span>
          </button>
        </li>`,
      )}
    </ul>
    ${
      large &&
      open !== null &&
      html`<${Lightbox} title=${large.name} index=${open} count=${samples.length} move=${setOpen} keys=${keys} close=${() => setOpen(null)}>
        ${note && html`<p class="hint">${note}</p>`}
        <${Annotated} sample=${large} url=${urlOf(large)} view=${view} isLarge failed=${failed} />
        <${Marks} sample=${large} view=${view} />
      <//>`
    }`;
}

/** A text alternative for the drawing. */
function Marks(/** @type {{ sample: Sample, view: View }} */ { sample, view }) {
  const lists = [
    ["Truth", view.showsTruth ? sample.truth : []],
    ["Predictions", view.showsPredictions ? confident(sample, sample.isClassified ? 0 : view.confidence) : []],
  ].filter(([, marks]) => marks?.length);
  return html`<dl class="marks">
    ${lists.map(
      ([title, marks]) => html`<div key=${title}>
        <dt>${title}</dt>
        <dd>${/** @type {any[]} */ (marks).map(sure).join(", ")}</dd>
      </div>`,
    )}
  </dl>`;
}
