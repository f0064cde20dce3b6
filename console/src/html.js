import htm from "htm";
import { h } from "preact";

/** Creates elements from a template: html`<p class=${name}>${text}</p>`. Values are always text, never markup. */
export const html = htm.bind(h);
