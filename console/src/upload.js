// Uploads of datasets from the browser straight into the bucket, by links of the function `datasets`.

import { ApiError, change, get } from "./api.js";

const TRIES = 4;
const WAIT_MILLISECONDS = 2000;
/** Links are renewed this long before they expire. */
const SPARE_MILLISECONDS = 10 * 60 * 1000;

/**
 * Uploads a file as a dataset, without making a job of it.
 * @param {string} name
 * @param {File} file
 * @param {(bytes: number) => void} progress
 * @param {AbortSignal} abort
 */
export async function upload(name, file, progress, abort) {
  const path = `/v1/datasets/${encodeURIComponent(name)}/uploads`;
  const links = await change("POST", path, { bytes: file.size, metadata: { job: "none" } });
  // A slice has no type, and so no header that the link was not made for.
  if (!links.upload_id) return put(links.urls[0], file.slice(), links.headers, progress, abort);
  try {
    await putParts(`${path}/${links.upload_id}`, links, file, progress, abort);
  } catch (error) {
    if (abort.aborted) await fetch(links.abort_url, { method: "DELETE" });
    throw error;
  }
}

/**
 * @param {string} path
 * @param {any} links
 * @param {File} file
 * @param {(bytes: number) => void} progress
 * @param {AbortSignal} abort
 */
async function putParts(path, links, file, progress, abort) {
  let { urls, expires_at: expiresAt } = links;
  for (let index = 0; index < urls.length; index++) {
    if (Date.parse(expiresAt) - Date.now() < SPARE_MILLISECONDS) {
      ({ urls, expires_at: expiresAt } = await get(path, abort));
    }
    const start = index * links.part_bytes;
    const part = file.slice(start, start + links.part_bytes);
    await put(urls[index], part, {}, (bytes) => progress(start + bytes), abort);
  }
  const { parts, complete_url } = await get(path, abort);
  const list = parts.map((/** @type {any} */ { number, etag }) => partXml(number, etag)).join("");
  const response = await fetch(complete_url, {
    method: "POST",
    body: `<CompleteMultipartUpload>${list}</CompleteMultipartUpload>`,
    signal: abort,
  });
  // S3 may report an error in a response that began as a success.
  if (!response.ok || (await response.text()).includes("<Error>")) {
    throw new ApiError("the storage could not put the parts together; upload the file again", response.status);
  }
}

/**
 * @param {number} number
 * @param {string} etag
 */
function partXml(number, etag) {
  return `<Part><PartNumber>${number}</PartNumber><ETag>"${etag}"</ETag></Part>`;
}

/**
 * Sends bytes to a link; tries again after an interruption.
 * @param {string} url
 * @param {Blob} bytes
 * @param {Record<string, string>} headers
 * @param {(bytes: number) => void} progress
 * @param {AbortSignal} abort
 */
async function put(url, bytes, headers, progress, abort) {
  for (let tries = 1; ; tries++) {
    const status = await putOnce(url, bytes, headers, progress, abort);
    abort.throwIfAborted();
    if (status >= 200 && status < 300) return;
    const isTemporary = status === 0 || status >= 500;
    if (!isTemporary || tries === TRIES) throw new ApiError(refusal(status), status);
    await new Promise((resolve) => setTimeout(resolve, WAIT_MILLISECONDS * tries));
  }
}

/** @param {number} status */
function refusal(status) {
  return status
    ? `the storage refused the upload (HTTP ${status})`
    : "the storage does not answer, or does not allow uploads from this page (CORS); see docs/OPERATIONS.md";
}

/**
 * Returns the status of the response; 0 if there is none. Only XMLHttpRequest tells how much has been sent.
 * @param {string} url
 * @param {Blob} bytes
 * @param {Record<string, string>} headers
 * @param {(bytes: number) => void} progress
 * @param {AbortSignal} abort
 * @returns {Promise<number>}
 */
function putOnce(url, bytes, headers, progress, abort) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.upload.onprogress = (event) => progress(event.loaded);
    request.onloadend = () => {
      abort.removeEventListener("abort", stop);
      resolve(request.status);
    };
    abort.addEventListener("abort", stop);
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.send(bytes);
  });
}
