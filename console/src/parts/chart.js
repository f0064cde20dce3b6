// One chart: lines over an axis, a readout of values, and a table with the same data. uPlot draws on a canvas, which has
// no content for a screen reader.

import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { PLAIN } from "../axes.js";
import { duration } from "../format.js";
import { html } from "../html.js";
import { isDark } from "./theme.js";

/** @typedef {import("../axes.js").AxisKind} AxisKind */
/** @typedef {import("../axes.js").Unit} Unit */
/** @typedef {{ label: string, values: (number | null)[], raw?: (number | null)[], colour: string, isDashed?: boolean }} Curve */
/** @typedef {{ from: number, to: number } | null} Zoom */

/** The height of a plot in pixels; the style sheet has the same. */
const HEIGHT = 200;
const SMALL_HEIGHT = 120;
/** What is right of a plot: half of the last number of its axis, or of its last duration. */
const EDGE = 12;
const LONG_EDGE = 34;
const FONT = "12px system-ui, sans-serif";
const DASH = [6, 4];
/** The colour of unsmoothed values: the curve's own, with this alpha. */
const FAINT = "55";

/**
 * @param {{
 *   title: string, x: number[], curves: Curve[], axis: AxisKind, zoom: import("@preact/signals").Signal<Zoom>,
 *   unit?: Unit, isShort?: boolean, isSmall?: boolean, names?: string
 * }} props  isShort: a legend elsewhere names the colours; names: of the metrics, as the trainer calls them
 */
export function Chart({ title, names, x, curves, axis, zoom, unit = PLAIN, isShort, isSmall }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const readouts = useRef(/** @type {(HTMLElement | null)[]} */ ([]));
  const plot = useRef(/** @type {uPlot | null} */ (null));
  const latest = useRef(curves);
  latest.current = curves;
  const shape = JSON.stringify([
    axis.title,
    isDark.value,
    curves.map((curve) => [curve.colour, curve.isDashed, Boolean(curve.raw)]),
  ]);
  const range = zoom.value;
  const height = isSmall ? SMALL_HEIGHT : HEIGHT;

  /** @param {number | null | undefined} index */
  function readOut(index) {
    latest.current.forEach((curve, place) => {
      const value = index === null || index === undefined ? lastOf(curve.values) : curve.values[index];
      const element = readouts.current[place];
      if (element) element.textContent = unit.format(value) || "–";
    });
  }

  useEffect(() => {
    if (!box.current) return;
    const element = box.current;
    const drawn = new uPlot(
      options({ width: element.clientWidth, height, curves, axis, unit, zoom, readOut }),
      data(x, curves),
      element,
    );
    plot.current = drawn;
    applyZoom(drawn, zoom.value);
    const resized = new ResizeObserver(() => {
      // Its first call reports the size that the plot has already; to set it would draw everything once more.
      if (element.clientWidth !== drawn.width) drawn.setSize({ width: element.clientWidth, height });
    });
    resized.observe(element);
    return () => {
      resized.disconnect();
      drawn.destroy();
      plot.current = null;
    };
  }, [shape]);

  useEffect(() => {
    if (!plot.current) return;
    plot.current.setData(data(x, curves), !zoom.value);
    applyZoom(plot.current, zoom.value);
    readOut(plot.current.cursor.idx);
  }, [x, curves]);

  useEffect(() => {
    if (plot.current) applyZoom(plot.current, range);
  }, [range]);

  return html`<figure class=${isSmall ? "chart small" : "chart"}>
    <figcaption>
      <h3 title=${names}>${title}</h3>
      <ul class="readout">
        ${curves.map(
          (curve, place) => html`<li key=${curve.label} title=${curve.label}>
            ${Swatch(curve)}
            <span class=${isShort ? "hidden" : undefined}>${curve.label === title ? "" : curve.label}</span>
            <output ref=${(/** @type {HTMLElement | null} */ element) => {
              readouts.current[place] = element;
            }} />
          </li>`,
        )}
      </ul>
    </figcaption>
    <div class="plot" ref=${box} role="img" aria-label=${describe(title, curves, unit)} />
    <${Table} title=${title} x=${x} curves=${curves} axis=${axis} unit=${unit} />
  </figure>`;
}

/** @param {Pick<Curve, "colour" | "isDashed">} curve */
export function Swatch({ colour, isDashed }) {
  return html`<svg class="swatch" viewBox="0 0 20 8" aria-hidden="true">
    <path d="M1 4h18" stroke=${colour} stroke-width="3" stroke-dasharray=${isDashed ? "5 3" : undefined} />
  </svg>`;
}

