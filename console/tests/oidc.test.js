import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { finish, refreshed, Unreachable } from "../src/oidc.js";

const PROVIDER = { issuer: "https://login.example", clientId: "console", scope: "openid" };
const PENDING = { state: "s", nonce: "n", verifier: "v", path: "/" };
const CLAIMS = { iss: PROVIDER.issuer, aud: "console", nonce: "n" };

beforeEach(() => Object.assign(globalThis, { location: { origin: "https://stoker.example" } }));
afterEach(() => mock.restoreAll());

function jwt(/** @type {object} */ payload) {
  return `e30.${Buffer.from(JSON.stringify(payload)).toString("base64url")}.x`;
}

/**
 * Lets the issuer answer.
 * @param {any} tokens  of its token endpoint
 * @param {{ status?: number, configuration?: object }} [options]
 */
function issuer(tokens, { status = 200, configuration = {} } = {}) {
  const known = { issuer: PROVIDER.issuer, token_endpoint: `${PROVIDER.issuer}/token`, ...configuration };
  const bodies = /** @type {URLSearchParams[]} */ ([]);
  mock.method(globalThis, "fetch", async (/** @type {string} */ address, /** @type {any} */ options) => {
    if (options?.body) bodies.push(options.body);
    return address.endsWith("/token")
      ? new Response(JSON.stringify(tokens), { status })
      : new Response(JSON.stringify(known));
  });
  return bodies;
}

function answer(/** @type {Record<string, string>} */ changes = {}) {
  return new URLSearchParams({ code: "c", state: "s", ...changes });
}

test("a code is exchanged with the verifier of its own sign-in, and without a secret", async () => {
  const bodies = issuer({
    access_token: jwt({ sub: "ann" }),
    id_token: jwt(CLAIMS),
    refresh_token: "r",
    expires_in: 100,
  });
  const { token, issued } = await finish(PROVIDER, answer({ iss: PROVIDER.issuer }), PENDING);
  assert.deepEqual(Object.fromEntries(bodies[0] ?? []), {
    grant_type: "authorization_code",
    code: "c",
    redirect_uri: "https://stoker.example/sign-in",
    client_id: "console",
    code_verifier: "v",
  });
  assert.equal(token, jwt({ sub: "ann" }));
  assert.equal(issued?.refreshToken, "r");
});

test("the ID token is used where the access token is opaque", async () => {
  issuer({ access_token: "opaque", id_token: jwt(CLAIMS) });
  assert.equal((await finish(PROVIDER, answer(), PENDING)).token, jwt(CLAIMS));
});

test("what belongs to another sign-in, client or issuer is refused", async () => {
  for (const changes of [{ nonce: "other" }, { aud: "other" }, { iss: "https://other.example" }, { aud: undefined }]) {
    issuer({ access_token: "a", id_token: jwt({ ...CLAIMS, ...changes }) });
    await assert.rejects(finish(PROVIDER, answer(), PENDING), /another sign-in/);
  }
  await assert.rejects(finish(PROVIDER, answer({ state: "other" }), PENDING), /not started in this tab/);
  await assert.rejects(finish(PROVIDER, answer(), null), /not started in this tab/);
  await assert.rejects(finish(PROVIDER, answer({ iss: "https://other.example" }), PENDING), /comes from/);
});

test("a configuration of another issuer is refused", async () => {
  issuer({}, { configuration: { issuer: "https://other.example" } });
  await assert.rejects(finish(PROVIDER, answer(), PENDING), /configuration of another issuer/);
});

test("a refusal is told from an outage", async () => {
  const issued = { id: "1", idToken: "", refreshToken: "r", renewAt: 0 };
  issuer({ error: "invalid_grant", error_description: "it was revoked" }, { status: 400 });
  await assert.rejects(refreshed(PROVIDER, issued), /refused the sign-in: it was revoked/);
  issuer({}, { status: 503 });
  await assert.rejects(refreshed(PROVIDER, issued), Unreachable);
  mock.method(globalThis, "fetch", () => Promise.reject(new TypeError("failed")));
  await assert.rejects(refreshed(PROVIDER, issued), Unreachable);
});

test("a renewed session keeps what the issuer does not send again", async () => {
  issuer({ access_token: jwt({ sub: "ann" }), expires_in: 100 });
  const last = { id: "1", idToken: "i", refreshToken: "r", renewAt: 0 };
  const { issued } = await refreshed(PROVIDER, last);
  assert.deepEqual([issued?.id, issued?.idToken, issued?.refreshToken], ["1", "i", "r"]);
});
