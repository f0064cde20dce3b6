import { useEffect, useRef } from "preact/hooks";
import { html } from "../html.js";

/**
 * One image of several, as large as the window; the arrow keys lead to the others.
 * @param {{
 *   title: string, index: number, count: number, move: (index: number) => void, close: () => void,
 *   keys?: Record<string, () => void>, children?: any
 * }} props  keys: what other keys do, by their names
 */
export function Lightbox({ title, index, count, move, close, keys = {}, children }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => dialog.current?.showModal(), []);
  const step = (/** @type {number} */ by) => move((index + by + count) % count);

  function onKeyDown(/** @type {KeyboardEvent} */ event) {
    const isTyping = event.target instanceof HTMLInputElement;
    const act = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), ...keys }[event.key];
    if (!act || isTyping || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    act();
  }
  const onClick = (/** @type {MouseEvent} */ event) => {
    if (event.target === dialog.current) dialog.current?.close(); // the backdrop
  };

  return html`<dialog class="lightbox" ref=${dialog} onClose=${close} onKeyDown=${onKeyDown} onClick=${onClick} aria-labelledby="lightbox-title">
    <div class="bar">
      <h2 id="lightbox-title">${title}</h2>
      <span class="hint" aria-live="polite">${index + 1} of ${count}</span>
      <div class="buttons">
        ${
          count > 1 &&
          html`<button type="button" onClick=${() => step(-1)} aria-label="Previous image">←</button>
            <button type="button" onClick=${() => step(1)} aria-label="Next image">→</button>`
        }
        <button type="button" onClick=${() => dialog.current?.close()}>Close</button>
      </div>
    </div>
    <div class="content">${children}</div>
  </dialog>`;
}
