import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { Unavailable } from "../src/api.js";
import { Poll } from "../src/polling.js";

beforeEach(() => mock.timers.enable({ apis: ["setTimeout"] }));
afterEach(() => mock.timers.reset());

function poll(/** @type {() => Promise<any>} */ load) {
  const failures = /** @type {unknown[]} */ ([]);
  return { poll: new Poll(load, 5, (error) => failures.push(error)), failures };
}

async function pass(/** @type {number} */ seconds) {
  mock.timers.tick(seconds * 1000);
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}

test("polls more and more seldom while nothing changes, up to a minute", async () => {
  let calls = 0;
  const { poll: subject } = poll(async () => {
    calls += 1;
    return "same";
  });
  await subject.now();
  const delays = [];
  for (let turn = 0; turn < 8; turn++) {
    delays.push(subject.delay);
    await pass(subject.delay);
  }
  assert.deepEqual(delays, [7.5, 11.25, 16.875, 25.3125, 37.96875, 56.953125, 60, 60]);
  assert.equal(calls, 9);
  subject.stop();
});

test("never twice at a time, and not in a hidden tab", async () => {
  let calls = 0;
  let finish = (/** @type {string} */ _) => {};
  const { poll: subject } = poll(() => {
    calls += 1;
    return new Promise((resolve) => {
      finish = resolve;
    });
  });
  subject.now();
  subject.now();
  assert.equal(calls, 1);
  subject.show(false);
  finish("changed");
  await pass(100);
  assert.equal(calls, 1);
  subject.show(true);
  assert.equal(calls, 2);
  subject.stop();
});

test("stops after the end, and after an error that time does not heal", async () => {
  let calls = 0;
  const { poll: ended } = poll(async () => {
    calls += 1;
    return "ended";
  });
  await ended.now();
  await pass(100);
  assert.equal(calls, 1);
  const { poll: failed, failures } = poll(async () => {
    throw new Error("no such job");
  });
  await failed.now();
  assert.equal(failures.length, 1);
  assert.equal(failed.isEnded, true);
});

test("obeys Retry-After, and goes on when the functions answer again", async () => {
  const answers = [new Unavailable("busy", 503, 30), "changed", "changed"];
  let calls = 0;
  const { poll: subject, failures } = poll(async () => {
    const answer = answers[calls++];
    if (answer instanceof Error) throw answer;
    return answer;
  });
  await subject.now();
  assert.equal(subject.delay, 30);
  await pass(29);
  assert.equal(calls, 1);
  await pass(1);
  assert.equal(calls, 2);
  assert.equal(subject.delay, 5);
  assert.deepEqual(failures, []);
  subject.stop();
});
