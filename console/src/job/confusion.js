import { useRef, useState } from "preact/hooks";
import { confusions, cut, shares } from "../evaluation.js";
import { number, percent } from "../format.js";
import { html } from "../html.js";

/** How many classes a matrix can show. */
const CLASSES = 30;
/** Up to how many classes its cells have room for a number. */
const NUMBERED = 12;
const PAIRS = 10;

/**
 * A confusion matrix: labels by row, predictions by column.
 * @param {{ matrix: import("../evaluation.js").Matrix }} props
 */
export function Confusion({ matrix }) {
  const [isNormal, setNormal] = useState(true);
  const shown = cut(matrix, CLASSES);
  const pairs = confusions(matrix, PAIRS);
  return html`<div class="confusion">
    <div>
      <h3>Confusion matrix</h3>
      <div class="toolbar">
        <label><input type="checkbox" checked=${isNormal} onChange=${() => setNormal(!isNormal)} /> As shares of each row</label>
      </div>
      ${shown.leftOut > 0 && html`<p class="hint">The ${shown.labels.length} of ${shown.labels.length + shown.leftOut} classes that are confused most.</p>`}
      <${Grid} matrix=${shown} isNormal=${isNormal} />
    </div>
    ${
      pairs.length > 0 &&
      html`<div>
        <h3>Most confused</h3>
        <table class="pairs">
          <thead><tr><th scope="col">Is</th><th scope="col">Predicted as</th><th scope="col" class="right">Count</th><th scope="col" class="right">Share</th></tr></thead>
          <tbody>
            ${pairs.map(
              (pair) => html`<tr key=${`${pair.truth} ${pair.prediction}`}>
                <th scope="row">${pair.truth}</th><td>${pair.prediction}</td>
                <td class="right">${number(pair.count)}</td><td class="right">${percent(pair.share)}</td>
              </tr>`,
            )}
          </tbody>
        </table>
      </div>`
    }
  </div>`;
}

/** @param {{ matrix: import("../evaluation.js").Matrix, isNormal: boolean }} props */
function Grid({ matrix: { labels, counts }, isNormal }) {
  const [cell, setCell] = useState({ row: 0, column: 0 });
  const table = useRef(/** @type {HTMLTableElement | null} */ (null));
  const parts = shares(counts);
  const most = Math.max(...counts.flat(), 1);
  const isNumbered = labels.length <= NUMBERED;

  function onKeyDown(/** @type {KeyboardEvent} */ event) {
    const [down, right] = /** @type {Record<string, number[]>} */ ({
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    })[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    const last = labels.length - 1;
    const row = Math.min(Math.max(cell.row + (down ?? 0), 0), last);
    const column = Math.min(Math.max(cell.column + (right ?? 0), 0), last);
    setCell({ row, column });
    /** @type {HTMLElement | null | undefined} */ (table.current?.rows[row + 1]?.cells[column + 1])?.focus();
  }
  const count = counts[cell.row]?.[cell.column] ?? 0;
  const share = parts[cell.row]?.[cell.column] ?? 0;
  return html`<div class="table-box matrix-box">
      <table class=${isNumbered ? "matrix" : "matrix dense"} role="grid" aria-label="Confusion matrix: rows are the truth, columns the predictions" ref=${table} onKeyDown=${onKeyDown}>
        <thead>
          <tr><td></td>${labels.map((label) => html`<th key=${label} scope="col"><span>${label}</span></th>`)}</tr>
        </thead>
        <tbody>
          ${labels.map(
            (truth, row) => html`<tr key=${truth}>
              <th scope="row"><span>${truth}</span></th>
              ${labels.map((prediction, column) => {
                const value = counts[row]?.[column] ?? 0;
                const part = parts[row]?.[column] ?? 0;
                const shade = Math.ceil((isNormal ? part : value / most) * 10);
                const text = isNormal ? percent(part) : number(value);
                const enter = () => setCell({ row, column });
                return html`<td key=${prediction} class=${`shade-${shade}${row === column ? " same" : ""}`}
                  tabindex=${cell.row === row && cell.column === column ? 0 : -1} onFocus=${enter} onMouseEnter=${enter}
                  aria-label=${`${truth} predicted as ${prediction}: ${text}`}>${isNumbered && value ? text : ""}</td>`;
              })}
            </tr>`,
          )}
        </tbody>
      </table>
    </div>
    <p class="readout-line" aria-live="off">
      <strong>${labels[cell.row]}</strong> predicted as <strong>${labels[cell.column]}</strong>: ${number(count)}, ${percent(share)} of the row
    </p>`;
}
