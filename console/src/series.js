// A job's metrics over time, as columns for charts.

import { isLowerBetter } from "./metrics.js";

/** @typedef {"epoch" | "step" | "time"} Axis */
/** @typedef {{ epoch: number | null, step: number | null, at: string, metrics: Record<string, number> }} Point */
/** @typedef {{ x: number[], columns: Map<string, (number | null)[]> }} Series */
/** @typedef {{ name: string, value: number, epoch: number | null }} Best */

/**
 * Returns the points of a timeline: its entries that have metrics.
 * @param {any[]} events
 * @returns {Point[]}
 */
export function points(events) {
  return events.filter((event) => event.metrics && Object.keys(event.metrics).length && event.epoch !== null);
}

/**
 * Returns the axes that at least two different points have, so that a curve can be drawn.
 * @param {Point[]} all
 * @returns {Axis[]}
 */
export function axes(all) {
  /** @type {Axis[]} */
  const found = ["epoch"];
  if (new Set(all.map((point) => point.step).filter((step) => step !== null)).size > 1) found.push("step");
  found.push("time");
  return found;
}

/**
 * Returns columns over an axis. Points with the same place are merged: after a disruption, an epoch is trained again,
 * and its later values count.
 * @param {Point[]} all
 * @param {Axis} axis
 * @param {string | null} [startedAt]  the zero of the axis `time`, which is in seconds
 * @returns {Series}
 */
export function series(all, axis, startedAt) {
  const start = Date.parse(startedAt ?? all[0]?.at ?? "");
  /** @type {Map<number, Record<string, number>>} */
  const rows = new Map();
  /** @type {Set<string>} */
  const names = new Set();
  for (const point of all) {
    const x = axis === "time" ? (Date.parse(point.at) - start) / 1000 : point[axis];
    if (x === null || Number.isNaN(x)) continue;
    rows.set(x, Object.assign(rows.get(x) ?? {}, point.metrics));
    for (const name of Object.keys(point.metrics)) names.add(name);
  }
  const x = [...rows.keys()].sort((a, b) => a - b);
  const columns = new Map([...names].map((name) => [name, x.map((place) => finite(rows.get(place)?.[name]))]));
  return { x, columns };
}

/** @param {unknown} value */
function finite(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/**
 * Returns the best value of a metric so far.
 * @param {Point[]} all
 * @param {string} name
 * @returns {Best | undefined}
 */
export function best(all, name) {
  const sign = isLowerBetter(name) ? -1 : 1;
  /** @type {Best | undefined} */
  let found;
  for (const { epoch, metrics } of all) {
    const value = finite(metrics[name]);
    if (value !== null && (!found || value * sign > found.value * sign)) found = { name, value, epoch };
  }
  return found;
}

/**
 * Smooths a column by an exponential moving average that is corrected at its start, as TensorBoard's is.
 * @param {(number | null)[]} values
 * @param {number} weight  from 0, which changes nothing, to below 1
 * @returns {(number | null)[]}
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
