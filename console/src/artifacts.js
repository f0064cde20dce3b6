// A job's stored files, the most important first: weights and results, then the rest by
// name, then folders as one line each.

/** @typedef {import("./pages/artifacts.js").Artifact} Artifact */
/** @typedef {{ name: string, artifact: Artifact }} File */
/** @typedef {{ title: string, files: File[], size_bytes: number }} Folder */

export const IMAGE = /\.(png|jpe?g|webp|gif)$/i;
const FIRST = ["best.pt", "last.pt", "model.onnx", "report.html", "metrics.csv", "predictions.jsonl"];

/**
 * Returns a key without the part that all keys of the job have: `results/report.html`.
 * @param {string} key
 * @param {string} id
 */
export function shortKey(key, id) {
  return key.replace(`/job-${id}/`, "/");
}

/**
 * Returns a job's files, and its folders; the images beside the other files, which are plots, are a folder, too.
 * @param {Artifact[]} artifacts
 * @param {string} id
 * @returns {{ files: File[], folders: Folder[] }}
 */
export function grouped(artifacts, id) {
  /** @type {Map<string, File[]>} */
  const groups = new Map();
  for (const artifact of artifacts) {
    const name = shortKey(artifact.key, id);
    const title = folderOf(name);
    groups.set(title, [...(groups.get(title) ?? []), { name, artifact }]);
  }
  const isLine = (/** @type {[string, File[]]} */ [title, files]) => title !== "" && files.length > 1;
  const all = [...groups];
  return {
    files: all
      .filter((group) => !isLine(group))
      .flatMap(([, files]) => files)
      .sort((a, b) => rank(a.name) - rank(b.name) || a.name.localeCompare(b.name, "en", { numeric: true })),
    folders: all
      .filter(isLine)
      .map(([title, files]) => ({
        title,
        files,
        size_bytes: files.reduce((sum, { artifact }) => sum + artifact.size_bytes, 0),
      }))
      .sort((a, b) => a.title.localeCompare(b.title, "en")),
  };
}

/**
 * Returns what the folder of a file is called; empty for a file that has a line of its own.
 * @param {string} name  such as results/samples/images/000.jpg
 */
function folderOf(name) {
  const [area, ...rest] = name.split("/");
  if (rest.length > 1) return `${[area, ...rest.slice(0, -1)].join("/")}/`;
  return IMAGE.test(name) ? `${area}/ (images)` : "";
}

/** @param {string} name */
function rank(name) {
  const place = FIRST.indexOf(name.slice(name.lastIndexOf("/") + 1));
  return place < 0 ? FIRST.length : place;
}
