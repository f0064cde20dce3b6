import assert from "node:assert/strict";
import { test } from "node:test";
import { axes, best, points, series, smooth } from "../src/series.js";

/**
 * @param {number} epoch
 * @param {Record<string, number>} metrics
 */
function heartbeat(epoch, metrics, second = epoch) {
  return { epoch, step: null, at: `2026-01-01T00:00:${String(second).padStart(2, "0")}Z`, metrics };
}

test("points are the entries of a timeline that have metrics", () => {
  const events = [{ kind: "state", metrics: null, epoch: null }, heartbeat(1, { loss: 2 }), heartbeat(2, {})];
  assert.deepEqual(points(events), [heartbeat(1, { loss: 2 })]);
});

test("an epoch that is trained again after a disruption counts with its later values", () => {
  const all = [
    heartbeat(1, { loss: 3 }),
    heartbeat(2, { loss: 2 }),
    heartbeat(2, { loss: 1.9 }, 9),
    heartbeat(3, { loss: 1 }, 10),
  ];
  assert.deepEqual(series(all, "epoch"), { x: [1, 2, 3], columns: new Map([["loss", [3, 1.9, 1]]]) });
});

test("several heartbeats of one epoch are merged, and what is missing is a gap", () => {
  const all = [heartbeat(1, { loss: 3 }), heartbeat(1, { accuracy: 0.5 }), heartbeat(2, { loss: Number.NaN })];
  assert.deepEqual(
    series(all, "epoch").columns,
    new Map([
      ["loss", [3, null]],
      ["accuracy", [0.5, null]],
    ]),
  );
});

test("the axis of time starts with the job, and steps are offered only if there are any", () => {
  const all = [heartbeat(1, { loss: 3 }, 5), heartbeat(2, { loss: 2 }, 8)];
  assert.deepEqual(series(all, "time", "2026-01-01T00:00:00Z").x, [5, 8]);
  assert.deepEqual(axes(all), ["epoch", "time"]);
  assert.deepEqual(axes(all.map((point) => ({ ...point, step: point.epoch * 10 }))), ["epoch", "step", "time"]);
});

test("the best value is the lowest of a loss and the highest of anything else", () => {
  const all = [
    heartbeat(1, { loss: 3, top1: 50 }),
    heartbeat(2, { loss: 1, top1: 70 }),
    heartbeat(3, { loss: 2, top1: 60 }),
  ];
  assert.deepEqual(best(all, "loss"), { name: "loss", value: 1, epoch: 2 });
  assert.deepEqual(best(all, "top1"), { name: "top1", value: 70, epoch: 2 });
  assert.equal(best(all, "mAP"), undefined);
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
