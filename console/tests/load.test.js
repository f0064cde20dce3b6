import assert from "node:assert/strict";
import { test } from "node:test";
import { BYTES, PERCENT, PLAIN } from "../src/axes.js";
import { loadCharts } from "../src/load.js";

test("all GPUs share the chart of a kind, in the order of their numbers", () => {
  const names = ["gpu10_percent", "gpu2_percent", "ram_bytes", "cpu_percent"].map((name) => `system/${name}`);
  const charts = loadCharts(["train/loss", ...names]);
  assert.deepEqual(
    charts.map(({ title, lines }) => [title, lines.map((line) => line.label)]),
    [
      ["GPU", ["GPU 2", "GPU 10"]],
      ["CPU", ["CPU"]],
      ["Memory", ["Memory"]],
    ],
  );
  assert.deepEqual(
    charts.map(({ unit }) => unit),
    [PERCENT, PERCENT, BYTES],
  );
});

test("a name that is not known has a chart of its own, with the unit of its ending", () => {
  const charts = loadCharts(["system/disk_bytes", "system/fans"]);
  assert.deepEqual(
    charts.map(({ title, unit }) => [title, unit]),
    [
      ["disk bytes", BYTES],
      ["fans", PLAIN],
    ],
  );
});
