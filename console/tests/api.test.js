import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { ApiError, get, outage, Unauthenticated, Unavailable } from "../src/api.js";
import { refusal, signIn, signOut, token } from "../src/session.js";

beforeEach(() => {
  const stored = new Map();
  Object.assign(globalThis, {
    sessionStorage: {
      setItem: (/** @type {string} */ key, /** @type {string} */ value) => stored.set(key, value),
      removeItem: (/** @type {string} */ key) => stored.delete(key),
    },
  });
  signIn("a token");
});
afterEach(() => mock.restoreAll());

function responds(/** @type {Response | (() => Response | Promise<Response>)} */ response) {
  mock.method(globalThis, "fetch", async () => (typeof response === "function" ? response() : response));
}

/** A response whose headers arrive, and whose body is cut off. */
function cutOff(/** @type {number} */ status) {
  const body = new ReadableStream({ pull: (stream) => stream.error(new TypeError("network error")) });
  return new Response(body, { status });
}

test("a 401 signs out with its reason", async () => {
  responds(new Response(JSON.stringify({ detail: "the token has expired" }), { status: 401 }));
  await assert.rejects(get("/v1/jobs"), ApiError);
  assert.deepEqual([token.value, refusal.value], ["", "the token has expired"]);
});

test("a 401 without a readable reason names the token", async () => {
  responds(new Response("<html>", { status: 401 }));
  await assert.rejects(get("/v1/jobs"), ApiError);
  assert.match(refusal.value, /the token was refused/);
});

test("a 401 that is cut off is no response: nobody is signed out", async () => {
  responds(cutOff(401));
  await assert.rejects(get("/v1/jobs"), Unavailable);
  assert.deepEqual([token.value, refusal.value, outage.value], ["a token", "", "the response was cut off"]);
});

test("a success that is cut off can be tried again", async () => {
  responds(cutOff(200));
  await assert.rejects(get("/v1/jobs"), Unavailable);
});

test("a 401 whose page was left changes nothing", async () => {
  const abort = new AbortController();
  responds(() => {
    abort.abort();
    return cutOff(401);
  });
  await assert.rejects(get("/v1/jobs", abort.signal), (error) => !(error instanceof ApiError));
  assert.deepEqual([token.value, refusal.value], ["a token", ""]);
});

test("a call whose token was replaced meanwhile is repeated with the new one", async () => {
  const sent = /** @type {string[]} */ ([]);
  mock.method(globalThis, "fetch", async (/** @type {string} */ _, /** @type {any} */ { headers }) => {
    sent.push(headers.Authorization);
    if (sent.length > 1) return new Response("[]");
    signIn("another token");
    return new Response("{}", { status: 401 });
  });
  assert.deepEqual(await get("/v1/jobs"), []);
  assert.deepEqual(sent, ["Bearer a token", "Bearer another token"]);
  assert.deepEqual([token.value, refusal.value], ["another token", ""]);
});

test("without a token, nothing is sent", async () => {
  signOut();
  mock.method(globalThis, "fetch", () => assert.fail("it was sent"));
  await assert.rejects(get("/v1/jobs"), Unauthenticated);
});
