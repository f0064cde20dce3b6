import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";

/**
 * A dialog with one action; it stays open, and says why, if the action fails.
 * @param {{
 *   title: string, action: string, dismiss: string, act: () => Promise<unknown>, close: () => void, children?: any
 * }} props
 */
export function Dialog({ title, action, dismiss, act, close, children }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  useEffect(() => dialog.current?.showModal(), []);

  async function submit(/** @type {Event} */ event) {
    event.preventDefault();
    setBusy(true);
    try {
      await act();
      dialog.current?.close();
    } catch (reason) {
      setError(reason instanceof Error ? reason.message : String(reason));
      setBusy(false);
    }
  }

  return html`<dialog ref=${dialog} onClose=${close} aria-labelledby="dialog-title">
    <form onSubmit=${submit}>
      <h2 id="dialog-title">${title}</h2>
      ${children}
      ${error && html`<p class="error" role="alert">${error}</p>`}
      <div class="buttons">
        <button type="button" onClick=${() => dialog.current?.close()}>${dismiss}</button>
        <button type="submit" class="primary" disabled=${isBusy}>${action}</button>
      </div>
    </form>
  </dialog>`;
}
