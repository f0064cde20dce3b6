// The page and its filters are in the URL: links, the back button and reloads work as everywhere.

import { computed, signal } from "@preact/signals";
import { html } from "./html.js";

const address = signal(location.pathname + location.search);

export const path = computed(() => address.value.split("?")[0] ?? "/");
export const query = computed(() => new URLSearchParams(address.value.split("?")[1] ?? ""));

addEventListener("popstate", () => {
  address.value = location.pathname + location.search;
});

/**
 * Shows another page of the console.
 * @param {string} url
 * @param {{ replace?: boolean }} [options]  replace: the back button leads to the page before this one
 */
export function open(url, { replace = false } = {}) {
  const wasPath = path.value;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  address.value = location.pathname + location.search;
  // Also for the next page of a list, whose link is below the last row; not while the user types into a filter.
  if (!replace || path.value !== wasPath) {
    scrollTo(0, 0);
    queueMicrotask(() => document.getElementById("main")?.focus({ preventScroll: true }));
  }
}

/**
 * Changes parameters of the URL; an empty value removes one.
 * @param {Record<string, string>} changes
 * @param {{ replace?: boolean }} [options]
 */
export function setQuery(changes, options) {
  open(urlWith(path.value, query.value, changes), options);
}

/**
 * @param {string} pathname
 * @param {URLSearchParams} parameters
 * @param {Record<string, string>} changes
 */
export function urlWith(pathname, parameters, changes) {
  const next = new URLSearchParams(parameters);
  for (const [name, value] of Object.entries(changes)) {
    if (value) next.set(name, value);
    else next.delete(name);
  }
  const text = next.toString();
  return text ? `${pathname}?${text}` : pathname;
}

/**
 * A link within the console.
 * @param {{ href: string, children?: any, [attribute: string]: any }} props
 */
export function Link({ href, children, ...attributes }) {
  /** @param {MouseEvent} event */
  const onClick = (event) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    open(href);
  };
  return html`<a href=${href} onClick=${onClick} ...${attributes}>${children}</a>`;
}
