import { useEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";

/**
 * A box for a wide table: it scrolls by itself, and shows where more columns are.
 * @param {{ label: string, children?: any }} props
 */
export function TableBox({ label, children }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const [scroll, setScroll] = useState({ isWide: false, hasMore: false });
  const look = () => {
    const own = box.current;
    if (!own) return;
    const isWide = own.scrollWidth > own.clientWidth + 1;
    const hasMore = isWide && own.scrollLeft + own.clientWidth < own.scrollWidth - 1;
    setScroll((last) => (last.isWide === isWide && last.hasMore === hasMore ? last : { isWide, hasMore }));
  };
  useEffect(() => {
    const own = box.current;
    if (!own) return undefined;
    const observer = new ResizeObserver(look);
    observer.observe(own);
    if (own.firstElementChild) observer.observe(own.firstElementChild);
    return () => observer.disconnect();
  }, []);
  // Only a box that scrolls can be reached by the keyboard.
  return html`<div class="table-scroll">
    <div class="table-box" ref=${box} onScroll=${look} tabindex=${scroll.isWide ? 0 : undefined}
      role=${scroll.isWide ? "region" : undefined} aria-label=${scroll.isWide ? label : undefined}>${children}</div>
    ${scroll.isWide && html`<p class="more" aria-hidden="true">${scroll.hasMore ? "more →" : "← more"}</p>`}
  </div>`;
}
