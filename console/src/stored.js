// Objects of the bucket that the console reads itself, by their links. The bucket must allow the console's origin.

/**
 * Returns the text of an object from a position on.
 * @param {string} url
 * @param {number} from
 * @param {AbortSignal} abort
 */
export async function storedText(url, from, abort) {
  // The form "bytes=from-" needs no preflight.
  const response = await fetch(url, { signal: abort, headers: from ? { Range: `bytes=${from}-` } : undefined });
  if (!response.ok) throw new Error(`the storage's response was HTTP ${response.status}`);
  return response.text();
}
