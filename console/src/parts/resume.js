import { useState } from "preact/hooks";
import { change } from "../api.js";
import { html } from "../html.js";
import { open } from "../router.js";
import { Dialog } from "./dialog.js";

/**
 * Makes a new job that continues an ended one from its last checkpoint.
 * @param {{ job: import("../jobs.js").Job, close: () => void }} props
 */
export function Resume({ job, close }) {
  const [epochs, setEpochs] = useState(String(job.spec.epochs ?? job.epochs ?? ""));
  const resume = async () => {
    const changes = epochs.trim() ? { epochs: Number(epochs) } : {};
    const resumed = await change("POST", `/v1/jobs/${job.id}/resume`, changes);
    open(`/jobs/${resumed.id}`);
  };
  return html`<${Dialog} title="Resume this job?" action="Resume" dismiss="Cancel" act=${resume} close=${close}>
    <p>A new job continues from the last checkpoint${job.epoch === null ? "" : `, after epoch ${job.epoch}`}. This job does not change.</p>
    <label class="field">Epochs in all
      <input type="number" min="1" value=${epochs} onInput=${(/** @type {any} */ event) => setEpochs(event.target.value)} />
    </label>
  <//>`;
}
