// Checks of a dataset in the browser, before gigabytes are uploaded. The trainer checks all of it.

export const ENDINGS = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"];
const USE = "use a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz with images in it";
const IMAGE = /\.(avif|bmp|dib|gif|heic|heif|j2k|jfif|jp2|jpe|jpeg|jpg|mpo|pbm|pfm|pgm|png|pnm|ppm|tif|tiff|webp)$/i;
/** The first bytes of compressed tars, by the end of their name. */
/** @type {[RegExp, number[], string][]} */
const COMPRESSED = [
  [/gz$/i, [0x1f, 0x8b], "gzip"],
  [/bz2$/i, [0x42, 0x5a, 0x68], "bzip2"],
  [/xz$/i, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0], "xz"],
];
/** The end of a zip: signature, size without its comment, longest comment. */
const [END, END_BYTES, COMMENT_BYTES] = [0x06054b50, 22, 65_535];
const [ENTRY, ENTRY_BYTES] = [0x02014b50, 46];
/** How much of a zip's directory is read: 16 MiB are about 150,000 names. */
const DIRECTORY_BYTES = 16 * 1024 * 1024;
/** How many files of a folder are inspected. */
const FOLDER_FILES = 2_000;

/**
 * Returns the name of a dataset for a file: its own, without the ending.
 * @param {string} fileName
 */
export function datasetName(fileName) {
  return fileName.slice(0, fileName.length - endingOf(fileName).length).replace(/^[.\s-]+|[.\s]+$/g, "");
}

/** @param {string} fileName */
function endingOf(fileName) {
  const name = fileName.toLowerCase();
  return ENDINGS.find((ending) => name.endsWith(ending)) ?? "";
}

/**
 * Returns why a file can never be a dataset, and what to use; empty if it may be one.
 * @param {File} file
 */
export async function refusal(file) {
  const ending = endingOf(file.name);
  if (!ending) return `${file.name} is no archive: ${USE}.`;
  if (ending === ".zip") return refusalOfZip(file);
  for (const [name, start, format] of COMPRESSED) {
    if (!name.test(ending)) continue;
    const first = new Uint8Array(await file.slice(0, start.length).arrayBuffer());
    if (start.some((byte, index) => first[index] !== byte)) {
      return `${file.name} is not compressed with ${format}, as its name says: ${USE}.`;
    }
  }
  return "";
}

/** @param {File} file */
async function refusalOfZip(file) {
  const tail = await view(file, Math.max(0, file.size - END_BYTES - COMMENT_BYTES), file.size);
  let end = tail.byteLength - END_BYTES;
  while (end >= 0 && tail.getUint32(end, true) !== END) end--;
  if (end < 0) return `${file.name} is no complete zip: make it again, or ${USE}.`;
  const [size, start] = [tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
  if (start === 0xffffffff || start + size > file.size) return ""; // of more than 4 GiB: the trainer looks
  const { names, isEncrypted, isComplete } = entries(await view(file, start, start + Math.min(size, DIRECTORY_BYTES)));
  if (isEncrypted) return `${file.name} has a password: make the zip without one.`;
  return isComplete && size <= DIRECTORY_BYTES ? withoutImages(file.name, names) : "";
}

/**
 * Returns the message for files without an image; empty if there is one.
 * @param {string} name
 * @param {string[]} files
 */
export function withoutImages(name, files) {
  const shown = files.filter((file) => !file.endsWith("/") && !/(^|\/)(__MACOSX\/|\.)/.test(file));
  if (shown.some((file) => IMAGE.test(file))) return "";
  const kinds = new Set(shown.map((file) => /\.[^./]+$/.exec(file)?.[0] ?? "no ending"));
  const others = kinds.size ? ` (but files with ${[...kinds].slice(0, 3).join(", ")})` : "";
  return `There are no images in ${name}${others}: ${USE}.`;
}

/**
 * Returns why a dropped folder is not accepted: it must be packed, if it contains images.
 * @param {any} folder  a FileSystemDirectoryEntry
 */
export async function refusalOfFolder(folder) {
  const files = await filesIn(folder);
  const isWhole = files.length < FOLDER_FILES;
  const why = isWhole ? withoutImages(`the folder ${folder.name}`, files) : "";
  return why || `${folder.name} is a folder: drop it as a zip, or use: stoker train ${JSON.stringify(folder.name)}`;
}

/** @param {any} folder */
async function filesIn(folder) {
  const files = /** @type {string[]} */ ([]);
  const folders = [folder];
  while (folders.length && files.length < FOLDER_FILES) {
    const reader = folders.pop().createReader();
    for (;;) {
      /** @type {any[]} */
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) break;
      for (const entry of some) {
        if (entry.isDirectory) folders.push(entry);
        else files.push(entry.name);
      }
    }
  }
  return files;
}

/** @param {DataView} directory */
function entries(directory) {
  const decoder = new TextDecoder();
  const names = [];
  let isEncrypted = false;
  let at = 0;
  while (at + ENTRY_BYTES <= directory.byteLength && directory.getUint32(at, true) === ENTRY) {
    const [name, extra, comment] = [28, 30, 32].map((offset) => directory.getUint16(at + offset, true));
    const length = Math.min(name ?? 0, directory.byteLength - at - ENTRY_BYTES);
    names.push(decoder.decode(new Uint8Array(directory.buffer, directory.byteOffset + at + ENTRY_BYTES, length)));
    isEncrypted ||= (directory.getUint16(at + 8, true) & 1) === 1;
    at += ENTRY_BYTES + (name ?? 0) + (extra ?? 0) + (comment ?? 0);
  }
  return { names, isEncrypted, isComplete: at >= directory.byteLength };
}

/**
 * @param {File} file
 * @param {number} start
 * @param {number} end
 */
async function view(file, start, end) {
  return new DataView(await file.slice(start, end).arrayBuffer());
}
