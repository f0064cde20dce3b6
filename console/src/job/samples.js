import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { parsedSheet, sheetsOf } from "../samples.js";
import { useStored } from "../stored.js";
import { Gallery, useView, ViewChoice } from "./gallery.js";

/** @typedef {import("../pages/artifacts.js").Stored} Stored */

/** The images that a training has stored with their truth and its predictions, by epoch. */
export function Samples(/** @type {{ id: string, stored: Stored }} */ { id, stored }) {
  const sheets = sheetsOf(stored.artifacts);
  // The epoch that was chosen; null: the latest, also when later ones come.
  const [chosen, setChosen] = useState(/** @type {number | null} */ (null));
  const [view, change] = useView();
  const place = chosen === null ? sheets.length - 1 : sheets.findIndex(({ epoch }) => epoch === chosen);
  const current = sheets[place];
  const text = useStored(current?.artifact, stored.renew);
  const [sheet, setSheet] = useState(/** @type {import("../samples.js").Sheet | null} */ (null));
  useEffect(() => {
    // The last sheet stays until the next one is loaded.
    if (text !== null) setSheet(parsedSheet(text));
  }, [text]);

  if (!sheet?.samples.length || !current) return null;
  const choose = (/** @type {number} */ next) => {
    const one = sheets[Math.min(Math.max(next, 0), sheets.length - 1)];
    setChosen(!one || one === sheets.at(-1) ? null : one.epoch);
  };
  const urlOf = (/** @type {import("../samples.js").Sample} */ { file }) =>
    stored.artifacts.find(({ key }) => key === `results/job-${id}/${file}`)?.url;
  return html`<section>
    <h2>Samples</h2>
    <${ViewChoice} view=${view} change=${change} samples=${sheet.samples}>
      ${
        sheets.length > 1 &&
        html`<label class="slider">Epoch
          <input type="range" min="0" max=${sheets.length - 1} step="1" value=${place} aria-valuetext=${`epoch ${current.epoch}`}
            onInput=${(/** @type {any} */ event) => choose(Number(event.target.value))} />
          <output>${current.epoch}</output>
        </label>`
      }
    <//>
    <${Gallery} samples=${sheet.samples} view=${view} urlOf=${urlOf} failed=${stored.renew}
      keys=${{ ArrowDown: () => choose(place - 1), ArrowUp: () => choose(place + 1) }}
      note=${sheets.length > 1 ? `Epoch ${sheet.epoch}; the arrow keys up and down change it.` : ""} />
  </section>`;
}
