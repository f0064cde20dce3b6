import { useMemo, useState } from "preact/hooks";
import { html } from "../html.js";
import { ownImages } from "../images.js";
import { isOpen } from "../jobs.js";
import { Link } from "../router.js";
import { parsedPredictions } from "../samples.js";
import { useStored } from "../stored.js";
import { Gallery, useView, ViewChoice } from "./gallery.js";

const PAGE = 48;
const TRAINING = /^checkpoints\/job-([^/]+)\//;

/**
 * What a prediction has written to predictions.jsonl, over the images that this tab has, or the job has stored.
 * @param {{ job: import("../jobs.js").Job, stored: import("../pages/artifacts.js").Stored }} props
 */
export function Predictions({ job, stored }) {
  const [view, change] = useView();
  const [count, setCount] = useState(PAGE);
  const text = useStored(
    stored.artifacts.find(({ key }) => key.endsWith("/predictions.jsonl")),
    stored.renew,
  );
  const samples = useMemo(() => (text === null ? [] : parsedPredictions(text)), [text]);
  const [, training] = TRAINING.exec(job.spec?.checkpoint_key ?? "") ?? [];
  const own = ownImages.value.get(job.id);
  // Images that the trainer has annotated are not annotated again.
  const drawn = own
    ? samples
    : samples.map((sample) => (sample.file && !sample.isClassified ? { ...sample, predictions: [] } : sample));
  const shown = drawn.slice(0, count);
  const urlOf = (/** @type {import("../samples.js").Sample} */ { name, file }) =>
    own?.get(name) ?? stored.artifacts.find(({ key }) => key === file)?.url;
  return html`<section>
    <h2>Predictions</h2>
    ${training && html`<p class="hint">With the best weights of <${Link} href=${`/jobs/${training}`}>${training}<//>.</p>`}
    ${!samples.length && html`<p class="empty">${isOpen(job) ? "The predictions appear at the end of the job." : "This job has stored no predictions."}</p>`}
    ${
      samples.length > 0 &&
      html`${(own || samples.some((sample) => sample.isClassified)) && html`<${ViewChoice} view=${view} change=${change} samples=${samples} />`}
        <${Gallery} samples=${shown} view=${view} urlOf=${urlOf} failed=${stored.renew} />
        ${samples.length > count && html`<button type="button" onClick=${() => setCount(count + PAGE)}>Show more of ${samples.length}</button>`}`
    }
  </section>`;
}
