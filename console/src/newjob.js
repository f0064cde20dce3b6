// The request for a new job: from what is typed to JSON, and to the equal commands.

/**
 * A field of a job or a hyperparameter, as a trainer declares it.
 * @typedef {{
 *   name: string, type: string | string[], default?: unknown, choices?: (string | number)[] | null, description?: string,
 *   minimum?: number | null, maximum?: number | null, tasks?: string[]
 * }} Option
 */
/** @typedef {{ name: string, text: string }} Setting */
/** @typedef {Record<string, any>} Body */

const KINDS = {
  boolean: "true or false",
  integer: "a whole number",
  number: "a number",
  string: "text",
  array: "a list in JSON, such as [0.7, 1]",
  object: "a JSON object",
};

/**
 * Returns the value that a text means for an option; an undeclared option takes JSON or text.
 * @param {Pick<Option, "name" | "type">} option
 * @param {string} text
 * @returns {unknown}
 * @throws {Error} the text is no value of the option's types
 */
export function parsed(option, text) {
  const types = [option.type].flat();
  const value = jsonOf(text);
  const kind = Array.isArray(value) ? "array" : value === null ? "null" : typeof value;
  const isDeclared = (/** @type {string} */ type) => types.length === 0 || types.includes(type);
  if (kind === "number" && (isDeclared("number") || (Number.isInteger(value) && isDeclared("integer")))) return value;
  if ((kind === "boolean" || kind === "array" || kind === "object") && isDeclared(kind)) return value;
  if (isDeclared("string")) return text.trim();
  const kinds = types.map((type) => KINDS[/** @type {keyof typeof KINDS} */ (type)] ?? type);
  throw new Error(`${option.name}: use ${kinds.join(" or ")}`);
}

/** @param {string} text */
function jsonOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Returns the body of a request: only what is typed, so that the trainer's defaults apply to the rest.
 * @param {{
 *   dataset: string, framework: string, model: string, name: string, fields: Setting[], hyperparameters: Setting[]
 * }} typed
 * @param {Option[]} fields
 * @param {Option[]} options
 * @returns {Body}
 */
export function bodyOf(
  { dataset, framework, model, name, fields: ofJob, hyperparameters: ofTrainer },
  fields,
  options,
) {
  const hyperparameters = valuesOf(ofTrainer, options);
  return {
    framework,
    model_name: model.trim(),
    dataset_id: dataset.trim(),
    ...(name.trim() ? { name: name.trim() } : {}),
    ...valuesOf(ofJob, fields),
    ...(Object.keys(hyperparameters).length ? { hyperparameters } : {}),
  };
}

/**
 * @param {Setting[]} settings
 * @param {Option[]} options
 */
function valuesOf(settings, options) {
  const known = new Map(options.map((option) => [option.name, option]));
  const typed = settings.filter(({ name, text }) => name && text.trim() !== "");
  return Object.fromEntries(typed.map(({ name, text }) => [name, parsed(known.get(name) ?? { name, type: [] }, text)]));
}

/**
 * Returns the changes with which a job is cloned: what is typed and differs from the job, and null for what was taken
 * out of the form. Settings that the form does not show stay as they are, but the dataset's current version is used.
 * @param {Body} body
 * @param {import("./jobs.js").Job} job
 * @param {Option[]} fields
 * @returns {Body}
 */
export function changesOf(body, job, fields) {
  const shown = typedOf(job, fields);
  const { hyperparameters: before = {}, ...spec } = job.spec ?? {};
  const { hyperparameters: after = {}, ...own } = body;
  const { framework, model_name, dataset_id } = job;
  const names = shown.fields.map(({ name }) => name);
  const hyperparameters = differences(before, after, Object.keys(before));
  return {
    ...differences({ ...spec, framework, model_name, dataset_id, name: job.name }, own, [
      ...names,
      "name",
      "dataset_etag",
    ]),
    ...(Object.keys(hyperparameters).length ? { hyperparameters } : {}),
  };
}

/**
 * @param {Record<string, unknown>} before
 * @param {Record<string, unknown>} after
 * @param {string[]} removable
 */
function differences(before, after, removable) {
  const changed = Object.entries(after).filter(
    ([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name]),
  );
  const removed = removable.filter((name) => !(name in after) && (before[name] ?? null) !== null);
  return Object.fromEntries([...changed, ...removed.map((name) => [name, null])]);
}

/**
 * Returns the command that clones a job with changes; null is a setting that is left to its default.
 * @param {string} id
 * @param {Body} changes
 */
