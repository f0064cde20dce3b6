import { useSignal } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";
import { CONFIDENCE, RECALL, SHARE } from "../axes.js";
import { bestConfidence, COLUMNS, parsedReport, sorted } from "../evaluation.js";
import { number } from "../format.js";
import { html } from "../html.js";
import { colours, places } from "../palette.js";
import { Chart } from "../parts/chart.js";
import { isDark } from "../parts/theme.js";
import { useStored } from "../stored.js";
import { Confusion } from "./confusion.js";

/** @typedef {import("../evaluation.js").Evaluation} Evaluation */

const ARROWS = { ascending: " ↑", descending: " ↓", none: "" };

/** The best model's results on the validation images, from report.json; nothing until it exists. */
export function EvaluationSection(
  /** @type {{ id: string, stored: import("../pages/artifacts.js").Stored }} */ { id, stored },
) {
  const named = (/** @type {string} */ name) => stored.artifacts.find(({ key }) => key === `results/job-${id}/${name}`);
  const text = useStored(named("report.json"), stored.renew);
  const evaluation = useMemo(() => (text === null ? null : parsedReport(text)), [text]);
  const page = named("report.html");
  const isShown = evaluation && (evaluation.matrix || evaluation.perClass.length || evaluation.curves);
  if (!isShown && !page) return null;
  return html`<section>
    <h2>Evaluation</h2>
    <p class="hint">
      ${isShown && html`The best model${evaluation.epoch ? `, of epoch ${evaluation.epoch},` : ""} on the validation images. `}
      ${page && html`<a href=${page.url} target="_blank" rel="noreferrer">Report as one page</a>, which works offline.`}
    </p>
    ${
      isShown &&
      html`${evaluation.matrix && html`<${Confusion} matrix=${evaluation.matrix} />`}
        ${evaluation.perClass.length > 0 && html`<${PerClass} rows=${evaluation.perClass} />`}
        <${ConfidenceCurves} id=${id} evaluation=${evaluation} />`
    }
  </section>`;
}

/** @param {{ rows: import("../evaluation.js").Row[] }} props */
function PerClass({ rows }) {
  const [order, setOrder] = useState({ column: "", isDescending: false });
  const columns = [["name", "Class"], ...COLUMNS.filter(([name]) => rows.some((row) => typeof row[name] === "number"))];
  const shown = order.column ? sorted(rows, order.column, order.isDescending) : rows;
  const sort = (/** @type {string} */ column) =>
    setOrder({ column, isDescending: order.column === column ? !order.isDescending : column !== "name" });
  const direction = (/** @type {string} */ column) =>
    order.column === column ? (order.isDescending ? "descending" : "ascending") : undefined;
  return html`<h3>By class</h3>
    <div class="table-box tall" tabindex="0" role="region" aria-label="Results by class">
      <table class="per-class">
        <thead>
          <tr>
            ${columns.map(
              ([
                name = "",
                title,
              ]) => html`<th key=${name} scope="col" class=${name === "name" ? undefined : "right"} aria-sort=${direction(name)}>
                <button type="button" class="sort" onClick=${() => sort(name)}>
                  ${title}<span aria-hidden="true">${ARROWS[direction(name) ?? "none"]}</span>
                </button>
              </th>`,
            )}
          </tr>
        </thead>
        <tbody>
          ${shown.map(
            (row) => html`<tr key=${row.name}>
              <th scope="row">${row.name}</th>
              ${columns.slice(1).map(([name = ""]) => html`<td class="right">${number(row[name])}</td>`)}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>`;
}

/** @param {{ id: string, evaluation: Evaluation }} props */
function ConfidenceCurves({ id, evaluation: { curves, pr } }) {
  const confidence = useSignal(/** @type {import("../parts/chart.js").Zoom} */ (null));
  const recall = useSignal(/** @type {import("../parts/chart.js").Zoom} */ (null));
  const palette = colours(isDark.value);
  const place = places([id]).get(id) ?? 0;
  const lines = useMemo(
    () =>
      [...(curves?.lines ?? [])].map(([name, values], number) => ({
        label: { precision: "Precision", recall: "Recall", f1: "F1" }[name] ?? name,
        values,
        colour: palette[(place + number) % palette.length] ?? "",
      })),
    [curves, palette],
  );
  const best = bestConfidence(curves);
  const ordered = useMemo(() => byRecall(pr), [pr]);
  if (!curves && !pr) return null;
  return html`<h3>By confidence</h3>
    ${best && html`<p class="hint">The highest F1 is ${number(best.f1)}, at a confidence of ${number(best.confidence)}.</p>`}
    <div class="grid">
      ${
        curves &&
        html`<${Chart} title="Precision, recall and F1" x=${curves.confidence} curves=${lines} axis=${CONFIDENCE} unit=${SHARE} zoom=${confidence} />`
      }
      ${
        ordered &&
        html`<${Chart} title="Precision by recall" x=${ordered.recall}
          curves=${[{ label: "Precision", values: ordered.precision, colour: palette[place] ?? "" }]} axis=${RECALL} unit=${SHARE} zoom=${recall} />`
      }
    </div>`;
}

/** @param {Evaluation["pr"]} pr */
function byRecall(pr) {
  if (!pr) return null;
  const rows = pr.recall
    .map((value, row) => ({ recall: value ?? 0, precision: pr.precision[row] ?? null }))
    .sort((a, b) => a.recall - b.recall);
  return { recall: rows.map((row) => row.recall), precision: rows.map((row) => row.precision) };
}
