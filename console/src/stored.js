// Objects of the bucket that the console reads itself, by their links. The bucket must allow the console's origin.

import { useEffect, useState } from "preact/hooks";

const FORBIDDEN = 403;

/** The link of an object has expired. */
export class ExpiredLink extends Error {}

/**
 * Returns the text of an object.
 * @param {string} url
 * @param {AbortSignal} abort
 * @throws {ExpiredLink} a new link is needed
 */
export async function storedText(url, abort) {
  const response = await fetch(url, { signal: abort });
  if (response.status === FORBIDDEN) throw new ExpiredLink("the link has expired");
  if (!response.ok) throw new Error(`the storage's response was HTTP ${response.status}`);
  return response.text();
}

/**
 * Loads the text of an object of a job: null until it is there, and where the bucket does not allow it. While another
 * object is loaded, the text of the last one stays.
 * @param {{ key: string, size_bytes: number, url: string } | undefined} artifact
 * @param {() => void} renew  asks for new links
 * @returns {string | null}
 */
export function useStored(artifact, renew) {
  const [text, setText] = useState(/** @type {string | null} */ (null));
  const [known] = useState(/** @type {Map<string, string>} */ (new Map()));
  const version = artifact ? `${artifact.key} ${artifact.size_bytes}` : "";
  useEffect(() => {
    if (!artifact) return;
    const last = known.get(version);
    if (last !== undefined) {
      setText(last);
      return;
    }
    const abort = new AbortController();
    storedText(artifact.url, abort.signal)
      .then((loaded) => {
        known.set(version, loaded);
        setText(loaded);
      })
      .catch((error) => {
        if (error instanceof ExpiredLink) renew();
      });
    return () => abort.abort();
  }, [artifact]); // another object, or the same one with a new link, which may be equal to the refused one
  return text;
}
