import { useMemo } from "preact/hooks";
import { plural } from "../format.js";
import { html } from "../html.js";
import { useStored } from "../stored.js";

/** How many names are shown before the rest is counted. */
const SHOWN = 12;

/**
 * What the trainer found in the dataset: its splits and classes, what it guessed, and what it left out.
 * @param {{ stored: import("./artifacts.js").Stored, known?: string | null }} props  known: what the page says already
 */
export function DatasetReport({ stored, known }) {
  // Where the bucket does not allow it, the report is still among the artifacts.
  const text = useStored(
    stored.artifacts.find(({ key }) => key.endsWith("/dataset.json")),
    stored.renew,
  );
  const report = useMemo(() => (text === null ? null : JSON.parse(text)), [text]);

  if (!report) return null;
  const { classes = [], guesses = [], duplicate_count: duplicates = 0 } = report;
  const splits = Object.entries(report.splits ?? {});
  const isRefused = !report.usable && report.message;
  // The reason of the refusal is a problem, too; once is enough.
  const problems = (report.problems ?? []).filter((/** @type {any} */ { kind }) => !isRefused || kind !== "unusable");
  // That of a prediction's images.
  const isShown = isRefused && report.message !== known;
  if (![splits, classes, guesses, problems].some((part) => part.length) && !isShown) return null;
  return html`<section>
    <h2>Dataset</h2>
    ${isShown && html`<p class="banner failed">${report.message}</p>`}
    ${splits.length > 0 && html`<${Splits} splits=${splits} />`}
    ${
      classes.length > 0 &&
      html`<p>
      ${report.format && `${report.format}; `}${plural(classes.length, "class").replace(/classs$/, "classes")}:${" "}
      ${classes.slice(0, SHOWN).join(", ")}${classes.length > SHOWN && ` and ${classes.length - SHOWN} more`}
    </p>`
    }
    ${
      guesses.length > 0 &&
      html`<h3>Read as</h3>
        <ul class="bullets">${guesses.map((/** @type {any} */ guess) => html`<li>${guess.message}</li>`)}</ul>`
    }
    ${problems.length > 0 && html`<h3>Problems</h3> ${problems.map((/** @type {any} */ problem) => html`<${Problem} problem=${problem} />`)}`}
    ${duplicates > 0 && html`<p>${plural(duplicates, "image")} of the validation are among those of the training, too.</p>`}
  </section>`;
}

/** @param {{ splits: [string, any][] }} props */
function Splits({ splits }) {
  const columns = [
    ["images", "Images"],
    ["objects", "Objects"],
    ["background", "Without objects"],
  ].filter(([name]) => splits.some(([, split]) => split[name ?? ""] !== undefined));
  return html`<table class="splits">
    <thead><tr><th scope="col">Split</th>${columns.map(([, words]) => html`<th scope="col" class="right">${words}</th>`)}</tr></thead>
    <tbody>
      ${splits.map(
        ([name, split]) => html`<tr key=${name}>
          <th scope="row">${name}</th>
          ${columns.map(([column]) => html`<td class="right">${split[column ?? ""] ?? ""}</td>`)}
        </tr>`,
      )}
    </tbody>
  </table>`;
}

/** @param {{ problem: any }} props */
function Problem({ problem }) {
  const files = problem.files ?? [];
  return html`<details class="problem">
    <summary>${problem.count} × ${problem.kind}${problem.refused ? ", not usable" : ", left out"}</summary>
    <ul class="bullets">
      ${files.slice(0, SHOWN).map((/** @type {any} */ file) => html`<li><span class="mono">${file.file}</span> ${file.reason}</li>`)}
      ${problem.count > SHOWN && html`<li>and ${problem.count - Math.min(files.length, SHOWN)} more</li>`}
    </ul>
  </details>`;
}
