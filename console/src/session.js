// The API token of this tab. It arrives in the URL's fragment, which browsers never send, is pasted, or comes from an
// issuer; it is kept in sessionStorage, and other tabs of the console that are opened from this one ask for it.

import { computed, signal } from "@preact/signals";
import * as oidc from "./oidc.js";

/** @typedef {import("./oidc.js").Session} Session */
/** @typedef {{ subject: string, scopes: Set<string> | null, jobId: string, expiresAt: Date | null }} Claims */

const KEY = "stoker-token";
const ISSUED = "stoker-issued";
const RETRY_MILLISECONDS = 20_000;
/** The longest delay of a timer. */
const LONGEST_MILLISECONDS = 2 ** 31 - 1;
/** How long a tab waits for another one to renew the token. */
const RENEWAL_MILLISECONDS = 10_000;

/** @type {import("@preact/signals").Signal<string>} */
export const token = signal("");
export const isSignedIn = computed(() => token.value !== "");
/** Why the sign-in page is shown, if not because nobody has signed in yet. */
export const refusal = signal("");
/** Whether the functions have accepted a token: then the page stays while somebody signs in again. */
export const isAccepted = signal(false);
/** Whether this tab is on its way to or from the issuer. */
export const isSigningIn = signal(false);
export const claims = computed(() => claimsOf(token.value));

/** @type {BroadcastChannel} */
let tabs;
/** @type {import("./oidc.js").Issued | null} */
let issued = null;
/** The sign-in that this tab renews, for all tabs that share it, and the one that it waits to renew. */
let renewed = "";
let claimed = "";
/** @type {Promise<void> | null} */
let renewal = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/**
 * Reads the token from the fragment, from the issuer's answer or from the last page of this tab, or asks other tabs.
 * @param {(path: string) => void} show  opens a page of the console
 */
export async function start(show) {
  tabs = new BroadcastChannel(KEY);
  tabs.onmessage = ({ data }) => receive(data);
  // A link to the page that is shown already changes nothing but the fragment, and loads nothing.
  addEventListener("hashchange", takeFragment);
  if (takeFragment()) return;
  const stored = sessionStorage.getItem(KEY);
  if (stored) take({ token: stored, issued: JSON.parse(sessionStorage.getItem(ISSUED) ?? "null") });
  if (location.pathname === oidc.RETURN_PATH) await returned(show);
  else if (!stored) tabs.postMessage("ask");
}

/** Takes the token out of the address, and returns whether there is one. */
function takeFragment() {
  const fromAddress = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!fromAddress) return false;
  history.replaceState(history.state, "", location.pathname + location.search);
  take({ token: fromAddress, issued: null });
  return true;
}

/** @param {any} message  of another tab */
function receive(message) {
  const isShared = token.value && !claims.value.jobId; // a link to one job is for the tab that it was opened in
  if (message === "ask" && isShared) share();
  else if (message.session && (!token.value || message.replaces === token.value)) take(message.session);
  else if (message.ended && message.ended === token.value) signOut();
  else if (message.renew && message.renew !== token.value && isShared) share(message.renew);
  else if (message.renew && message.renew === token.value && renewed === issued?.id) renew();
}

/** @param {string} [replaces]  the token that other tabs may have */
function share(replaces) {
  tabs.postMessage({ session: { token: token.value, issued }, replaces });
}

/** @param {(path: string) => void} show */
async function returned(show) {
  const provider = oidc.provider();
  const query = new URLSearchParams(location.search);
  if (!provider) return show("/");
  // A tab that was opened to sign in again.
  if (!query.has("state")) return isSignedIn.value ? undefined : begin("");
  isSigningIn.value = true;
  const pending = oidc.takePending();
  show(pending ? pending.path || oidc.RETURN_PATH : "/"); // before the response: the code must leave the address
  try {
    take(await oidc.finish(provider, query, pending));
    if (!pending?.path) share();
  } catch (error) {
    refusal.value = messageOf(error);
  }
  isSigningIn.value = false;
}

/**
 * Signs in at the issuer.
 * @param {string} path  to be shown afterwards
 */
export async function begin(path) {
  const provider = oidc.provider();
  if (!provider) return;
  isSigningIn.value = true;
  refusal.value = "";
  try {
    await oidc.begin(provider, path);
  } catch (error) {
    refusal.value = messageOf(error);
    isSigningIn.value = false;
  }
}