/** @param {{ title: string, x: number[], curves: Curve[], axis: AxisKind, unit: Unit }} props */
function Table({ title, x, curves, axis, unit }) {
  const [isOpen, setOpen] = useState(false);
  return html`<details class="data" onToggle=${(/** @type {any} */ event) => setOpen(event.target.open)}>
    <summary>Table<span class="hidden"> of ${title}</span></summary>
    ${
      isOpen &&
      html`<div class="scroll" tabindex="0" role="region" aria-label=${`Table of ${title}`}>
        <table>
          <thead>
            <tr><th scope="col">${axis.title}</th>${curves.map((curve) => html`<th scope="col">${curve.label}</th>`)}</tr>
          </thead>
          <tbody>
            ${x.map(
              (place, row) => html`<tr key=${place}>
                <th scope="row">${axis.format(place)}</th>
                ${curves.map((curve) => html`<td>${unit.format((curve.raw ?? curve.values)[row])}</td>`)}
              </tr>`,
            )}
          </tbody>
        </table>
      </div>`
    }
  </details>`;
}

/** @param {(number | null)[]} values */
function lastOf(values) {
  return values.findLast((value) => value !== null);
}

/**
 * @param {string} title
 * @param {Curve[]} curves
 * @param {Unit} unit
 */
function describe(title, curves, unit) {
  const parts = curves.map((curve) => {
    const first = curve.values.find((value) => value !== null);
    return `${curve.label} from ${unit.format(first)} to ${unit.format(lastOf(curve.values))}`;
  });
  return `Chart of ${title}: ${parts.join("; ")}. The table below has all values.`;
}

/**
 * @param {number[]} x
 * @param {Curve[]} curves
 * @returns {uPlot.AlignedData}
 */
function data(x, curves) {
  return [x, ...curves.flatMap((curve) => (curve.raw ? [curve.raw, curve.values] : [curve.values]))];
}

/**
 * @param {uPlot} drawn
 * @param {Zoom} zoom
 */
function applyZoom(drawn, zoom) {
  const x = drawn.data[0];
  const [first, last] = [x[0], x.at(-1)];
  if (first === undefined || last === undefined) return;
  drawn.setScale("x", zoom ? { min: zoom.from, max: zoom.to } : { min: first, max: last > first ? last : first + 1 });
}

/**
 * @param {{
 *   width: number, height: number, curves: Curve[], axis: AxisKind, unit: Unit,
 *   zoom: import("@preact/signals").Signal<Zoom>, readOut: (index: number | null | undefined) => void
 * }} parts
 * @returns {uPlot.Options}
 */
function options({ width, height, curves, axis, unit, zoom, readOut }) {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  const grid = { stroke: colour("--grid"), width: 1 };
  const common = { stroke: colour("--muted"), font: FONT, grid, ticks: { ...grid, size: 4 } };
  return {
    width,
    height,
    padding: [8, axis.format === duration ? LONG_EDGE : EDGE, 0, 0],
    legend: { show: false },
    cursor: {
      sync: { key: axis.sync, setSeries: false },
      drag: { x: true, y: false, setScale: false },
      points: { size: 7 },
      bind: {
        dblclick: () => () => {
          zoom.value = null;
          return null;
        },
      },
    },
    scales: { x: { time: false }, y: rangeOf(unit) },
    axes: [
      {
        ...common,
        values: (_, splits) => splits.map((value) => (value === null ? "" : axis.format(value))),
        space: axis.isWhole ? 50 : 80, // a duration is long
        incrs: axis.isWhole
          ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6, 1e7]
          : undefined,
        size: 28,
      },
      {
        ...common,
        incrs: unit.steps,
        size: unit === PLAIN ? 56 : 68,
        space: height / 5,
        values: (_, splits) => splits.map((value) => (value === null ? "" : tick(value, unit))),
      },
    ],
    series: [
      {},
      ...curves.flatMap((curve) => {
        const line = { stroke: curve.colour, width: 2, dash: curve.isDashed ? DASH : undefined, spanGaps: true };
        const faint = { stroke: curve.colour + FAINT, width: 1, spanGaps: true, points: { show: false } };
        return curve.raw ? [faint, line] : [line];
      }),
    ],
    hooks: {
      setCursor: [(drawn) => readOut(drawn.cursor.idx)],
      setSelect: [
        (drawn) => {
          const { left, width: selected } = drawn.select;
          if (selected < 2) return;
          zoom.value = { from: drawn.posToVal(left, "x"), to: drawn.posToVal(left + selected, "x") };
          drawn.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
    },
  };
}

/**
 * Returns the limits of the y axis: those of the unit, and wider where values are.
 * @param {Unit} unit
 * @returns {uPlot.Scale}
 */
function rangeOf({ least, most }) {
  if (least === undefined) return { range: plainRange };
  return { range: (_, low, high) => [Math.min(least, low ?? least), Math.max(most ?? (high ?? 1) * 1.05, high ?? 1)] };
}

/**
 * Returns the range that uPlot takes by itself, except for zeros only: there it would be 0 to 100.
 * @param {uPlot} _chart
 * @param {number} low  null: no data
 * @param {number} high
 * @returns {uPlot.Range.MinMax}
 */
function plainRange(_chart, low, high) {
  if (low === null) return [null, null];
  return low === 0 && high === 0 ? [0, 1] : uPlot.rangeNum(low, high, 0.1, true);
}

/**
 * @param {number} value
 * @param {Unit} unit
 */
function tick(value, unit) {
  return unit === PLAIN || unit.most === 1 ? String(Number(value.toPrecision(6))) : unit.format(value);
}
