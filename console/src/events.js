import { get } from "./api.js";

const PAGE = 500;

/**
 * Returns the events of a job after an event's id, and the link of the archive that they were moved to, if they were.
 * @param {string} id
 * @param {number} after
 * @param {AbortSignal} abort
 * @returns {Promise<{ added: any[], archive?: string }>}
 */
export async function eventsAfter(id, after, abort) {
  /** @type {any[]} */
  const added = [];
  for (let position = after; ; ) {
    const page = await get(`/v1/jobs/${id}/events?after=${position}&limit=${PAGE}`, abort);
    added.push(...page.events);
    if (page.next_after === null) return { added, archive: page.archive?.url };
    position = page.next_after;
  }
}
