import { useSignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { LOAD_TIME } from "../axes.js";
import { html } from "../html.js";
import { loadCharts } from "../load.js";
import { isLoad } from "../metrics.js";
import { colours } from "../palette.js";
import { series } from "../series.js";
import { Chart } from "./chart.js";
import { isDark } from "./theme.js";

/**
 * Small charts of the load of the machine that a job trains on; nothing where the trainer reports none.
 * @param {{ history: import("../series.js").History, startedAt: string | null }} props
 */
export function Load({ history, startedAt }) {
  const zoom = useSignal(/** @type {import("./chart.js").Zoom} */ (null));
  const palette = colours(isDark.value);
  const charts = useMemo(() => {
    const { x, columns } = series(history, "time", startedAt, isLoad);
    return loadCharts(columns.keys()).map(({ title, unit, lines }) => {
      const curves = lines.map((line, number) => ({
        label: line.label,
        values: columns.get(line.name) ?? [],
        colour: palette[number % palette.length] ?? "",
      }));
      return { title, unit, x, curves };
    });
  }, [history, startedAt, palette]);

  if (!charts.length) return null;
  return html`<section>
    <h2>Machine</h2>
    <div class="grid small">
      ${charts.map(
        ({ title, unit, x, curves }) =>
          html`<${Chart} key=${title} title=${title} unit=${unit} x=${x} curves=${curves} axis=${LOAD_TIME} zoom=${zoom} isSmall />`,
      )}
    </div>
    ${
      zoom.value &&
      html`<button type="button" onClick=${() => {
        zoom.value = null;
      }}>Show all</button>`
    }
  </section>`;
}
