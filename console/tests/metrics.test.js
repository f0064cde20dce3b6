import assert from "node:assert/strict";
import { test } from "node:test";
import { groups, isLoad, isLowerBetter, isResult, label, primary } from "../src/metrics.js";

const YOLO = ["train/box_loss", "lr/pg0", "lr/pg1", "metrics/mAP50(B)", "metrics/mAP50-95(B)", "val/box_loss"];

test("the primary metric is the one that people compare models by", () => {
  assert.equal(primary(YOLO), "metrics/mAP50-95(B)");
  assert.equal(primary(["train/loss", "val/loss", "val/top1"]), "val/top1");
  assert.equal(primary(["loss", "accuracy"]), "accuracy");
  assert.equal(primary(["train/loss", "val/loss"]), "val/loss");
  assert.equal(primary(["lr", "system/cpu", "score"]), "score");
  assert.equal(primary(["lr/pg0"]), undefined);
});

test("training and validation of one loss share a chart, and so do the learning rates", () => {
  const charts = groups(YOLO).map(({ title, section, lines }) => [title, section, lines.map((line) => line.name)]);
  assert.deepEqual(charts, [
    ["mAP50-95", "main", ["metrics/mAP50-95(B)"]],
    ["box loss", "loss", ["train/box_loss", "val/box_loss"]],
    ["mAP50", "other", ["metrics/mAP50(B)"]],
    ["learning rate", "rate", ["lr/pg0", "lr/pg1"]],
  ]);
  assert.deepEqual(
    groups(["val/loss", "train/loss"])[0]?.lines.map((line) => [line.label, line.isValidation]),
    [
      ["train", false],
      ["val", true],
    ],
  );
});

test("of losses and errors, less is better", () => {
  assert.deepEqual(["val/loss", "mae", "val/top1", "mAP50"].map(isLowerBetter), [true, true, false, false]);
});

test("labels are what people call a metric", () => {
  const names = {
    "metrics/mAP50-95(B)": "mAP50-95",
    "metrics/mAP50(M)": "mAP50 of masks",
    "metrics/accuracy_top1": "top-1",
    top5: "top-5",
    "val/top1": "val top-1",
    "train/box_loss": "train box loss",
    validation_loss: "validation loss",
    "system/gpu0_percent": "gpu0 percent",
    score: "score",
  };
  assert.deepEqual(Object.keys(names).map(label), Object.values(names));
});

test("the load of the machine is no result of the training", () => {
  assert.deepEqual(["system/cpu_percent", "val/top1"].map(isLoad), [true, false]);
  assert.deepEqual(["system/cpu_percent", "lr/pg0", "val/top1"].map(isResult), [false, false, true]);
});