/** @param {string} value */
export function signIn(value) {
  take({ token: value, issued: null });
}

/** @param {Session} session */
function take(session) {
  issued = session.issued;
  sessionStorage.setItem(KEY, session.token);
  if (issued) sessionStorage.setItem(ISSUED, JSON.stringify(issued));
  else sessionStorage.removeItem(ISSUED);
  refusal.value = "";
  token.value = session.token;
  if (!issued?.refreshToken) return;
  if (renewed === issued.id) schedule(issued.renewAt - Date.now());
  else if (claimed !== issued.id) claimRenewal(issued.id);
}

/** @param {string} id  of a sign-in: one tab renews it, and when that is closed, the next one. */
function claimRenewal(id) {
  claimed = id;
  navigator.locks.request(`${KEY} ${id}`, () => {
    renewed = id;
    if (issued?.id !== id) return undefined; // signed out while it waited
    schedule(issued.renewAt - Date.now());
    return new Promise(() => {});
  });
}

/** @param {number} milliseconds */
function schedule(milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(renew, Math.min(Math.max(0, milliseconds), LONGEST_MILLISECONDS));
}

function renew() {
  renewal ??= renewOnce().finally(() => {
    renewal = null;
  });
  return renewal;
}

async function renewOnce() {
  const [provider, last, before] = [oidc.provider(), issued, token.value];
  if (!provider || !last?.refreshToken) return;
  try {
    const session = await oidc.refreshed(provider, last);
    if (token.value !== before) return; // signed out, or in again, meanwhile
    take(session);
    share(before);
  } catch (error) {
    if (error instanceof oidc.Unreachable) return schedule(RETRY_MILLISECONDS);
    issued = { ...last, refreshToken: "" }; // the token stays until it expires
    sessionStorage.setItem(ISSUED, JSON.stringify(issued));
  }
}

/**
 * Returns whether there is another token than one that was refused, if need be after its renewal.
 * @param {string} refused
 * @returns {Promise<boolean>}
 */
export async function hasRenewed(refused) {
  if (token.value !== refused) return isSignedIn.value;
  if (!issued?.refreshToken) return false;
  if (renewed === issued.id) {
    await renew();
  } else {
    tabs.postMessage({ renew: refused });
    await changed(refused);
  }
  return token.value !== refused && isSignedIn.value;
}

/**
 * Waits until the token is another one, but not for long: the tab that renews it may not answer.
 * @param {string} last
 * @returns {Promise<void>}
 */
function changed(last) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(limit);
      stop();
      resolve();
    };
    const limit = setTimeout(done, RENEWAL_MILLISECONDS);
    const stop = token.subscribe((value) => {
      if (value !== last) queueMicrotask(done);
    });
  });
}

/** @param {string} [reason] */
export function signOut(reason = "") {
  clearTimeout(timer);
  issued = null;
  sessionStorage.removeItem(KEY);
  sessionStorage.removeItem(ISSUED);
  if (!reason) isAccepted.value = false;
  refusal.value = reason;
  token.value = "";
}

/** Signs out in all tabs, and at the issuer. */
export async function leave() {
  const [provider, last] = [oidc.provider(), issued];
  tabs.postMessage({ ended: token.value });
  signOut();
  if (!provider || !last) return;
  try {
    await oidc.end(provider, last);
  } catch (error) {
    refusal.value = `You are signed out here, but not at the issuer: ${messageOf(error)}`;
  }
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Returns whether the token allows a scope. What an OIDC issuer's token allows is decided by the functions' settings,
 * so everything is offered, and the functions answer 403.
 * @param {string} scope
 */
export function allows(scope) {
  return claims.value.scopes?.has(scope) ?? true;
}

/**
 * Returns what a JWT says about itself; the functions verify it, not the console.
 * @param {string} jwt
 * @returns {Claims}
 */
export function claimsOf(jwt) {
  const payload = oidc.payloadOf(jwt);
  const text = (/** @type {unknown} */ value) => (typeof value === "string" ? value : "");
  return {
    subject: text(payload.sub),
    scopes: payload.iss === "stoker" && payload.scope ? new Set(text(payload.scope).split(" ")) : null,
    jobId: payload.iss === "stoker" ? text(payload.job_id) : "",
    expiresAt: typeof payload.exp === "number" ? new Date(payload.exp * 1000) : null,
  };
}
