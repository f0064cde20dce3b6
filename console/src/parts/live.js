import { useState } from "preact/hooks";
import { get } from "../api.js";
import { html } from "../html.js";
import { LIST_SECONDS, usePoll } from "../polling.js";

/**
 * Follows what a path of the API returns.
 * @param {string} path  empty: nothing
 * @param {unknown[]} [inputs]  it is loaded again when one changes
 * @returns {{ data: any, error: string, isOld: boolean }}  data: null until it is loaded; isOld: it is of another path
 */
export function useLive(path, inputs = []) {
  const [data, setData] = useState(/** @type {any} */ (null));
  const [shown, setShown] = useState("");
  const [error, setError] = useState("");
  usePoll(
    async (abort) => {
      if (!path) return "ended";
      const loaded = await get(path, abort);
      setError("");
      setData(loaded);
      setShown(path);
      return loaded === data ? "same" : "changed";
    },
    LIST_SECONDS,
    (reason) => setError(String(/** @type {any} */ (reason).message)),
    [path, ...inputs],
  );
  return { data, error, isOld: data !== null && shown !== path };
}

/**
 * Shows the loaded content, or that it is loading, missing or empty, or the error.
 * @param {{ data: any, error: string, isOld?: boolean, isEmpty: boolean, empty: any, children?: any }} props
 */
export function Live({ data, error, isOld = false, isEmpty, empty, children }) {
  return html`${error && html`<p class="banner failed" role="alert">${error}</p>`}
    ${!data && !error && html`<p class="empty">Loading …</p>`}
    ${data && html`<div aria-busy=${isOld}>${isEmpty ? empty : children}</div>`}`;
}
