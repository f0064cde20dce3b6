import { useState } from "preact/hooks";
import { html } from "../html.js";

/**
 * An image, in the theme's colour until it is there. Plots with transparent parts are made for white paper.
 * @param {{ src: string, alt: string, failed: () => void }} props
 */
export function Picture({ src, alt, failed }) {
  const [shown, setShown] = useState("");
  return html`<img src=${src} alt=${alt} loading="lazy" class=${shown === src ? "shown" : undefined}
    onLoad=${() => setShown(src)} onError=${failed} />`;
}
