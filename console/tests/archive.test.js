import assert from "node:assert/strict";
import { test } from "node:test";
import { deflateRawSync, gzipSync } from "node:zlib";
import { datasetName, refusal, refusalOfFolder } from "../src/archive.js";

/**
 * Returns a zip with these files.
 * @param {string[]} names
 * @param {{ flags?: number, comment?: string }} [options]
 */
function zip(names, { flags = 0, comment = "" } = {}) {
  const content = deflateRawSync("content");
  const locals = [];
  const directory = [];
  let start = 0;
  for (const name of names) {
    const bytes = Buffer.from(name);
    const local = Buffer.alloc(30);
    local.writeUInt32LE(0x04034b50, 0);
    local.writeUInt16LE(bytes.length, 26);
    locals.push(local, bytes, content);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt16LE(flags, 8);
    entry.writeUInt16LE(bytes.length, 28);
    entry.writeUInt32LE(start, 42);
    directory.push(entry, bytes);
    start += 30 + bytes.length + content.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt32LE(Buffer.concat(directory).length, 12);
  end.writeUInt32LE(start, 16);
  end.writeUInt16LE(comment.length, 20);
  return Buffer.concat([...locals, ...directory, end, Buffer.from(comment)]);
}

/**
 * @param {string} name
 * @param {Buffer} content
 */
function why(name, content) {
  return refusal(new File([new Uint8Array(content)], name));
}

test("archives with images are taken", async () => {
  assert.equal(await why("cats.zip", zip(["cats/1.JPG"])), "");
  assert.equal(await why("CATS.ZIP", zip(["a.txt", "cats/größe.webp"], { comment: "made by hand" })), "");
  assert.equal(await why("cats.tar.gz", gzipSync("a tar")), "");
  assert.equal(await why("cats.tgz", gzipSync("a tar")), "");
  assert.equal(await why("cats.tar", Buffer.from("a tar")), "");
});

test("what is no archive is refused with what is accepted", async () => {
  for (const name of ["Report.docx", "cat.jpg", "cats.rar", "cats.tar.zst", "cats"]) {
    assert.match(await why(name, zip(["word/document.xml"])), /is no archive: use a \.zip, .*\.tar\.gz/);
  }
});

test("a zip without images is refused with what is in it", async () => {
  const files = ["word/document.xml", "notes.txt", "__MACOSX/a.jpg", "folder.jpg/"];
  assert.match(await why("notes.zip", zip(files)), /no images in notes\.zip \(but files with \.xml, \.txt\)/);
  assert.match(await why("empty.zip", zip([])), /no images in empty\.zip: use/);
});

test("a broken archive is refused", async () => {
  assert.match(await why("cats.zip", zip(["a.jpg"]).subarray(0, 60)), /no complete zip/);
  assert.match(await why("cats.zip", Buffer.from("<html>")), /no complete zip/);
  assert.match(await why("cats.tar.gz", zip(["a.jpg"])), /is not compressed with gzip/);
  assert.match(await why("cats.zip", zip(["a.jpg"], { flags: 1 })), /has a password/);
});

test("a folder is refused with what to do, by what is in it", async () => {
  const folder = (/** @type {string} */ name, /** @type {any[]} */ entries) => ({
    name,
    isDirectory: true,
    createReader: () => {
      const parts = [entries, []];
      return { readEntries: (/** @type {(some: any[]) => void} */ done) => done(parts.shift() ?? []) };
    },
  });
  const file = (/** @type {string} */ name) => ({ name, isDirectory: false });
  assert.match(
    await refusalOfFolder(folder("cats", [folder("a", [file("1.jpg")])])),
    /drop it as a zip.*stoker train "cats"/,
  );
  assert.match(
    await refusalOfFolder(folder("letters", [file("a.docx")])),
    /no images in the folder letters \(but files with \.docx\)/,
  );
});

test("a dataset is called as its file, without the ending", () => {
  assert.deepEqual(["cats (1).zip", "a.tar.gz", ".hidden.zip", "v1.2.ZIP"].map(datasetName), [
    "cats (1)",
    "a",
    "hidden",
    "v1.2",
  ]);
});
