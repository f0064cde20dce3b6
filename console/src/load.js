// The load of the machine that a job trains on, from metrics whose names begin with `system/`.

import { BYTES, PERCENT, PLAIN } from "./axes.js";
import { isLoad, label } from "./metrics.js";

/** @typedef {{ title: string, unit: import("./axes.js").Unit, lines: { name: string, label: string }[] }} LoadChart */

/** Charts in their order: what follows `system/`, and the title. A number is that of a GPU. */
const KINDS = /** @type {const} */ ([
  [/^gpu(\d*)_percent$/, "GPU"],
  [/^gpu(\d*)_memory_bytes$/, "GPU memory"],
  [/^cpu()_percent$/, "CPU"],
  [/^ram()_bytes$/, "Memory"],
  [/^data_wait()_percent$/, "Waits for data"],
]);

/**
 * Groups the names of the load into charts: one kind of all GPUs together.
 * @param {Iterable<string>} names
 * @returns {LoadChart[]}
 */
export function loadCharts(names) {
  const own = [...names].filter(isLoad).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const known = KINDS.flatMap(([pattern, title]) => {
    const lines = own.flatMap((name) => {
      const match = pattern.exec(name.replace("system/", ""));
      return match ? [{ name, label: match[1] ? `GPU ${match[1]}` : title }] : [];
    });
    return lines.length ? [{ title, unit: unitOf(lines[0]?.name ?? ""), lines }] : [];
  });
  const shown = new Set(known.flatMap(({ lines }) => lines.map(({ name }) => name)));
  const others = own.filter((name) => !shown.has(name));
  return [
    ...known,
    ...others.map((name) => ({ title: label(name), unit: unitOf(name), lines: [{ name, label: label(name) }] })),
  ];
}

/** @param {string} name */
function unitOf(name) {
  if (name.endsWith("_percent")) return PERCENT;
  return name.endsWith("_bytes") ? BYTES : PLAIN;
}
