// Bundles the console into `built/`, which the function `console` serves. The names of all files but index.html contain
// a hash of their content, so that browsers may keep them for ever.

import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const target = pathToFileURL(`${resolve(process.argv[2] ?? "built")}/`);
const assets = new URL("assets/", target);

const { metafile, outputFiles } = await build({
  absWorkingDir: import.meta.dirname,
  entryPoints: ["src/main.js", "src/style.css"],
  outdir: fileURLToPath(assets),
  entryNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome120", "firefox121", "safari17.4"],
  legalComments: "none",
  metafile: true,
  write: false,
});
// Only now: a build that fails leaves the last one as it is.
await rm(target, { recursive: true, force: true });
await mkdir(assets, { recursive: true });
for (const { path, contents } of outputFiles) await writeFile(path, contents);

/** @param {string} entryPoint */
function output(entryPoint) {
  const found = Object.entries(metafile.outputs).find(([, { entryPoint: own }]) => own === entryPoint);
  if (!found) throw new Error(`esbuild has written nothing for ${entryPoint}`);
  return `/assets/${basename(found[0])}`;
}

const source = new URL("src/", import.meta.url);
const icon = await readFile(new URL("icon.svg", source));
const iconName = `icon-${createHash("sha256").update(icon).digest("hex").slice(0, 8)}.svg`;
await copyFile(new URL("icon.svg", source), new URL(iconName, assets));

const page = await readFile(new URL("index.html", source), "utf8");
await writeFile(
  new URL("index.html", target),
  page
    .replace("/main.js", output("src/main.js"))
    .replace("/style.css", output("src/style.css"))
    .replace("/icon.svg", `/assets/${iconName}`),
);
