// Calls of the API: the token, conditional requests, and errors with readable messages.

import { signal } from "@preact/signals";
import { hasRenewed, isAccepted, signOut, token } from "./session.js";

/** Why the functions are unreachable at the moment; empty while they respond. */
export const outage = signal("");

const UNAUTHORIZED = 401;
const NOT_MODIFIED = 304;
const TEMPORARY = new Set([429, 502, 503, 504]);
/** Cached responses, for conditional requests. */
const REMEMBERED = 64;

/** A response other than success. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The token was refused, and the user is signed out. */
export class Unauthenticated extends ApiError {}

/** No response, or a temporary error: the same call may succeed later. */
export class Unavailable extends ApiError {
  /**
   * @param {string} message
   * @param {number} status
   * @param {number} retryAfterSeconds
   */
  constructor(message, status, retryAfterSeconds) {
    super(message, status);
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** @type {Map<string, { etag: string | null, text: string, data: any }>} */
const remembered = new Map();

/**
 * Returns the JSON of a path: the same object as last time if nothing has changed.
 * @param {string} path
 * @param {AbortSignal} [abort]
 * @returns {Promise<any>}
 */
export async function get(path, abort) {
  const last = remembered.get(path);
  const headers = last?.etag ? { "If-None-Match": last.etag } : undefined;
  const response = await send("GET", path, { abort, headers });
  if (response.status === NOT_MODIFIED && last) return last.data;
  const text = await whole(response.text(), abort);
  const data = text === last?.text ? last.data : JSON.parse(text);
  remembered.delete(path);
  remembered.set(path, { etag: response.headers.get("ETag"), text, data });
  for (const oldest of remembered.keys()) {
    if (remembered.size <= REMEMBERED) break;
    remembered.delete(oldest);
  }
  return data;
}

/**
 * Changes something, and returns the JSON of the answer; undefined if it is empty.
 * @param {"POST" | "PATCH" | "DELETE"} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
export async function change(method, path, body) {
  const text = await whole((await send(method, path, { body })).text());
  return text ? JSON.parse(text) : undefined;
}

/**
 * @param {string} method
 * @param {string} path
 * @param {{ body?: unknown, abort?: AbortSignal, headers?: Record<string, string>, isRepeated?: boolean }} [options]
 * @returns {Promise<Response>}
 */
export async function send(method, path, { body, abort, headers, isRepeated = false } = {}) {
  const sent = token.value;
  if (!sent) throw new Unauthenticated("nobody is signed in", UNAUTHORIZED);
  let response;
  try {
    response = await fetch(path, {
      method,
      signal: abort,
      cache: "no-store",
      headers: {
        ...headers,
        Authorization: `Bearer ${sent}`,
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (abort?.aborted) throw error;
    outage.value = "no response";
    throw new Unavailable("the functions do not answer", 0, 0);
  }
  if (TEMPORARY.has(response.status)) {
    const seconds = Number(response.headers.get("Retry-After")) || 0;
    const error = new Unavailable(await problem(response, abort), response.status, seconds);
    outage.value = error.message;
    throw error;
  }
  outage.value = "";
  if (response.ok || response.status === NOT_MODIFIED) {
    isAccepted.value = true;
    return response;
  }
  const message = await problem(response, abort);
  if (response.status === UNAUTHORIZED) {
    // Once: an issuer may issue tokens that the functions refuse.
    if (!isRepeated && (await hasRenewed(sent))) return send(method, path, { body, abort, headers, isRepeated: true });
    // Only for the token that was refused: the user may have signed in with another one meanwhile.
    if (token.value === sent) signOut(message);
    throw new Unauthenticated(message, response.status);
  }
  throw new ApiError(message, response.status);
}

/**
 * Reads the body of a response. A truncated response counts as none.
 * @template T
 * @param {Promise<T>} reading
 * @param {AbortSignal} [abort]
 * @returns {Promise<T>}
 * @throws {Unavailable} it was cut off
 */
export async function whole(reading, abort) {
  try {
    return await reading;
  } catch (error) {
    if (abort?.aborted) throw error;
    outage.value = "the response was cut off";
    throw new Unavailable("the response was cut off", 0, 0);
  }
}

/**
 * Returns the message of a problem+json, with the fields to change.
 * @param {Response} response
 * @param {AbortSignal} [abort]
 */
async function problem(response, abort) {
  const text = await whole(response.text(), abort);
  try {
    const { detail, title, errors } = JSON.parse(text);
    if (Array.isArray(errors) && errors.length) {
      return errors.map((/** @type {any} */ error) => `${error.field}: ${error.detail}`).join("; ");
    }
    if (detail || title) return String(detail ?? title);
  } catch {
    // Not of Stoker, such as a proxy's page.
  }
  return response.status === UNAUTHORIZED
    ? "the token was refused (HTTP 401); sign in with another one"
    : `the response was HTTP ${response.status}`;
}
