// Objects of the bucket that the console reads itself, by their links. The bucket must allow the console's origin.

/**
 * Returns the text of an object.
 * @param {string} url
 * @param {AbortSignal} abort
 */
export async function storedText(url, abort) {
  const response = await fetch(url, { signal: abort });
  if (!response.ok) throw new Error(`the storage's response was HTTP ${response.status}`);
  return response.text();
}
