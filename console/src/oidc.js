// Sign-in at an OpenID Connect issuer: authorization code with PKCE (RFC 7636), as a public client without a secret.

/** The issuer that the functions accept, and the console's name there. */
/** @typedef {{ issuer: string, clientId: string, scope: string }} Provider */
/**
 * The issuer's response besides the token. `id` names the sign-in, so that the tabs that share it renew it once.
 * @typedef {{ id: string, idToken: string, refreshToken: string, renewAt: number }} Issued
 */
/** @typedef {{ token: string, issued: Issued | null }} Session */

/** The path that the issuer leads back to. */
export const RETURN_PATH = "/sign-in";
const PENDING = "stoker-sign-in";
/** A token is renewed once this share of its life has passed. */
const RENEWAL_SHARE = 0.75;
const DEFAULT_SECONDS = 3600;

/** The issuer cannot be reached: the same call may succeed later. */
export class Unreachable extends Error {}

/**
 * Returns the issuer that the page names; null if there is none.
 * @returns {Provider | null}
 */
export function provider() {
  const { issuer, clientId, clientScope } = document.documentElement.dataset;
  return issuer && clientId ? { issuer, clientId, scope: clientScope ?? "openid" } : null;
}

/**
 * Leads to the issuer, which leads back to RETURN_PATH.
 * @param {Provider} provider
 * @param {string} path  to be shown after the sign-in; empty: none, for a tab that only signs in
 */
export async function begin({ issuer, clientId, scope }, path) {
  if (!crypto.subtle) throw new Error(`signing in at ${issuer} needs this page over HTTPS`);
  const { authorization_endpoint } = await discovered(issuer);
  const [state, nonce, verifier] = [random(), random(), random()];
  const challenge = base64url(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier)));
  sessionStorage.setItem(PENDING, JSON.stringify({ state, nonce, verifier, path }));
  const address = new URL(authorization_endpoint);
  const parameters = {
    response_type: "code",
    client_id: clientId,
    redirect_uri: returnAddress(),
    scope,
    state,
    nonce,
    code_challenge: challenge,
    code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(parameters)) address.searchParams.set(name, value);
  location.assign(address);
}

/**
 * Takes the pending sign-in of this tab: it can be used once.
 * @returns {{ state: string, nonce: string, verifier: string, path: string } | null}
 */
export function takePending() {
  const text = sessionStorage.getItem(PENDING);
  sessionStorage.removeItem(PENDING);
  return text ? JSON.parse(text) : null;
}

/**
 * Exchanges the code that the issuer has sent for tokens.
 * @param {Provider} provider
 * @param {URLSearchParams} query  of RETURN_PATH
 * @param {ReturnType<typeof takePending>} pending
 * @returns {Promise<Session>}
 */
export async function finish({ issuer, clientId }, query, pending) {
  if (!pending || query.get("state") !== pending.state) {
    throw new Error("this sign-in was not started in this tab, or has been used already; sign in again");
  }
  const from = query.get("iss"); // RFC 9207: which issuer it comes from
  if (from !== null && from !== issuer) throw new Error(`this sign-in comes from ${from}, not from ${issuer}`);
  if (query.has("error")) throw refused(issuer, Object.fromEntries(query));
  const content = await requested(issuer, {
    grant_type: "authorization_code",
    code: query.get("code") ?? "",
    redirect_uri: returnAddress(),
    client_id: clientId,
    code_verifier: pending.verifier,
  });
  // The ID token comes from the issuer itself, over TLS: its signature adds nothing (OpenID Connect Core, 3.1.3.7).
  const { iss, nonce, aud } = payloadOf(content.id_token ?? "");
  if (iss !== issuer || nonce !== pending.nonce || ![aud].flat().includes(clientId)) {
    throw new Error(`the response of ${issuer} belongs to another sign-in; sign in again`);
  }
  return sessionOf(content, { id: random(), idToken: "", refreshToken: "", renewAt: 0 });
}

