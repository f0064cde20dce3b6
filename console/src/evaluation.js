// A training's report.json, which describes the best model, prepared for the page.

/**
 * @typedef {{
 *   epoch?: number, matrix?: Matrix, perClass: Row[], curves?: { confidence: Column, lines: Map<string, Column> },
 *   pr?: { recall: Column, precision: Column }, settings: Record<string, unknown>
 * }} Evaluation
 */
/** @typedef {(number | null)[]} Column */
/**
 * Rows are the truth, columns the predictions; `leftOut`: how many classes are not in it.
 * @typedef {{ labels: string[], counts: number[][], leftOut: number }} Matrix
 */
/** @typedef {{ truth: string, prediction: string, count: number, share: number }} Pair */
/** @typedef {Record<string, any> & { name: string }} Row */

/** The columns of the table of classes: name and title. */
export const COLUMNS = /** @type {const} */ ([
  ["images", "Images"],
  ["instances", "Objects"],
  ["precision", "Precision"],
  ["recall", "Recall"],
  ["f1", "F1"],
  ["ap50", "AP50"],
  ["ap", "AP"],
]);
const LINES = ["precision", "recall", "f1"];

/**
 * Returns a report's parts; missing ones are left out.
 * @param {string} text
 * @returns {Evaluation}
 */
export function parsedReport(text) {
  const report = JSON.parse(text);
  const { labels, counts, left_out: leftOut = 0 } = report.confusion_matrix ?? {};
  const { confidence, pr } = report.curves ?? {};
  const lines = LINES.filter((name) => Array.isArray(report.curves?.[name]));
  const isMatrix = Array.isArray(labels) && Array.isArray(counts) && counts.length === labels.length;
  return {
    epoch: report.epoch,
    matrix: isMatrix ? { labels: labels.map(String), counts, leftOut } : undefined,
    perClass: (report.per_class ?? []).map((/** @type {any} */ row) => ({ ...row, name: String(row.name) })),
    curves:
      Array.isArray(confidence) && lines.length
        ? { confidence, lines: new Map(lines.map((name) => [name, report.curves[name]])) }
        : undefined,
    pr: Array.isArray(pr?.recall) && Array.isArray(pr?.precision) ? pr : undefined,
    settings: report.settings ?? {},
  };
}

/**
 * Returns each count's share of its row, the truth; 0 in an empty row.
 * @param {number[][]} counts
 */
export function shares(counts) {
  return counts.map((row) => {
    const sum = row.reduce((all, count) => all + count, 0);
    return row.map((count) => (sum ? count / sum : 0));
  });
}

/**
 * Returns the confusions, the most frequent first.
 * @param {Matrix} matrix
 * @param {number} limit
 * @returns {Pair[]}
 */
export function confusions({ labels, counts }, limit) {
  const parts = shares(counts);
  const all = counts.flatMap((row, truth) =>
    row.flatMap((count, prediction) =>
      count && truth !== prediction
        ? [
            {
              truth: labels[truth] ?? "",
              prediction: labels[prediction] ?? "",
              count,
              share: parts[truth]?.[prediction] ?? 0,
            },
          ]
        : [],
    ),
  );
  return all.sort((a, b) => b.count - a.count).slice(0, limit);
}

/**
 * Returns the part of a matrix with the classes that are confused most, in their order; the whole one if it is small.
 * @param {Matrix} matrix
 * @param {number} limit
 * @returns {Matrix}
 */
export function cut(matrix, limit) {
  const { labels, counts } = matrix;
  if (labels.length <= limit) return matrix;
  const wrong = labels.map((_, index) =>
    counts.reduce((sum, row, truth) => {
      if (truth === index) return sum + row.reduce((all, count, place) => all + (place === index ? 0 : count), 0);
      return sum + (row[index] ?? 0);
    }, 0),
  );
  const kept = labels
    .map((_, index) => index)
    .sort((a, b) => (wrong[b] ?? 0) - (wrong[a] ?? 0))
    .slice(0, limit)
    .sort((a, b) => a - b);
  return {
    labels: kept.map((index) => labels[index] ?? ""),
    counts: kept.map((truth) => kept.map((prediction) => counts[truth]?.[prediction] ?? 0)),
    leftOut: matrix.leftOut + labels.length - limit,
  };
}

/**
 * Returns rows in the order of a column; those without a value are last.
 * @param {Row[]} rows
 * @param {string} column
 * @param {boolean} isDescending
 */
export function sorted(rows, column, isDescending) {
  const sign = isDescending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [left, right] = [a[column] ?? null, b[column] ?? null];
    if (left === null || right === null) return Number(left === null) - Number(right === null);
    return typeof left === "string" ? sign * left.localeCompare(right, "en", { numeric: true }) : sign * (left - right);
  });
}

/**
 * Returns the confidence with the highest F1; undefined if it is not known.
 * @param {Evaluation["curves"]} curves
 */
export function bestConfidence(curves) {
  const values = curves?.lines.get("f1") ?? [];
  let place = -1;
  for (let other = 0; other < values.length; other++) {
    if ((values[other] ?? -1) > (values[place] ?? -1)) place = other;
  }
  const confidence = curves?.confidence[place] ?? null;
  return confidence === null ? undefined : { confidence, f1: values[place] ?? 0 };
}
