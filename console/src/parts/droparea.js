import { useRef, useState } from "preact/hooks";
import { html } from "../html.js";

/**
 * A box that files are dropped into, or chosen for by its button.
 * @param {{
 *   kind?: string, accept: string, isMultiple?: boolean, choose: (files: File[]) => void,
 *   drop?: (dropped: DataTransfer) => void, children: (browse: () => void) => any
 * }} props  kind: its class; drop: if not all that is dropped is to be chosen; browse: opens the browser's own dialog
 */
export function DropArea({ kind = "", accept, isMultiple, choose, drop, children }) {
  const [isOver, setOver] = useState(false);
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const onDrag = (/** @type {boolean} */ over) => (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    setOver(over);
  };
  const onDrop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    setOver(false);
    if (!event.dataTransfer) return;
    if (drop) drop(event.dataTransfer);
    else choose([...event.dataTransfer.files]);
  };
  const onChange = (/** @type {any} */ event) => {
    choose([...event.target.files]);
    event.target.value = ""; // so that the same file can be chosen again, once it is corrected
  };
  return html`<div class=${["drop", kind, isOver && "over"].filter(Boolean).join(" ")}
    onDragEnter=${onDrag(true)} onDragOver=${onDrag(true)} onDragLeave=${onDrag(false)} onDrop=${onDrop}>
    <input type="file" class="hidden" multiple=${isMultiple} tabindex="-1" aria-hidden="true" ref=${input} accept=${accept} onChange=${onChange} />
    ${children(() => input.current?.click())}
  </div>`;
}
