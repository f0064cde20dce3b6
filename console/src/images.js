// Images that were chosen in this tab: zipped into a dataset for a prediction, and shown with what is predicted, as
// large as they are. Other tabs have those that the trainer has stored.

import { signal } from "@preact/signals";
import { Zip, ZipPassThrough } from "fflate";

const IMAGE = /\.(jpe?g|png|webp|bmp|gif|tiff?)$/i;

/**
 * Addresses of the images of a prediction's job, by their names in its dataset.
 * @type {import("@preact/signals").Signal<Map<string, Map<string, string>>>}
 */
export const ownImages = signal(new Map());

/** @param {File} file */
export function isImage(file) {
  return file.type.startsWith("image/") || IMAGE.test(file.name);
}

/**
 * Keeps the images of a job, to show them with its predictions.
 * @param {string} jobId
 * @param {Map<string, File>} images
 */
export function keep(jobId, images) {
  const addresses = new Map([...images].map(([name, file]) => [name, URL.createObjectURL(file)]));
  ownImages.value = new Map(ownImages.value).set(jobId, addresses);
}

/**
 * Names images so that each name is unique: `cat.jpg`, `cat (2).jpg`.
 * @param {File[]} files
 * @returns {Map<string, File>}
 */
export function named(files) {
  /** @type {Map<string, File>} */
  const images = new Map();
  for (const file of files) {
    const [, stem = "", ending = ""] = /^(.*?)(\.[^.]*)?$/.exec(file.name) ?? [];
    let name = file.name;
    for (let number = 2; images.has(name); number++) name = `${stem} (${number})${ending}`;
    images.set(name, file);
  }
  return images;
}

/**
 * Returns a zip archive of images, stored as they are: they are compressed already.
 * @param {Map<string, File>} images
 * @param {string} name
 * @returns {Promise<File>}
 */
export async function zipped(images, name) {
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const pieces = [];
  /** @type {Error | null} */
  let failure = null;
  const zip = new Zip((error, piece) => {
    if (error) failure = error;
    else pieces.push(/** @type {Uint8Array<ArrayBuffer>} */ (piece));
  });
  for (const [path, file] of images) {
    const entry = new ZipPassThrough(path);
    zip.add(entry);
    entry.push(new Uint8Array(await file.arrayBuffer()), true);
  }
  zip.end();
  if (failure) throw failure;
  return new File(pieces, `${name}.zip`);
}
