// Colours of curves: eight that people with red-green blindness tell apart (after Okabe and Ito), for both themes.

const LIGHT = ["#0b6db3", "#c2500a", "#00795a", "#a0397f", "#8a6a00", "#2f8fbe", "#5b4fb0", "#1d1b18"];
const DARK = ["#5cb3f2", "#ff9a4d", "#2fc79b", "#ec8fc9", "#e8c33f", "#9bdcf7", "#aba2ff", "#ecebe6"];

/** @param {boolean} isDark */
export function colours(isDark) {
  return isDark ? DARK : LIGHT;
}

/**
 * Returns a place in the palette for each id. A job keeps its colour wherever it is shown, unless another job of the
 * same comparison already uses it.
 * @param {string[]} ids
 * @returns {Map<string, number>}
 */
export function places(ids) {
  /** @type {Map<string, number>} */
  const chosen = new Map();
  const taken = new Set();
  for (const id of ids) {
    let place = hash(id) % LIGHT.length;
    for (let tries = 0; taken.has(place) && tries < LIGHT.length; tries++) place = (place + 1) % LIGHT.length;
    taken.add(place);
    chosen.set(id, place);
  }
  return chosen;
}

/** @param {string} text */
function hash(text) {
  let value = 2166136261;
  for (const char of text) value = Math.imul(value ^ (char.codePointAt(0) ?? 0), 16777619) >>> 0;
  return value;
}
