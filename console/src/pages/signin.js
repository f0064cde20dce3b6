import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { provider } from "../oidc.js";
import { path, query, urlWith } from "../router.js";
import { begin, refusal, signIn, signOut } from "../session.js";

/** Asks for a sign-in: at the issuer, if there is one, or by a token. */
export function SignIn() {
  return html`<main id="main" class="signin" tabindex="-1">
    <h1>Stoker</h1>
    <${Refusal} />
    <${AtIssuer} />
    <${ByToken} />
  </main>`;
}

/** Asks for another sign-in over a page that stays as it is, with everything that is typed there. */
export function SignInAgain() {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => dialog.current?.showModal(), []);
  return html`<dialog ref=${dialog} class="signin" aria-labelledby="again-title" onClose=${() => signOut()}>
    <h2 id="again-title">Sign in again</h2>
    <${Refusal} />
    <p class="hint">This page keeps its content, and continues after you have signed in.</p>
    ${
      provider() &&
      html`<a class="button primary" href="/sign-in" target="_blank" rel="noopener">Sign in at ${host()} in a new tab</a>`
    }
    <${ByToken} />
    <button type="button" class="plain" onClick=${() => dialog.current?.close()}>Leave this page</button>
  </dialog>`;
}

/** What a tab shows that was opened to sign in again. */
export function SignedIn() {
  useEffect(() => close(), []); // where browsers allow it
  return html`<h1>You are signed in</h1>
    <p>The page in the other tab continues. This tab can be closed, or <a href="/">shows the jobs</a>.</p>`;
}

function Refusal() {
  return refusal.value && html`<p class="banner failed" role="alert">${refusal.value}</p>`;
}

function AtIssuer() {
  if (!provider()) return null;
  const sign = () => begin(path.value === "/sign-in" ? "" : urlWith(path.value, query.value, {}));
  return html`<button type="button" class="primary" onClick=${sign}>Sign in at ${host()}</button>
    <p class="or">or with a token</p>`;
}

function host() {
  return new URL(provider()?.issuer ?? location.origin).host;
}

function ByToken() {
  const [value, setValue] = useState("");
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (value.trim()) signIn(value.trim());
  };
  return html`<form onSubmit=${submit}>
    <label for="token">API token</label>
    <input id="token" type="password" autocomplete="off" spellcheck="false" required value=${value}
      aria-describedby="token-hint"
      onInput=${(/** @type {any} */ event) => setValue(event.target.value)} />
    <p id="token-hint" class="hint">
      On a laptop, <code>./taskw console</code> opens this page signed in, and <code>./taskw token</code> prints a token.
      The token stays in this tab.
    </p>
    <button type="submit" class=${provider() ? "" : "primary"}>Sign in</button>
  </form>`;
}
