// Keys for people who work without a mouse: one place for all of them, which the help shows.

import { signal } from "@preact/signals";

/** Links of the rows that `j` and `k` go through. */
const ROWS = "main .jobs tbody th a[href^='/jobs/'], main .datasets tbody th a";
const OFF = "stoker-shortcuts-off";

export const KEYS = /** @type {const} */ ([
  ["j", "the next row"],
  ["k", "the row before"],
  ["Enter", "open the row"],
  ["/", "search"],
  ["?", "show these keys"],
]);

export const isHelpShown = signal(false);
/** Keys without a modifier disturb people who speak to their computer: they can be switched off. */
export const areOff = signal(localStorage.getItem(OFF) !== null);

/** @param {boolean} off */
export function switchOff(off) {
  areOff.value = off;
  if (off) localStorage.setItem(OFF, "1");
  else localStorage.removeItem(OFF);
}

/** Listens for the keys on every page. */
export function startShortcuts() {
  addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || isTyping(event.target) || isInDialog()) return;
    const act = { j: () => step(1), k: () => step(-1), "/": search, "?": help }[event.key];
    if (!act || (areOff.value && event.key !== "?") || !act()) return;
    event.preventDefault();
  });
}

/** @param {EventTarget | null} target */
function isTyping(target) {
  return target instanceof HTMLElement && target.matches("input:not([type=checkbox], [type=radio]), textarea, select");
}

function isInDialog() {
  return document.querySelector("dialog[open]") !== null;
}

/** @param {number} by */
function step(by) {
  const rows = [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(ROWS))];
  const current = document.activeElement?.closest("tr");
  const place = rows.findIndex((row) => row.closest("tr") === current);
  const next = rows[place < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(place + by, 0), rows.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
  return next !== undefined;
}

function search() {
  const field = /** @type {HTMLElement | null} */ (document.querySelector("main input[type=search]"));
  field?.focus();
  return field !== null;
}

function help() {
  isHelpShown.value = true;
  return true;
}
