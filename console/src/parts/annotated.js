// An image with boxes, polygons and keypoints over it, drawn from data.

import { html } from "../html.js";
import { confident, described, isRight, sure } from "../samples.js";

/** @typedef {import("../samples.js").Sample} Sample */
/** @typedef {import("../samples.js").Mark} Mark */
/** @typedef {import("../samples.js").View} View */

/** How many colours the style sheet has for classes. */
const COLOURS = 6;
const KEYPOINT_RADIUS = 1.2;
/** Of a label, in parts of the font's size. */
const CHARACTER_WIDTH = 0.62;

/**
 * @param {{ sample: Sample, url: string | undefined, view: View, isLarge?: boolean, failed?: () => void }} props
 */
export function Annotated({ sample, url, view, isLarge, failed }) {
  const { width, height } = sample;
  const scale = Math.max(width, height) / 100;
  const shown = sample.isClassified ? [] : confident(sample, view.confidence);
  return html`<span class=${isLarge ? "annotated large" : "annotated"}>
    <svg viewBox=${`0 0 ${width} ${height}`} role="img" aria-label=${described(sample, view)} class=${url ? undefined : "missing"}>
      ${url && html`<image href=${url} width=${width} height=${height} onError=${failed} />`}
      ${view.showsTruth && !sample.isClassified && sample.truth.map((mark) => html`<${Drawn} mark=${mark} sample=${sample} kind="truth" scale=${scale} isLarge=${isLarge} />`)}
      ${view.showsPredictions && shown.map((mark) => html`<${Drawn} mark=${mark} sample=${sample} kind="prediction" scale=${scale} isLarge=${isLarge} />`)}
    </svg>
  </span>`;
}

/** @param {{ mark: Mark, sample: Sample, kind: "truth" | "prediction", scale: number, isLarge?: boolean }} props */
function Drawn({ mark, sample: { width, height }, kind, scale, isLarge }) {
  const { box, polygon, keypoints } = mark;
  const corners = polygon?.map(([x, y]) => `${x * width},${y * height}`).join(" ");
  const [x = 0, y = 0, w = 0, h = 0] = box ?? around(polygon ?? keypoints ?? []);
  const shape = corners
    ? html`<polygon points=${corners} />`
    : html`<rect x=${x * width} y=${y * height} width=${w * width} height=${h * height} />`;
  const size = scale * (isLarge ? 2.6 : 5);
  // Above the box, or in it where there is no room above; that of the truth at its foot, and only in a large image.
  const above = y * height > size ? y * height - size * 0.3 : y * height + size;
  const foot = Math.min((y + h) * height + size, height - size * 0.3);
  const words = kind === "prediction" || isLarge ? sure(mark) : "";
  const start = Math.max(Math.min(x * width + size * 0.2, width - words.length * size * CHARACTER_WIDTH), 0);
  return html`<g class=${`mark ${kind} colour-${colourOf(mark.label)}`}>
    <title>${kind}: ${sure(mark)}</title>
    <g class="halo">${shape}</g>
    ${shape}
    ${keypoints?.map(([px, py]) => html`<circle cx=${px * width} cy=${py * height} r=${scale * KEYPOINT_RADIUS} />`)}
    ${words && html`<text x=${start} y=${kind === "truth" ? foot : above} font-size=${size} stroke-width=${size / 5}>${words}</text>`}
  </g>`;
}

/** @param {import("../samples.js").Point[]} points */
function around(points) {
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, top] = [Math.min(...xs, 1), Math.min(...ys, 1)];
  return [left, top, Math.max(...xs, left) - left, Math.max(...ys, top) - top];
}

/** @param {string} label */
function colourOf(label) {
  let sum = 0;
  for (const char of label) sum = (sum * 31 + (char.codePointAt(0) ?? 0)) % 9973;
  return sum % COLOURS;
}

/** What is below an image: its name, and of a classified one whether the likeliest class is right, and the likeliest. */
export function SampleCaption(/** @type {{ sample: Sample, view: View }} */ { sample, view }) {
  if (!sample.isClassified) return html`<span class="file">${sample.name}</span>`;
  const right = isRight(sample);
  const [truth] = sample.truth;
  return html`
    ${
      right !== null &&
      view.showsTruth &&
      html`<span class=${`verdict ${right ? "right-class" : "wrong-class"}`}>
        <svg viewBox="0 0 16 16" aria-hidden="true"><path d=${right ? "M2.500 8.500l3.800 3.800 7.200-8" : "M3.500 3.500l9 9m0-9l-9 9"} /></svg>
        <span class="hidden">${right ? "right" : "wrong"}:</span> ${truth?.label}
      </span>`
    }
    ${
      view.showsPredictions &&
      html`<ul class="likely">
        ${sample.predictions.slice(0, 3).map(
          (one, place) => html`<li key=${place}>
            <progress value=${one.confidence ?? 0} max="1" aria-hidden="true" />
            <span>${sure(one)}</span>
          </li>`,
        )}
      </ul>`
    }
    <span class="file">${sample.name}</span>`;
}
