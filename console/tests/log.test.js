import assert from "node:assert/strict";
import { test } from "node:test";
import { logLines, storedLog } from "../src/log.js";

test("a log is lines without colours, and a progress bar is its last state", () => {
  const text = "\u001b[32mstart\u001b[0m\r\n1/3\r2/3\r3/3\r\n\nend\n";
  assert.deepEqual(logLines(text, false), ["start", "3/3", "", "end"]);
});

test("of what a trainer writes before each line, the time of day is shown", () => {
  const [line] = logLines("2026-11-26T23:06:11.140992Z [TRACE:c41d32] job_id=6b08b INFO trainer: exit code 0", false);
  assert.match(line ?? "", /^\d\d:\d\d:11 INFO trainer: exit code 0$/);
});

test("the first line of a part of a log may be incomplete, and is left out", () => {
  assert.deepEqual(logLines("f of a line\nwhole", true), ["whole"]);
});

test("the log of an attempt is found among the artifacts", () => {
  const keys = ["logs/job-a/attempt-2.log", "logs/job-a/attempt-12.log", "results/job-a/attempt-1.log"];
  const artifacts = keys.map((key) => ({ key }));
  assert.deepEqual(storedLog(artifacts, 2), artifacts[0]);
  assert.equal(storedLog(artifacts, 1), undefined);
});
