// A job's metrics over time, as columns for charts.

import { isLowerBetter } from "./metrics.js";

/** @typedef {"epoch" | "step" | "time"} Axis */
/** @typedef {(number | null)[]} Column */
/** @typedef {{ epoch: Column, step: Column, time: Column, metrics: Map<string, Column> }} History  time: seconds since 1970 */
/** @typedef {{ x: number[], columns: Map<string, Column> }} Series */
/** @typedef {{ name: string, value: number, epoch: number | null }} Best */

/** @type {History} */
export const NOTHING = { epoch: [], step: [], time: [], metrics: new Map() };

/**
 * Returns a job's metrics from the API's response.
 * @param {{ columns: Record<string, Column>, rows: number }} response
 * @returns {History}
 */
export function history({ columns }) {
  const { epoch = [], step = [], time = [], ...metrics } = columns;
  return { epoch, step, time, metrics: new Map(Object.entries(metrics)) };
}

/**
 * Returns the axes that at least two different rows have, so that a curve can be drawn.
 * @param {History[]} all
 * @returns {Axis[]}
 */
export function axes(all) {
  const hasSteps = new Set(all.flatMap(({ step }) => step).filter((step) => step !== null)).size > 1;
  return hasSteps ? ["epoch", "step", "time"] : ["epoch", "time"];
}

/**
 * Returns the chosen metrics over an axis. Rows at the same place are merged; the later values count.
 * @param {History} own
 * @param {Axis} axis
 * @param {string | null} startedAt  the zero of the axis `time`, which is in seconds
 * @param {(name: string) => boolean} isChosen
 * @returns {Series}
 */
export function series(own, axis, startedAt, isChosen) {
  const start = startedAt ? Date.parse(startedAt) / 1000 : (own.time[0] ?? 0);
  const chosen = [...own.metrics].filter(([name]) => isChosen(name));
  /** @type {Map<number, number[]>} */
  const rows = new Map();
  for (let row = 0; row < own.time.length; row++) {
    const place = own[axis][row] ?? null;
    if (place === null || chosen.every(([, values]) => finite(values[row]) === null)) continue;
    const x = axis === "time" ? place - start : place;
    const same = rows.get(x);
    if (same) same.push(row);
    else rows.set(x, [row]);
  }
  const x = [...rows.keys()].sort((a, b) => a - b);
  const at = (/** @type {Column} */ values, /** @type {number} */ place) => {
    const row = rows.get(place)?.findLast((one) => finite(values[one]) !== null);
    return row === undefined ? null : finite(values[row]);
  };
  return { x, columns: new Map(chosen.map(([name, values]) => [name, x.map((place) => at(values, place))])) };
}

/** @param {unknown} value */
function finite(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/**
 * Returns the best value of a metric so far, and the last of all.
 * @param {History} own
 * @param {string} name
 * @returns {(Best & { last: number }) | undefined}
 */
export function best(own, name) {
  const sign = isLowerBetter(name) ? -1 : 1;
  const values = own.metrics.get(name) ?? [];
  let row = -1;
  for (let other = 0; other < values.length; other++) {
    const value = finite(values[other]);
    if (value !== null && (row < 0 || value * sign > (values[row] ?? 0) * sign)) row = other;
  }
  if (row < 0) return undefined;
  const last = values.findLast((value) => finite(value) !== null);
  return { name, value: values[row] ?? 0, epoch: own.epoch[row] ?? null, last: last ?? 0 };
}

/**
 * Smooths a column by an exponential moving average that is corrected at its start, as TensorBoard's is.
 * @param {Column} values
 * @param {number} weight  from 0, which changes nothing, to below 1
 * @returns {Column}
 */
export function smooth(values, weight) {
  if (!weight) return values;
  let average = 0;
  let count = 0;
  return values.map((value) => {
    if (value === null) return null;
    average = average * weight + (1 - weight) * value;
    count += 1;
    return average / (1 - weight ** count);
  });
}