/**
 * Returns a session with a new token.
 * @param {Provider} provider
 * @param {Issued} issued
 */
export async function refreshed({ issuer, clientId }, issued) {
  const content = await requested(issuer, {
    grant_type: "refresh_token",
    refresh_token: issued.refreshToken,
    client_id: clientId,
  });
  return sessionOf(content, issued);
}

/**
 * Ends a sign-in at the issuer, and leads there if it asks users to confirm.
 * @param {Provider} provider
 * @param {Issued} issued
 */
export async function end({ issuer, clientId }, { idToken, refreshToken }) {
  const { revocation_endpoint, end_session_endpoint } = await discovered(issuer);
  if (revocation_endpoint && refreshToken) {
    const body = new URLSearchParams({ token: refreshToken, client_id: clientId });
    await fetch(revocation_endpoint, { method: "POST", body }).catch(() => {}); // it expires by itself, too
  }
  if (!end_session_endpoint) return;
  const address = new URL(end_session_endpoint);
  address.searchParams.set("client_id", clientId);
  address.searchParams.set("id_token_hint", idToken);
  address.searchParams.set("post_logout_redirect_uri", `${location.origin}/`);
  location.assign(address);
}

/**
 * Returns the claims of a JWT, without verification; none if it is not one.
 * @param {string} jwt
 * @returns {Record<string, any>}
 */
export function payloadOf(jwt) {
  try {
    const base64 = (jwt.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) ?? {};
  } catch {
    return {};
  }
}

/**
 * @param {any} content  the response of the token endpoint
 * @param {Issued} last
 * @returns {Session}
 */
function sessionOf(content, last) {
  // The functions verify signed tokens: access tokens of some issuers are opaque, ID tokens never are.
  const access = String(content.access_token ?? "");
  const token = access.split(".").length === 3 ? access : String(content.id_token ?? access);
  const seconds = Number(content.expires_in) || DEFAULT_SECONDS;
  return {
    token,
    issued: {
      id: last.id,
      idToken: content.id_token ?? last.idToken,
      refreshToken: content.refresh_token ?? last.refreshToken,
      renewAt: Date.now() + seconds * RENEWAL_SHARE * 1000,
    },
  };
}

/** @param {string} issuer */
async function discovered(issuer) {
  const address = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const configuration = await json(issuer, address);
  if (configuration.issuer !== issuer) throw new Error(`${address} is the configuration of another issuer`);
  return configuration;
}

/**
 * @param {string} issuer
 * @param {Record<string, string>} fields
 */
async function requested(issuer, fields) {
  const { token_endpoint } = await discovered(issuer);
  return json(issuer, token_endpoint, { method: "POST", body: new URLSearchParams(fields) });
}

/**
 * @param {string} issuer
 * @param {string} address
 * @param {RequestInit} [options]
 */
async function json(issuer, address, options) {
  let response;
  let content;
  try {
    response = await fetch(address, { cache: "no-store", ...options });
    content = await response.json().catch((error) => {
      if (error instanceof SyntaxError) return {};
      throw error;
    });
  } catch {
    throw new Unreachable(`${issuer} cannot be reached; it must run, and allow requests of ${location.origin} (CORS)`);
  }
  if (response.status >= 500) throw new Unreachable(`${issuer} does not work at the moment (HTTP ${response.status})`);
  if (!response.ok) throw refused(issuer, { error: `HTTP ${response.status}`, ...content });
  return content;
}

/**
 * @param {string} issuer
 * @param {{ error?: string, error_description?: string }} reason
 */
function refused(issuer, { error, error_description }) {
  return new Error(`${issuer} refused the sign-in: ${error_description || error}`);
}

function returnAddress() {
  return location.origin + RETURN_PATH;
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)).buffer);
}

/** @param {ArrayBuffer} buffer */
function base64url(buffer) {
  const text = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
