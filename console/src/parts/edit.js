import { useState } from "preact/hooks";
import { change } from "../api.js";
import { html } from "../html.js";
import { Dialog } from "./dialog.js";

/**
 * Edits the name, tags and notes of a job.
 * @param {{ job: import("../jobs.js").Job, saved: () => void, close: () => void }} props
 */
export function Edit({ job, saved, close }) {
  const [name, setName] = useState(job.name ?? "");
  const [tags, setTags] = useState((job.tags ?? []).join(", "));
  const [notes, setNotes] = useState(job.notes ?? "");
  const save = async () => {
    const split = tags.split(",").map((/** @type {string} */ tag) => tag.trim());
    const body = { name: name.trim() || null, tags: split.filter(Boolean), notes: notes.trim() || null };
    await change("PATCH", `/v1/jobs/${job.id}`, body);
    saved();
  };
  const typed = (/** @type {(value: string) => void} */ set) => (/** @type {any} */ event) => set(event.target.value);
  return html`<${Dialog} title="Name, tags and notes" action="Save" dismiss="Cancel" act=${save} close=${close}>
    <label class="field">Name <input value=${name} maxlength="200" onInput=${typed(setName)} /></label>
    <label class="field">Tags, separated by commas <input value=${tags} onInput=${typed(setTags)} /></label>
    <label class="field">Notes <textarea rows="5" maxlength="4000" onInput=${typed(setNotes)} value=${notes} /></label>
  <//>`;
}
