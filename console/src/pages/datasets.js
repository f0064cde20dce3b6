import { useEffect, useState } from "preact/hooks";
import { ago, bytes, dateTime, plural } from "../format.js";
import { html } from "../html.js";
import { DropZone } from "../parts/dropzone.js";
import { Live, useLive } from "../parts/live.js";
import { now } from "../parts/now.js";
import { TableBox } from "../parts/tablebox.js";
import { Link, query, urlWith } from "../router.js";
import { allows } from "../session.js";

const PAGE = 100;

/** The datasets in the bucket. */
export function Datasets() {
  const [turn, setTurn] = useState(0);
  const after = query.value.get("after") ?? "";
  const {
    data: page,
    error,
    isOld,
  } = useLive(`/v1/datasets?${new URLSearchParams({ limit: String(PAGE), ...(after ? { after } : {}) })}`, [turn]);
  useEffect(() => {
    document.title = "Datasets · Stoker";
  }, []);

  return html`<div class="heading"><h1>Datasets</h1></div>
    ${allows("datasets:write") && html`<${DropZone} uploaded=${() => setTurn(turn + 1)} />`}
    <${Live} data=${page} error=${error} isOld=${isOld} isEmpty=${page?.datasets.length === 0}
      empty=${html`<p class="empty">There are no datasets in the bucket yet. ${allows("datasets:write") ? html`Drop an archive with images above, or use <code>stoker upload</code>.` : html`To upload one needs a token with the scope <code>datasets:write</code>.`}</p>`}>
      <${Table} datasets=${page?.datasets ?? []} />
    <//>
    ${
      page?.next_after &&
      html`<nav class="pages" aria-label="Pages"><span></span><${Link} href=${urlWith("/datasets", query.value, { after: page.next_after })}>More<//></nav>`
    }`;
}

/** @param {{ datasets: any[] }} props */
function Table({ datasets }) {
  return html`<${TableBox} label="Datasets">
    <table class="datasets">
      <caption class="hidden">Datasets, by name</caption>
      <thead>
        <tr>
          <th scope="col">Dataset</th>
          <th scope="col" class="right">Size</th>
          <th scope="col" class="right">Uploaded</th>
          <th scope="col" class="right">Jobs</th>
          ${allows("jobs:write") && html`<th scope="col"><span class="hidden">Actions</span></th>`}
        </tr>
      </thead>
      <tbody>
        ${datasets.map(
          (dataset) => html`<tr key=${dataset.key}>
            <th scope="row"><${Link} href=${`/datasets/${encodeURIComponent(dataset.name)}`}>${dataset.name}<//> <span class="sub mono" title="the version: its ETag">${dataset.etag.slice(0, 8)}</span></th>
            <td class="right">${bytes(dataset.bytes)}</td>
            <td class="right"><time datetime=${dataset.modified_at} title=${dateTime(dataset.modified_at)}>${ago(dataset.modified_at, now.value)}</time></td>
            <td class="right">
              ${
                dataset.jobs
                  ? html`<${Link} href=${`/?dataset_id=${encodeURIComponent(dataset.name)}`}>${plural(dataset.jobs, "job")}<//>`
                  : "none"
              }
            </td>
            ${
              allows("jobs:write") &&
              html`<td class="right"><${Link} href=${`/new?dataset=${encodeURIComponent(dataset.name)}`}>New job<span class="hidden"> on ${dataset.name}</span><//></td>`
            }
          </tr>`,
        )}
      </tbody>
    </table>
  <//>`;
}
