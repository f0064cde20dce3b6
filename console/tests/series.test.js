import assert from "node:assert/strict";
import { test } from "node:test";
import { axes, best, history, series, smooth } from "../src/series.js";

const ALL = () => true;

/**
 * @param {(number | null)[]} epoch
 * @param {Record<string, (number | null)[]>} metrics
 * @param {(number | null)[]} [step]
 */
function rows(epoch, metrics, step = epoch.map(() => null)) {
  const time = epoch.map((_, row) => 1000 + row);
  return history({ columns: { epoch, step, time, ...metrics }, rows: epoch.length });
}

test("several rows of one epoch are merged, the later values count, and what is missing is a gap", () => {
  const own = rows([1, 1, 2, 2], { loss: [3, null, 2, 1.9], accuracy: [null, 0.5, null, null] });
  const { x, columns } = series(own, "epoch", null, ALL);
  assert.deepEqual(x, [1, 2]);
  assert.deepEqual(columns.get("loss"), [3, 1.9]);
  assert.deepEqual(columns.get("accuracy"), [0.5, null]);
});

test("only the chosen metrics have rows, so that the load of the machine adds no epoch", () => {
  const own = rows([1, 2, null], { loss: [3, null, null], "system/cpu_percent": [null, 50, 60] });
  assert.deepEqual(
    series(own, "epoch", null, (name) => name === "loss"),
    { x: [1], columns: new Map([["loss", [3]]]) },
  );
  const load = series(own, "time", "1970-01-01T00:16:40Z", (name) => name !== "loss");
  assert.deepEqual(load, { x: [1, 2], columns: new Map([["system/cpu_percent", [50, 60]]]) });
});

test("the axis of time starts with the job, and steps are offered only if there are any", () => {
  const own = rows([1, 2], { loss: [3, 2] });
  assert.deepEqual(series(own, "time", "1970-01-01T00:16:35Z", ALL).x, [5, 6]);
  assert.deepEqual(series(own, "time", null, ALL).x, [0, 1]);
  assert.deepEqual(axes([own]), ["epoch", "time"]);
  assert.deepEqual(axes([own, rows([1, 2], {}, [10, 20])]), ["epoch", "step", "time"]);
});

test("the best value is the lowest of a loss and the highest of anything else", () => {
  const own = rows([1, 2, 3], { loss: [3, 1, 2], top1: [50, 70, 60], empty: [null, null, null] });
  assert.deepEqual(best(own, "loss"), { name: "loss", value: 1, epoch: 2, last: 2 });
  assert.deepEqual(best(own, "top1"), { name: "top1", value: 70, epoch: 2, last: 60 });
  assert.equal(best(own, "empty"), undefined);
  assert.equal(best(own, "mAP"), undefined);
});

test("smoothing keeps constants, gaps and the first value", () => {
  assert.deepEqual(smooth([1, null, 1], 0), [1, null, 1]);
  assert.deepEqual(
    smooth([5, 5, null, 5], 0.9).map((value) => value?.toFixed(6)),
    ["5.000000", "5.000000", undefined, "5.000000"],
  );
  assert.equal(smooth([3, 9], 0.5)[0], 3);
  assert.equal(smooth([0, 4], 0.5)[1]?.toFixed(4), "2.6667");
});
