// The labels of the charts' axes, and the formats of their values and those of curves.

import { bytes, duration, number, percent } from "./format.js";

/** @typedef {{ title: string, format: (value: number) => string, isWhole: boolean, sync: string }} AxisKind */
/** @typedef {{ format: (value: number | null | undefined) => string, least?: number, most?: number, steps?: number[] }} Unit */

/** @type {Record<import("./series.js").Axis, AxisKind>} */
export const OF_TRAINING = {
  epoch: { title: "Epoch", format: number, isWhole: true, sync: "training" },
  step: { title: "Step", format: number, isWhole: true, sync: "training" },
  time: { title: "Time", format: duration, isWhole: false, sync: "training" },
};
/** @type {AxisKind} */
export const LOAD_TIME = { title: "Time", format: duration, isWhole: false, sync: "load" };
/** @type {AxisKind} */
export const CONFIDENCE = { title: "Confidence", format: short, isWhole: false, sync: "confidence" };
/** @type {AxisKind} */
export const RECALL = { title: "Recall", format: short, isWhole: false, sync: "recall" };

/** @type {Unit} */
export const PLAIN = { format: number };
/** @type {Unit} */
export const SHARE = { format: number, least: 0, most: 1 };
/** @type {Unit} */
export const PERCENT = {
  format: (value) => (value === null || value === undefined ? "" : percent(value / 100)),
  least: 0,
  most: 100,
};
/** Powers of two, so that the ticks of bytes are round. */
const BINARY = Array.from({ length: 50 }, (_, power) => 2 ** power);
/** @type {Unit} */
export const BYTES = {
  format: (value) => (value === null || value === undefined ? "" : bytes(value)),
  least: 0,
  steps: BINARY,
};

/** @param {number} value */
function short(value) {
  return String(Number(value.toPrecision(3)));
}
