import { useEffect, useRef } from "preact/hooks";
import { html } from "../html.js";
import { areOff, isHelpShown, KEYS, switchOff } from "../shortcuts.js";

/** The keys that every page knows. */
export function Help() {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    if (isHelpShown.value) dialog.current?.showModal();
  }, [isHelpShown.value]);
  if (!isHelpShown.value) return null;
  const close = () => {
    isHelpShown.value = false;
  };
  return html`<dialog ref=${dialog} onClose=${close} aria-labelledby="help-title">
    <h2 id="help-title">Keys</h2>
    <table class="keys">
      <tbody>${KEYS.map(([key, words]) => html`<tr key=${key}><th scope="row"><kbd>${key}</kbd></th><td>${words}</td></tr>`)}</tbody>
    </table>
    <p class="hint">In an enlarged image, the arrow keys show the previous and the next one.</p>
    <label class="check"><input type="checkbox" checked=${!areOff.value} onChange=${() => switchOff(!areOff.value)} /> Use these keys</label>
    <div class="buttons"><button type="button" class="primary" onClick=${() => dialog.current?.close()}>Close</button></div>
  </dialog>`;
}
