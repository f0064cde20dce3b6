import assert from "node:assert/strict";
import { test } from "node:test";
import { confident, described, isRight, parsedPredictions, parsedSheet, sheetsOf } from "../src/samples.js";

const VIEW = { showsTruth: true, showsPredictions: true, confidence: 0.25 };

/** @param {any[]} images @param {string} task */
function sheet(images, task = "detect") {
  return parsedSheet(JSON.stringify({ version: 1, epoch: 5, task, classes: ["cat", "dog"], images }));
}

test("sheets are in the order of their epochs, whatever else a job has stored", () => {
  const artifacts = [
    "results/job-1/samples/epoch-0010.json",
    "results/job-1/samples/epoch-0002.json",
    "results/job-1/report.json",
  ];
  assert.deepEqual(
    sheetsOf(artifacts.map((key) => ({ key }))).map(({ epoch }) => epoch),
    [2, 10],
  );
});

test("predictions below the confidence are left out, and an image is described in words", () => {
  const [sample] = sheet([
    {
      file: "samples/images/000.jpg",
      name: "val/cat 1.jpg",
      truth: [{ class: 0, box: [0, 0, 1, 1] }],
      predictions: [
        { class: 1, confidence: 0.1, box: [0, 0, 1, 1] },
        { class: 0, confidence: 0.9, box: [0, 0, 1, 1] },
      ],
    },
  ]).samples;
  assert.ok(sample);
  assert.deepEqual(
    confident(sample, 0.25).map((one) => one.label),
    ["cat"],
  );
  assert.equal(described(sample, VIEW), "val/cat 1.jpg; truth: 1 × cat; predicted: 1 × cat");
  assert.equal(
    described(sample, { ...VIEW, showsTruth: false, confidence: 0.95 }),
    "val/cat 1.jpg; predicted: nothing",
  );
});

test("a classified image is right if its likeliest class is the true one", () => {
  const likely = [
    { class: 1, confidence: 0.3 },
    { class: 0, confidence: 0.7 },
  ];
  const samples = sheet(
    [
      { truth: [{ class: 0 }], predictions: likely },
      { truth: [{ class: 1 }], predictions: likely },
      { predictions: likely },
    ],
    "classify",
  ).samples;
  assert.deepEqual(samples.map(isRight), [true, false, null]);
});

test("what has another shape is left out, and a class without a name is its number", () => {
  const [sample] = sheet([
    { truth: "cat", predictions: [{ class: 7, box: [0, "x", 1, 1], polygon: [[0, 0], "x", [1, 1]] }] },
  ]).samples;
  assert.deepEqual(sample?.truth, []);
  assert.deepEqual(sample?.predictions, [
    {
      label: "7",
      confidence: null,
      box: undefined,
      polygon: [
        [0, 0],
        [1, 1],
      ],
      keypoints: undefined,
    },
  ]);
});

test("the predictions of both trainers are samples, and pixels become shares of the image", () => {
  const lines = [
    {
      file: "a.jpg",
      image: "results/job-1/images/000001.jpg",
      width: 200,
      height: 100,
      boxes: [{ class: 0, name: "cat", confidence: 0.5, xyxy: [20, 10, 120, 60] }],
    },
    { file: "b.jpg", top: [{ class: "dog", probability: 0.8 }] },
    {
      file: "c.jpg",
      width: 10,
      height: 10,
      boxes: [
        {
          class: 0,
          name: "cat",
          confidence: 1,
          corners: [
            [0, 0],
            [10, 0],
            [10, 5],
          ],
        },
      ],
    },
  ];
  const [boxed, classified, rotated] = parsedPredictions(lines.map((line) => JSON.stringify(line)).join("\n"));
  assert.deepEqual(boxed?.predictions[0]?.box, [0.1, 0.1, 0.5, 0.5]);
  assert.equal(boxed?.file, "results/job-1/images/000001.jpg");
  assert.deepEqual(
    [classified?.isClassified, classified?.predictions[0]?.label, classified?.predictions[0]?.confidence],
    [true, "dog", 0.8],
  );
  assert.deepEqual(rotated?.predictions[0]?.polygon, [
    [0, 0],
    [1, 0],
    [1, 0.5],
  ]);
});
