import assert from "node:assert/strict";
import { test } from "node:test";
import { bestConfidence, confusions, cut, parsedReport, shares, sorted } from "../src/evaluation.js";

const MATRIX = {
  labels: ["cat", "dog", "background"],
  counts: [
    [6, 3, 1],
    [1, 9, 0],
    [0, 0, 0],
  ],
  leftOut: 0,
};

test("shares are of the row, and an empty row has none", () => {
  assert.deepEqual(shares(MATRIX.counts), [
    [0.6, 0.3, 0.1],
    [0.1, 0.9, 0],
    [0, 0, 0],
  ]);
});

test("the most confused classes come first", () => {
  assert.deepEqual(confusions(MATRIX, 2), [
    { truth: "cat", prediction: "dog", count: 3, share: 0.3 },
    { truth: "cat", prediction: "background", count: 1, share: 0.1 },
  ]);
});

test("a large matrix is cut to the classes that are confused most, in their order", () => {
  assert.equal(cut(MATRIX, 3), MATRIX);
  assert.deepEqual(cut(MATRIX, 2), {
    labels: ["cat", "dog"],
    counts: [
      [6, 3],
      [1, 9],
    ],
    leftOut: 1,
  });
});

test("rows are sorted by a column, and those without a value are last in both directions", () => {
  const rows = [
    { name: "class 10", f1: 0.5 },
    { name: "class 9", f1: null },
    { name: "class 2", f1: 0.9 },
  ];
  const names = (/** @type {any[]} */ all) => all.map((row) => row.name);
  assert.deepEqual(names(sorted(rows, "name", false)), ["class 2", "class 9", "class 10"]);
  assert.deepEqual(names(sorted(rows, "f1", false)), ["class 10", "class 2", "class 9"]);
  assert.deepEqual(names(sorted(rows, "f1", true)), ["class 2", "class 10", "class 9"]);
});

test("a report has what is there, and nothing else", () => {
  const empty = parsedReport(
    JSON.stringify({ version: 1, confusion_matrix: { labels: ["cat"], counts: [] }, curves: { pr: null } }),
  );
  assert.deepEqual([empty.matrix, empty.perClass, empty.curves, empty.pr], [undefined, [], undefined, undefined]);
  const full = parsedReport(JSON.stringify({ epoch: 3, curves: { confidence: [0, 0.5, 1], f1: [0.2, 0.8, null] } }));
  assert.deepEqual(bestConfidence(full.curves), { confidence: 0.5, f1: 0.8 });
  assert.equal(bestConfidence(undefined), undefined);
});
