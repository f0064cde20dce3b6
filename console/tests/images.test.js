import assert from "node:assert/strict";
import { test } from "node:test";
import { isImage, named, zipped } from "../src/images.js";

/** @param {string} name @param {string} [content] */
function file(name, content = "") {
  return new File([content], name);
}

test("images are known by their type or their ending", () => {
  assert.equal(isImage(new File([], "scan", { type: "image/png" })), true);
  assert.equal(isImage(file("scan.TIFF")), true);
  assert.equal(isImage(file("notes.txt")), false);
});

test("two images of one name both stay", () => {
  assert.deepEqual(
    [...named([file("cat.jpg"), file("cat.jpg"), file("cat"), file("cat.jpg")]).keys()],
    ["cat.jpg", "cat (2).jpg", "cat", "cat (3).jpg"],
  );
});

test("the archive has the bytes of each image, under its name in UTF-8", async () => {
  const archive = await zipped(named([file("Käfer.jpg", "abc")]), "images");
  const bytes = Buffer.from(await archive.arrayBuffer());
  assert.equal(archive.name, "images.zip");
  assert.equal(bytes.subarray(0, 4).toString("latin1"), "PK\u0003\u0004");
  assert.ok(bytes.includes(Buffer.from("Käfer.jpg")) && bytes.includes("abc"));
});