export function cloneCommand(id, changes) {
  const { hyperparameters = {}, ...fields } = changes;
  const all = Object.entries({ ...fields, ...hyperparameters });
  const set = settingsOf(Object.fromEntries(all.filter(([, value]) => value !== null)));
  const unset = all.filter(([, value]) => value === null).map(([name]) => `--unset ${quoted(name)}`);
  return [`stoker clone ${id}`, ...set, ...unset].join(" \\\n  ");
}

/** @param {Record<string, unknown>} values */
function settingsOf(values) {
  return Object.entries(values).map(
    ([key, value]) => `--set ${quoted(`${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)}`,
  );
}

/**
 * Returns the command that sends the same request.
 * @param {Body} body
 */
export function stokerCommand(body) {
  const { dataset_id, model_name, framework, name, hyperparameters = {}, ...fields } = body;
  const settings = settingsOf({ ...fields, ...hyperparameters });
  const options = [`--model ${quoted(model_name)}`, `--framework ${quoted(framework)}`];
  if (name) options.push(`--name ${quoted(name)}`);
  return [`stoker submit ${quoted(dataset_id)}`, ...options, ...settings].join(" \\\n  ");
}

/**
 * @param {Body} body
 * @param {string} origin
 * @param {string} [path]
 */
export function curlCommand(body, origin, path = "/v1/jobs") {
  const headers = `-H "Authorization: Bearer $STOKER_TOKEN" -H "Content-Type: application/json"`;
  return `curl -sX POST ${quoted(`${origin}${path}`)} ${headers} \\\n  -d ${quoted(JSON.stringify(body))}`;
}

/**
 * Quotes a word for a POSIX shell.
 * @param {string} word
 */
export function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}

/**
 * Returns what the form shows for a job that is to be trained again: its own settings.
 * @param {import("./jobs.js").Job} job
 * @param {Option[]} fields
 */
export function typedOf(job, fields) {
  const { hyperparameters = {}, ...spec } = job.spec ?? {};
  const text = (/** @type {unknown} */ value) => (typeof value === "string" ? value : JSON.stringify(value));
  const named = new Set([...fields.map((field) => field.name), "gpus"]);
  return {
    dataset: job.dataset_id,
    framework: job.framework,
    model: job.model_name,
    name: job.name ?? "",
    fields: Object.entries(spec)
      .filter(([name]) => named.has(name))
      .map(([name, value]) => ({ name, text: text(value) })),
    hyperparameters: Object.entries(hyperparameters).map(([name, value]) => ({ name, text: text(value) })),
  };
}

/**
 * Returns whether one of a trainer's names, or of its patterns of names, is a model's.
 * @param {string} model
 * @param {string[]} models
 */
export function isModel(model, models) {
  return models.some((name) => (/[*?[]/.test(name) ? pattern(name).test(model) : name === model));
}

/**
 * Returns the framework that has a model, as the command `stoker` finds it: frameworks that accept any name have lower priority. Empty
 * if none has it, or several.
 * @param {string} model
 * @param {{ framework: string, models: string[] }[]} frameworks
 */
export function frameworkOf(model, frameworks) {
  const matching = frameworks.filter(({ models }) => isModel(model.trim(), models));
  const narrow = matching.filter(({ models }) => !models.includes("*"));
  const [first, ...others] = narrow.length ? narrow : matching;
  return first && !others.length ? first.framework : "";
}

/**
 * Returns the name that is most like a model that the trainer does not have; empty if none is like it.
 * @param {string} model
 * @param {string[]} models
 */
export function nearestModel(model, models) {
  const typed = model.trim().toLowerCase();
  if (!typed || isModel(model.trim(), models)) return "";
  const names = models.filter((name) => !/[*?[]/.test(name));
  const near = names
    .map((name) => ({ name, away: distance(typed, name.toLowerCase()) }))
    .sort((a, b) => a.away - b.away);
  const [best] = near;
  return best && best.away <= Math.max(typed.length, best.name.length) * UNLIKE_SHARE ? best.name : "";
}

/** A name is like another one if at most this share of its characters differs. */
const UNLIKE_SHARE = 0.4;

/** @param {string} glob  a shell pattern */
function pattern(glob) {
  const escaped = glob
    .replace(/[.+^${}()|\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".")
    .replaceAll("[!", "[^");
  return new RegExp(`^${escaped}$`, "s");
}

/**
 * Returns how many characters must be inserted, removed or replaced to make one text of another (Levenshtein).
 * @param {string} a
 * @param {string} b
 */
function distance(a, b) {
  let last = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, replaced));
    }
    last = row;
  }
  return last[b.length] ?? 0;
}
