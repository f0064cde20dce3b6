import { useState } from "preact/hooks";
import { html } from "../html.js";

const OPAQUE = /\.jpe?g($|\?)/i;

/**
 * An image, in the theme's colour until it is there. Plots with transparent parts are made for white paper.
 * @param {{ src: string, alt: string, failed: () => void }} props
 */
export function Picture({ src, alt, failed }) {
  const [shown, setShown] = useState("");
  return html`<img src=${src} alt=${alt} loading="lazy" class=${shown === src ? (OPAQUE.test(src) ? "shown" : "shown paper") : undefined}
    onLoad=${() => setShown(src)} onError=${failed} />`;
}
