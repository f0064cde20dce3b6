// Images with labels and predictions: from a training's sample sheets, and from predictions.jsonl.
// Places are shares of the image, from 0 to 1.

import { percent } from "./format.js";

/** @typedef {[number, number]} Point */
/** @typedef {{ label: string, confidence: number | null, box?: number[], polygon?: Point[], keypoints?: Point[] }} Mark */
/** @typedef {{ file: string, name: string, width: number, height: number, truth: Mark[], predictions: Mark[], isClassified: boolean }} Sample */
/** @typedef {{ epoch: number, samples: Sample[] }} Sheet */
/** @typedef {{ showsTruth: boolean, showsPredictions: boolean, confidence: number }} View */

const SHEET = /\/samples\/epoch-(\d+)\.json$/;

/**
 * Returns the epochs that a job has sample sheets of, in order, and their objects.
 * @template {{ key: string }} T
 * @param {T[]} artifacts
 * @returns {{ epoch: number, artifact: T }[]}
 */
export function sheetsOf(artifacts) {
  return artifacts
    .flatMap((artifact) => {
      const [, epoch] = SHEET.exec(artifact.key) ?? [];
      return epoch === undefined ? [] : [{ epoch: Number(epoch), artifact }];
    })
    .sort((a, b) => a.epoch - b.epoch);
}

/**
 * Returns a sample sheet; what a trainer has written in another shape is left out.
 * @param {string} text
 * @returns {Sheet}
 */
export function parsedSheet(text) {
  const { epoch = 0, task = "", classes = [], images = [] } = JSON.parse(text);
  const label = (/** @type {any} */ one) => String(classes[one.class] ?? one.class ?? "");
  const mark = (/** @type {any} */ one) => ({
    label: label(one),
    confidence: number(one.confidence),
    box: numbers(one.box, 4),
    polygon: points(one.polygon),
    keypoints: points(one.keypoints),
  });
  return {
    epoch,
    samples: list(images).map((image) => ({
      file: String(image.file ?? ""),
      name: String(image.name ?? image.file ?? ""),
      width: number(image.width) ?? 1,
      height: number(image.height) ?? 1,
      truth: list(image.truth).map(mark),
      predictions: list(image.predictions).map(mark).sort(byConfidence),
      isClassified: task === "classify",
    })),
  };
}

/**
 * Returns the lines of a prediction's predictions.jsonl as samples, whichever trainer has written them.
 * @param {string} text
 * @returns {Sample[]}
 */
export function parsedPredictions(text) {
  const rows = text.split("\n").filter((line) => line.trim() !== "");
  return rows.map((line) => {
    const row = JSON.parse(line);
    const [width, height] = [number(row.width) ?? 1, number(row.height) ?? 1];
    const classified = row.top ?? row.probs;
    return {
      file: String(row.image ?? ""),
      name: String(row.file ?? ""),
      width,
      height,
      truth: [],
      predictions: list(classified ?? row.boxes)
        .map((one) => predicted(one, width, height))
        .sort(byConfidence),
      isClassified: classified !== undefined,
    };
  });
}

/**
 * @param {any} one  its places are in pixels
 * @param {number} width
 * @param {number} height
 * @returns {Mark}
 */
function predicted(one, width, height) {
  const share = (/** @type {any} */ all) =>
    points(all)?.map(([x, y]) => /** @type {Point} */ ([x / width, y / height]));
  const [left, top, right, bottom] = numbers(one.xyxy, 4) ?? [];
  return {
    label: String(one.name ?? one.class ?? ""),
    confidence: number(one.confidence ?? one.probability),
    box:
      left === undefined || top === undefined || right === undefined || bottom === undefined
        ? undefined
        : [left / width, top / height, (right - left) / width, (bottom - top) / height],
    polygon: share(one.mask ?? one.corners),
    // The third number is whether a point is visible, or how sure the model is of it.
    keypoints: share(one.keypoints?.filter?.((/** @type {any} */ point) => point[2] === undefined || point[2] >= 0.5)),
  };
}

/**
 * Returns the predictions of at least a confidence.
 * @param {Sample} sample
 * @param {number} confidence
 */
export function confident(sample, confidence) {
  return sample.predictions.filter((one) => one.confidence === null || one.confidence >= confidence);
}

/**
 * Returns whether the likeliest class of a classified image is the right one; null if the right one is not known.
 * @param {Sample} sample
 */
export function isRight(sample) {
  const [truth] = sample.truth;
  return truth ? sample.predictions[0]?.label === truth.label : null;
}

/**
 * Returns a text alternative for a sample, for people who cannot see it.
 * @param {Sample} sample
 * @param {View} view
 */
export function described(sample, { showsTruth, showsPredictions, confidence }) {
  const words = [];
  if (showsTruth && sample.truth.length) words.push(`truth: ${counted(sample.truth)}`);
  if (showsPredictions) {
    const shown = confident(sample, sample.isClassified ? 0 : confidence);
    words.push(`predicted: ${sample.isClassified ? shown.map(sure).join(", ") : counted(shown) || "nothing"}`);
  }
  return [sample.name, ...words].join("; ");
}

/** @param {Mark} mark */
export function sure({ label, confidence }) {
  return confidence === null ? label : `${label} ${percent(confidence)}`;
}

/** @param {Mark[]} marks */
function counted(marks) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { label } of marks) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].map(([label, count]) => `${count} × ${label}`).join(", ");
}

/**
 * @param {Mark} a
 * @param {Mark} b
 */
function byConfidence(a, b) {
  return (b.confidence ?? 0) - (a.confidence ?? 0);
}

/** @param {unknown} value */
function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** @param {unknown} value @returns {any[]} */
function list(value) {
  return Array.isArray(value) ? value : [];
}

/**
 * @param {unknown} value
 * @param {number} count
 * @returns {number[] | undefined}
 */
function numbers(value, count) {
  return Array.isArray(value) && value.length >= count && value.every((one) => number(one) !== null)
    ? value
    : undefined;
}

/**
 * @param {unknown} value
 * @returns {Point[] | undefined}
 */
function points(value) {
  const known = list(value).filter((point) => numbers(point, 2));
  return known.length ? known.map(([x, y]) => [x, y]) : undefined;
}
