// Metrics by their names: which share a chart, which one is the main one, and whether higher is better.

/** @typedef {{ name: string, label: string, isValidation: boolean }} Line */
/** @typedef {{ title: string, section: "main" | "loss" | "other" | "rate", lines: Line[] }} Group */

const SPLIT = /^(train|training|val|valid|validation|test)[/_](.+)$/i;
const RATE = /^(lr|learning[-_]?rate)([/_].*)?$/i;
const LOAD = /^system\//;
const LOWER_IS_BETTER = /loss|error|mae|rmse|mse|perplexity/i;
const SECTIONS = ["main", "loss", "other", "rate"];

/** In the order in which they stand for a whole job. */
const PRIMARY = [
  /mAP50-95\(B\)$/i,
  /mAP[_-]?50[-_]95/i,
  /mAP/i,
  /top[-_]?1$/i,
  /acc(uracy)?$/i,
  /f1/i,
  /iou|dice/i,
  /^(val|valid|validation)[/_].*loss/i,
  /loss/i,
];

/** What YOLO's results are of; boxes are what most of its models find. */
const PARTS = /** @type {Record<string, string>} */ ({ B: "", M: " of masks", P: " of keypoints" });

/**
 * Returns a metric's readable name: `mAP50-95`, `top-1`, `val box loss`.
 * @param {string} name
 */
export function label(name) {
  const [, split, rest = name] = SPLIT.exec(name) ?? [];
  return split ? `${split} ${words(rest)}` : words(rest);
}

/** @param {string} name  without the split that it is of */
function words(name) {
  return name
    .replace(/^(metrics|system)\//, "")
    .replace(/\(([BMP])\)$/, (_, part) => PARTS[part] ?? "")
    .replace(/^(accuracy_)?top[-_]?(\d+)$/i, "top-$2")
    .replaceAll("_", " ");
}

/**
 * Returns whether a metric is a result of the training; learning rates and the machine's load are none.
 * @param {string} name
 */
export function isResult(name) {
  return !RATE.test(name) && !isLoad(name);
}

/**
 * Returns whether a metric is the load of the machine, which is no curve of the model.
 * @param {string} name
 */
export function isLoad(name) {
  return LOAD.test(name);
}

/** @param {string} name */
export function isLowerBetter(name) {
  return LOWER_IS_BETTER.test(name);
}

/**
 * Returns the metric that stands for the whole job; undefined if there is none.
 * @param {Iterable<string>} names
 */
export function primary(names) {
  const candidates = [...names].filter(isResult);
  for (const pattern of PRIMARY) {
    const name = candidates.find((candidate) => pattern.test(candidate));
    if (name) return name;
  }
  return candidates[0];
}

/**
 * Groups metrics into charts: training and validation of one loss together, all learning rates together.
 * @param {string[]} names
 * @returns {Group[]}
 */
export function groups(names) {
  /** @type {Map<string, Group>} */
  const byKey = new Map();
  const main = primary(names);
  for (const name of names) {
    const [, split, rest = name] = SPLIT.exec(name) ?? [];
    const isRate = RATE.test(name);
    const key = isRate ? "learning rate" : rest;
    const section = isRate ? "rate" : LOWER_IS_BETTER.test(rest) ? "loss" : "other";
    const group = byKey.get(key) ?? { title: isRate ? key : words(rest), section, lines: [] };
    byKey.set(key, group);
    if (name === main && !isLowerBetter(name)) group.section = "main";
    group.lines.push({
      name,
      label: split ?? (isRate ? name.replace(/^lr\//, "") : label(name)),
      isValidation: Boolean(split) && !/^train/i.test(split ?? ""),
    });
  }
  for (const group of byKey.values()) group.lines.sort((a, b) => Number(a.isValidation) - Number(b.isValidation));
  return [...byKey.values()].sort((a, b) => SECTIONS.indexOf(a.section) - SECTIONS.indexOf(b.section));
}
