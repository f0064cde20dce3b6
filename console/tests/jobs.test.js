import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import {
  failure,
  headline,
  progress,
  queuePlace,
  STATES,
  sortedByMetric,
  stateDetail,
  timeline,
  timing,
  title,
  waitingReason,
} from "../src/jobs.js";
import { places } from "../src/palette.js";
import { claimsOf } from "../src/session.js";

const RUNNING = {
  state: "RUNNING",
  liveness: "live",
  epoch: 3,
  epochs: 12,
  eta_seconds: 600,
  metrics: { "train/loss": 2 },
};
const description = JSON.parse(await readFile(new URL("../../functions/api/openapi.json", import.meta.url), "utf8"));

test("every state and every reason of the API has words", () => {
  assert.deepEqual([...STATES].sort(), description.components.schemas.State.enum);
  for (const reason of description.components.schemas.Reason.enum) {
    const { meaning, advice } = failure({ state: "FAILED", reason });
    assert.ok(meaning && advice, reason);
  }
});

test("a job that waits says for what", () => {
  assert.equal(waitingReason({ state: "QUEUED", message: "0 of 2 places are free" }), "0 of 2 places are free");
  assert.match(waitingReason({ state: "QUEUED", message: null }), /free slot/);
  assert.match(waitingReason({ ...RUNNING, liveness: "silent" }), /never fails/);
  assert.equal(waitingReason(RUNNING), "");
  assert.equal(waitingReason({ state: "SUCCEEDED" }), "");
});

test("a waiting job has a place in the queue, if it is known", () => {
  assert.equal(queuePlace({ state: "QUEUED", queue_position: 3, queue_length: 7 }), "3rd of 7 in the queue");
  assert.equal(queuePlace({ state: "QUEUED" }), "");
});

test("progress, time and headline of a running job", () => {
  assert.equal(progress(RUNNING), 0.25);
  assert.equal(progress({ epoch: null, epochs: null }), null);
  assert.equal(timing(RUNNING, 0), "10 min left");
  assert.deepEqual(headline(RUNNING), { name: "train/loss", label: "train loss", value: 2 });
  assert.equal(headline({ metrics: {} }), undefined);
  assert.equal(stateDetail({ state: "FAILED", reason: "oom_gpu" }), "GPU out of memory");
  assert.equal(title({ name: null, dataset_id: "cats", model_name: "yolo11n" }), "cats · yolo11n");
});

test("jobs are sorted by their metric, each metric apart, and those without one are last", () => {
  const jobs = [
    { id: "none", metrics: {} },
    { id: "low loss", metrics: { "val/loss": 0.1 } },
    { id: "lower mAP", metrics: { "metrics/mAP50-95(B)": 0.5 } },
    { id: "high loss", metrics: { "val/loss": 2 } },
    { id: "higher mAP", metrics: { "metrics/mAP50-95(B)": 0.7 } },
  ];
  const ids = (/** @type {import("../src/jobs.js").Job[]} */ sorted) => sorted.map(({ id }) => id);
  assert.deepEqual(ids(sortedByMetric(jobs, "best")), ["low loss", "high loss", "higher mAP", "lower mAP", "none"]);
  assert.deepEqual(ids(sortedByMetric(jobs, "worst")), ["high loss", "low loss", "lower mAP", "higher mAP", "none"]);
  assert.deepEqual(ids(sortedByMetric(jobs, "")), ids(jobs));
});

test("the timeline has no heartbeats, and of checkpoints in a row only the last", () => {
  const at = (/** @type {number} */ second) => `2026-01-01T00:00:0${second}Z`;
  const events = [
    { kind: "state", type: "PENDING", at: at(0), message: null },
    { kind: "heartbeat", type: "heartbeat", at: at(1), message: null },
    { kind: "event", type: "checkpoint", at: at(2), message: "epoch 1" },
    { kind: "event", type: "checkpoint", at: at(3), message: "epoch 2" },
    { kind: "event", type: "started", at: at(4), attempt: 2, message: null },
    { kind: "event", type: "log", at: at(5), message: null, data: { phase: "fetching the weights" } },
  ];
  assert.deepEqual(
    timeline(events).map(({ words, afterSeconds, message }) => [words, afterSeconds, message]),
    [
      ["Created", null, ""],
      ["Checkpoint stored", 3, "epoch 2"],
      ["Trainer started, attempt 2", 1, ""],
      ["Fetching the weights", 1, ""],
    ],
  );
});

test("a job has the same colour everywhere, and compared jobs have different ones", () => {
  const ids = Array.from({ length: 8 }, (_, index) => `job-${index}`);
  assert.equal(new Set(places(ids).values()).size, 8);
  assert.equal(places(["job-3"]).get("job-3"), places(["job-3", "job-5"]).get("job-3"));
});

test("a token says who it is for; what it cannot say is not guessed", () => {
  const jwt = (/** @type {object} */ payload) => `e30.${Buffer.from(JSON.stringify(payload)).toString("base64url")}.x`;
  assert.deepEqual(claimsOf(jwt({ iss: "stoker", sub: "Zoë", scope: "jobs:read", exp: 0 })), {
    subject: "Zoë",
    scopes: new Set(["jobs:read"]),
    jobId: "",
    expiresAt: new Date(0),
  });
  assert.equal(claimsOf(jwt({ iss: "https://issuer.example", sub: "a", scope: "openid" })).scopes, null);
  assert.deepEqual(claimsOf("nonsense"), { subject: "", scopes: null, jobId: "", expiresAt: null });
});
