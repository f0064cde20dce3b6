import assert from "node:assert/strict";
import { test } from "node:test";
import { grouped, shortKey } from "../src/artifacts.js";

const KEYS = [
  "checkpoints/job-1/best.pt",
  "checkpoints/job-1/last.pt",
  "logs/job-1/attempt-1.log",
  "results/job-1/args.yaml",
  "results/job-1/labels.jpg",
  "results/job-1/metrics.csv",
  "results/job-1/report.html",
  "results/job-1/results.png",
  "results/job-1/samples/epoch-0001.json",
  ...Array.from({ length: 16 }, (_, index) => `results/job-1/samples/images/${String(index).padStart(3, "0")}.jpg`),
];
const ARTIFACTS = KEYS.map((key) => ({ key, size_bytes: 10, url: "" }));

test("weights, report and metrics come first, and each folder is one line with its size", () => {
  const { files, folders } = grouped(ARTIFACTS, "1");
  assert.deepEqual(
    files.map(({ name }) => name),
    [
      "checkpoints/best.pt",
      "checkpoints/last.pt",
      "results/report.html",
      "results/metrics.csv",
      "logs/attempt-1.log",
      "results/args.yaml",
      "results/samples/epoch-0001.json", // a folder of one file would hide it
    ],
  );
  assert.deepEqual(
    folders.map(({ title, files: own, size_bytes }) => [title, own.length, size_bytes]),
    [
      ["results/ (images)", 2, 20],
      ["results/samples/images/", 16, 160],
    ],
  );
});

test("a key is short without the job's id, and another job's key stays as it is", () => {
  assert.equal(shortKey("results/job-1/report.html", "1"), "results/report.html");
  assert.equal(shortKey("results/job-2/report.html", "1"), "results/job-2/report.html");
});
