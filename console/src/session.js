// The API token of this tab. It arrives in the URL's fragment, which browsers never send, or is pasted; it is kept in
// sessionStorage, and other tabs of the console that are opened from this one ask for it.

import { computed, signal } from "@preact/signals";

/** @typedef {{ subject: string, scopes: Set<string> | null, expiresAt: Date | null }} Claims */

const KEY = "stoker-token";

/** @type {import("@preact/signals").Signal<string>} */
export const token = signal("");
/** Why the sign-in page is shown, if not because nobody has signed in yet. */
export const refusal = signal("");
export const claims = computed(() => claimsOf(token.value));

/** Reads the token from the fragment or from the last page of this tab, or asks the other tabs for it. */
export function start() {
  const tabs = new BroadcastChannel(KEY);
  tabs.onmessage = ({ data }) => {
    if (data === "ask" && token.value) tabs.postMessage({ token: token.value });
    if (typeof data?.token === "string" && !token.value) signIn(data.token);
  };
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    history.replaceState(history.state, "", location.pathname + location.search);
    signIn(given);
    return;
  }
  token.value = sessionStorage.getItem(KEY) ?? "";
  if (!token.value) tabs.postMessage("ask");
}

/** @param {string} value */
export function signIn(value) {
  sessionStorage.setItem(KEY, value);
  refusal.value = "";
  token.value = value;
}

/** @param {string} [reason] */
export function signOut(reason = "") {
  sessionStorage.removeItem(KEY);
  refusal.value = reason;
  token.value = "";
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
  try {
    const base64 = (jwt.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    const payload = JSON.parse(new TextDecoder().decode(bytes));
    return {
      subject: typeof payload.sub === "string" ? payload.sub : "",
      scopes: payload.iss === "stoker" && typeof payload.scope === "string" ? new Set(payload.scope.split(" ")) : null,
      expiresAt: typeof payload.exp === "number" ? new Date(payload.exp * 1000) : null,
    };
  } catch {
    return { subject: "", scopes: null, expiresAt: null };
  }
}
