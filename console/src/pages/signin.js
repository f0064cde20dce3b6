import { useState } from "preact/hooks";
import { html } from "../html.js";
import { refusal, signIn } from "../session.js";

/** Asks for a token. */
export function SignIn() {
  const [value, setValue] = useState("");
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (value.trim()) signIn(value.trim());
  };
  return html`<main id="main" class="signin" tabindex="-1">
    <h1>Stoker</h1>
    ${refusal.value && html`<p class="banner failed" role="alert">${refusal.value}</p>`}
    <form onSubmit=${submit}>
      <label for="token">API token</label>
      <input id="token" type="password" autocomplete="off" spellcheck="false" required value=${value}
        aria-describedby="token-hint"
        onInput=${(/** @type {any} */ event) => setValue(event.target.value)} />
      <p id="token-hint" class="hint">
        On a laptop, <code>./taskw console</code> opens this page signed in, and <code>./taskw token</code> prints a token.
        The token stays in this tab.
      </p>
      <button type="submit" class="primary">Sign in</button>
    </form>
  </main>`;
}
