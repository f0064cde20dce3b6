import { html } from "../html.js";
import { Link } from "../router.js";

/** A job's tags; each leads to the jobs that have it. */
export function Tags(/** @type {{ tags: string[] | undefined }} */ { tags }) {
  if (!tags?.length) return null;
  return html`<ul class="tags" aria-label="Tags">
    ${tags.map((tag) => html`<li key=${tag}><${Link} href=${`/?tag=${encodeURIComponent(tag)}`}>${tag}<//></li>`)}
  </ul>`;
}
