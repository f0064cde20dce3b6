// The charts of one job or of several, with what they share: the axis, the smoothing and the zoom.

import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { OF_TRAINING } from "../axes.js";
import { html } from "../html.js";
import { groups, isLoad } from "../metrics.js";
import { colours } from "../palette.js";
import { axes, series, smooth } from "../series.js";
import { Chart, Swatch } from "./chart.js";
import { isDark } from "./theme.js";

/** @typedef {import("../series.js").Axis} Axis */
/** @typedef {{ label: string, place: number, history: import("../series.js").History, startedAt: string | null }} Run */

/** @param {{ runs: Run[] }} props */
export function Curves({ runs }) {
  const axis = useSignal(/** @type {Axis} */ ("epoch"));
  const smoothing = useSignal(0);
  const zoom = useSignal(/** @type {import("./chart.js").Zoom} */ (null));
  const choices = useMemo(() => axes(runs.map((run) => run.history)), [runs]);
  const charts = useMemo(
    () => chartsOf(runs, axis.value, smoothing.value, colours(isDark.value)),
    [runs, axis.value, smoothing.value, isDark.value],
  );

  const choose = (/** @type {Axis} */ chosen) => {
    axis.value = chosen;
    zoom.value = null;
  };
  return html`<div class="curves">
    <div class="toolbar">
      <fieldset class="choice">
        <legend>Over</legend>
        ${choices.map(
          (choice) => html`<label key=${choice}>
            <input type="radio" name="axis" checked=${axis.value === choice} onChange=${() => choose(choice)} />
            <span>${OF_TRAINING[choice].title}</span>
          </label>`,
        )}
      </fieldset>
      <label class="slider">
        Smoothing
        <input type="range" min="0" max="0.95" step="0.05" value=${smoothing.value}
          onInput=${(/** @type {any} */ event) => {
            smoothing.value = Number(event.target.value);
          }} />
        <output>${smoothing.value.toFixed(2)}</output>
      </label>
      ${
        zoom.value
          ? html`<button type="button" onClick=${() => {
              zoom.value = null;
            }}>Show all</button>`
          : html`<span class="hint">Drag over a chart to zoom</span>`
      }
    </div>
    ${
      runs.length > 1 &&
      html`<ul class="legend" aria-label="Colours">
        ${runs.map(
          (run) =>
            html`<li key=${run.label}>${Swatch({ colour: colours(isDark.value)[run.place] ?? "" })} ${run.label}</li>`,
        )}
        ${charts.some(({ hasPair }) => hasPair) && html`<li class="sub">${Swatch({ colour: "currentColor", isDashed: true })} of the validation</li>`}
      </ul>`
    }
    <div class="grid">
      ${charts.map(
        ({ title, names, x, curves }) =>
          html`<${Chart} key=${title} title=${title} names=${names} x=${x} curves=${curves} axis=${OF_TRAINING[axis.value]} zoom=${zoom}
            isShort=${runs.length > 1} />`,
      )}
    </div>
  </div>`;
}

/**
 * @param {Run[]} runs
 * @param {Axis} axis
 * @param {number} smoothing
 * @param {string[]} palette
 */
function chartsOf(runs, axis, smoothing, palette) {
  const all = runs.map((run) => series(run.history, axis, run.startedAt, (name) => !isLoad(name)));
  const x = [...new Set(all.flatMap((one) => one.x))].sort((a, b) => a - b);
  const columns = all.map((one) => spread(one, x));
  const names = [...new Set(all.flatMap((one) => [...one.columns.keys()]))];
  return groups(names).map((group) => {
    const curves = group.lines.flatMap((line, number) =>
      runs.flatMap((run, index) => {
        const values = columns[index]?.get(line.name);
        if (!values) return [];
        const smoothed = smooth(values, smoothing);
        return {
          label: runs.length > 1 ? (group.lines.length > 1 ? `${run.label}, ${line.label}` : run.label) : line.label,
          values: smoothed,
          raw: smoothing ? values : undefined,
          colour: palette[(run.place + (isPair(group) || runs.length > 1 ? 0 : number)) % palette.length] ?? "",
          isDashed: group.lines.length > 1 && (line.isValidation || (runs.length > 1 && number > 0)),
        };
      }),
    );
    return {
      title: group.title,
      hasPair: isPair(group) && group.lines.length > 1,
      names: group.lines.map(({ name }) => name).join(", "),
      x,
      curves,
    };
  });
}

/** @param {import("../metrics.js").Group} group */
function isPair(group) {
  return group.lines.some((line) => line.isValidation);
}

/**
 * Returns a run's columns over the places of all runs.
 * @param {import("../series.js").Series} one
 * @param {number[]} x
 */
function spread(one, x) {
  if (one.x.length === x.length) return one.columns;
  const index = new Map(one.x.map((place, row) => [place, row]));
  return new Map(
    [...one.columns].map(([name, values]) => [name, x.map((place) => values[index.get(place) ?? -1] ?? null)]),
  );
}
