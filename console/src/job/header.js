import { useState } from "preact/hooks";
import { change } from "../api.js";
import { ago, dateTime } from "../format.js";
import { html } from "../html.js";
import { isOpen, title } from "../jobs.js";
import { Dialog } from "../parts/dialog.js";
import { Edit } from "../parts/edit.js";
import { now } from "../parts/now.js";
import { Share } from "../parts/share.js";
import { State } from "../parts/state.js";
import { Tags } from "../parts/tags.js";
import { Link, open } from "../router.js";
import { allows } from "../session.js";

/** @typedef {import("../jobs.js").Job} Job */

/**
 * The name and state of a job, and its actions.
 * @param {{ job: Job, refresh: () => void, resume: (() => void) | undefined }} props  resume: undefined if it cannot be
 */
export function Header({ job, refresh, resume }) {
  const [dialog, setDialog] = useState(/** @type {"" | "cancel" | "edit" | "delete" | "share"} */ (""));
  const close = () => setDialog("");
  const cancel = async () => {
    await change("POST", `/v1/jobs/${job.id}/cancel`, { message: "cancelled in the console" });
    refresh();
  };
  const remove = async () => {
    await change("DELETE", `/v1/jobs/${job.id}`);
    open("/");
  };
  return html`<header class="heading">
      <div>
        <p class="crumbs"><${Link} href="/">Jobs<//> / <span class="mono">${job.id}</span></p>
        <h1>${title(job)}</h1>
        <p class="facts">
          <span aria-live="polite"><${State} job=${job} /></span>
          <span>${[job.task === "train" ? "" : job.task, job.framework].filter(Boolean).join(" · ")}</span>
          <span>dataset <${Link} href=${`/datasets/${encodeURIComponent(job.dataset_id)}`}>${job.dataset_id}<//></span>
          <span>model ${job.model_name}</span>
          <${Origin} words="continues" id=${job.resumed_from} />
          <${Origin} words="copy of" id=${job.cloned_from} />
          <span>created <time datetime=${job.created_at} title=${dateTime(job.created_at)}>${ago(job.created_at, now.value)}</time>${job.owner && ` by ${job.owner}`}</span>
        </p>
        <${Tags} tags=${job.tags} />
        ${job.notes && html`<p class="notes">${job.notes}</p>`}
      </div>
      <div class="buttons">
        ${
          allows("jobs:write") &&
          html`
          ${resume && html`<button type="button" class="primary" onClick=${resume}>Resume</button>`}
          <${Link} class="button" href=${`/new?from=${job.id}`}>${job.task === "train" ? "Train again" : "Run again"}<//>
          <button type="button" onClick=${() => setDialog("edit")}>Edit</button>
          ${isOpen(job) && html`<button type="button" onClick=${() => setDialog("cancel")}>Cancel</button>`}
          ${!isOpen(job) && html`<button type="button" onClick=${() => setDialog("delete")}>Delete</button>`}`
        }
        ${(allows("jobs:read") || allows("jobs:write")) && html`<button type="button" onClick=${() => setDialog("share")}>Share</button>`}
      </div>
    </header>
    ${
      dialog === "delete" &&
      html`<${Dialog} title="Delete this job?" dismiss="Keep it" action="Delete the job" act=${remove} close=${close}>
        <p>Its weights, results and logs are deleted, too. This cannot be undone.</p>
      <//>`
    }
    ${dialog === "share" && html`<${Share} id=${job.id} close=${close} />`}
    ${dialog === "edit" && html`<${Edit} job=${job} saved=${refresh} close=${close} />`}
    ${
      dialog === "cancel" &&
      html`<${Dialog} title="Cancel this job?" dismiss="Keep it" action="Cancel the job" act=${cancel} close=${close}>
        <p>Its trainer stores a checkpoint and stops. Stored files are kept.</p>
      <//>`
    }`;
}

/** The job that a job was made from. */
function Origin(/** @type {{ words: string, id: string | null | undefined }} */ { words, id }) {
  return id ? html`<span>${words} <${Link} href=${`/jobs/${id}`}>${id}<//></span>` : null;
}
