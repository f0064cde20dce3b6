import { get } from "./api.js";

const PAGE = 500;
/** What a timeline shows; heartbeats have metrics only, which come as columns. */
const KINDS = ["state", "event"];

/**
 * Returns the timeline of a job with the entries that are new, and the link of the archive that they were moved to, if
 * they were.
 * @param {string} id
 * @param {any[]} known  the entries so far
 * @param {AbortSignal} abort
 * @returns {Promise<{ events: any[], archive?: string }>}
 */
export async function timelineOf(id, known, abort) {
  const pages = await Promise.all(KINDS.map((kind) => eventsAfter(id, kind, lastOf(known, kind), abort)));
  const added = pages.flatMap((page) => page.added);
  const events = added.length ? [...known, ...added].sort((a, b) => a.id - b.id) : known;
  return { events, archive: pages[0]?.archive };
}

/**
 * @param {any[]} events
 * @param {string} kind
 */
function lastOf(events, kind) {
  return events.findLast((event) => event.kind === kind)?.id ?? 0;
}

/**
 * @param {string} id
 * @param {string} kind
 * @param {number} after
 * @param {AbortSignal} abort
 * @returns {Promise<{ added: any[], archive?: string }>}
 */
async function eventsAfter(id, kind, after, abort) {
  /** @type {any[]} */
  const added = [];
  for (let position = after; ; ) {
    const page = await get(`/v1/jobs/${id}/events?kind=${kind}&after=${position}&limit=${PAGE}`, abort);
    added.push(...page.events);
    if (page.next_after === null) return { added, archive: page.archive?.url };
    position = page.next_after;
  }
}
