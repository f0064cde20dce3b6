import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { change, get } from "../api.js";
import { setting } from "../format.js";
import { html } from "../html.js";
import {
  bodyOf,
  changesOf,
  cloneCommand,
  curlCommand,
  frameworkOf,
  nearestModel,
  stokerCommand,
  typedOf,
} from "../newjob.js";
import { DropZone } from "../parts/dropzone.js";
import { Link, open, query } from "../router.js";
import { allows, isSignedIn } from "../session.js";

/** @typedef {import("../newjob.js").Option} Option */
/** @typedef {import("../newjob.js").Setting} Setting */
/** @typedef {{ framework: string, models: string[], tasks: string[], fields: Option[], options: Option[] | null }} Framework */

/** A job's own field that no trainer declares. */
/** @type {Option} */
const GPUS = { name: "gpus", type: "integer", default: 0, description: "Number of GPUs to request from the cluster." };
/** The fields of jobs for trainers that declare nothing. */
/** @type {Option[]} */
const UNDECLARED = [
  { name: "epochs", type: "integer" },
  { name: "batch_size", type: "integer" },
  { name: "image_size", type: "integer" },
  { name: "learning_rate", type: "number" },
  { name: "seed", type: "integer" },
  { name: "workers", type: "integer" },
  { name: "device", type: "string" },
];
const EMPTY = { dataset: "", framework: "", model: "", name: "", fields: [], hyperparameters: [] };

/** A form for a new job; `from` names a job whose settings it starts with. */
export function NewJob() {
  const [frameworks, setFrameworks] = useState(/** @type {Framework[] | null} */ (null));
  const [datasets, setDatasets] = useState(/** @type {string[]} */ ([]));
  const [typed, setTyped] = useState(/** @type {Parameters<typeof bodyOf>[0]} */ (EMPTY));
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  const [original, setOriginal] = useState(/** @type {import("../jobs.js").Job | null} */ (null));
  const from = query.value.get("from");

  const loaded = useRef(/** @type {string | null | undefined} */ (undefined));
  useEffect(() => {
    document.title = "New job · Stoker";
    if (!isSignedIn.value || loaded.current === from) return; // typed values stay after another sign-in
    load(from, query.value.get("dataset") ?? "").then((content) => {
      loaded.current = from;
      setFrameworks(content.frameworks);
      setDatasets(content.datasets);
      setTyped(content.typed);
      setOriginal(content.job);
      setError("");
    }, fail);
  }, [from, isSignedIn.value]);

  // The framework that has read this dataset before; the user's own choice stays.
  const triedDataset = useRef("");
  useEffect(() => {
    const { dataset, framework } = typed;
    if (framework || triedDataset.current === dataset || !datasets.includes(dataset)) return;
    triedDataset.current = dataset;
    lastFramework(dataset).then(
      (known) =>
        setTyped((last) => (last.framework || last.dataset !== dataset ? last : { ...last, framework: known })),
      () => {}, // it can be chosen
    );
  }, [typed.dataset, datasets]);

  function fail(/** @type {Error} */ reason) {
    setError(reason.message);
  }
  const set = (/** @type {Partial<typeof typed>} */ changes) => setTyped((last) => ({ ...last, ...changes }));
  const setModel = (/** @type {string} */ model) =>
    set({ model, framework: typed.framework || frameworkOf(model, frameworks ?? []) });
  const declared = frameworks?.find(({ framework }) => framework === typed.framework);
  const fields = [...fieldsOf(declared), GPUS];
  const options = (declared?.options ?? []).filter(({ tasks }) => !tasks?.length || tasks.includes("train"));
  const { body, mistake } = useMemo(() => attempt(typed, fields, options), [typed, declared]);
  const changes = body && original ? changesOf(body, original, fields) : null;

  async function submit(/** @type {Event} */ event) {
    event.preventDefault();
    setBusy(true);
    setError("");
    try {
      const job = await (original
        ? change("POST", `/v1/jobs/${original.id}/clone`, changes)
        : change("POST", "/v1/jobs", body));
      open(`/jobs/${job.id}`);
    } catch (reason) {
      fail(/** @type {Error} */ (reason));
      setBusy(false);
    }
  }

  if (!frameworks)
    return error ? html`<p class="banner failed" role="alert">${error}</p>` : html`<p class="empty">Loading …</p>`;
  return html`<div class="heading">
      <div>
        <p class="crumbs"><${Link} href="/">Jobs<//> / New job</p>
        <h1>New job</h1>
        ${from && html`<p class="hint">With the settings of <${Link} href=${`/jobs/${from}`}>${from}<//>.</p>`}
      </div>
    </div>
    <div class="columns form">
      <form onSubmit=${submit}>
        <fieldset>
          <legend>Dataset</legend>
          <label class="field">Name of a dataset in the bucket
            <input required list="datasets" value=${typed.dataset} onInput=${entered((dataset) => set({ dataset }))} />
          </label>
          <datalist id="datasets">${datasets.map((name) => html`<option key=${name} value=${name} />`)}</datalist>
          ${allows("datasets:write") && html`<${DropZone} uploaded=${(/** @type {string} */ dataset) => set({ dataset })} />`}
        </fieldset>
        <fieldset>
          <legend>Model</legend>
          <div class="fields">
            <label class="field">Framework
              <select required onChange=${entered((framework) => set({ framework, model: "", hyperparameters: [] }))}>
                <option value="" selected=${!typed.framework}>Choose one</option>
                ${frameworks.map(({ framework }) => html`<option key=${framework} value=${framework} selected=${framework === typed.framework}>${framework}</option>`)}
              </select>
            </label>
            <label class="field">Model
              <input required list="models" value=${typed.model} onInput=${entered(setModel)} />
            </label>
            <${Nearest} model=${typed.model} models=${declared?.models ?? []} take=${(/** @type {string} */ model) => set({ model })} />
          </div>
          <datalist id="models">${(declared ? [declared] : frameworks).flatMap(namesOf).map((name) => html`<option key=${name} value=${name} />`)}</datalist>
        </fieldset>
        <fieldset>
          <legend>Settings</legend>
          <p class="hint">Everything that is left empty takes the trainer's default.</p>
          <div class="fields">
            <label class="field">name
              <input maxlength="200" value=${typed.name} onInput=${entered((name) => set({ name }))} />
              <span class="hint">What the job is called in lists.</span>
            </label>
            ${fields.map((field) => html`<${Field} key=${field.name} field=${field} settings=${typed.fields} change=${(/** @type {Setting[]} */ next) => set({ fields: next })} />`)}
          </div>
          <${Hyperparameters} options=${options} settings=${typed.hyperparameters} change=${(/** @type {Setting[]} */ next) => set({ hyperparameters: next })} />
        </fieldset>
        ${(mistake || error) && html`<p class="error" role="alert">${mistake || error}</p>`}
        <button type="submit" class="primary" disabled=${isBusy || Boolean(mistake)}>Start the job</button>
      </form>
      ${body && html`<${Commands} body=${body} original=${original} changes=${changes} />`}
    </div>`;
}

/**
 * @param {string | null} from
 * @param {string} dataset
 */
async function load(from, dataset) {
  const [declared, listed, job] = await Promise.all([
    get("/v1/frameworks"),
    get("/v1/datasets?limit=500"),
    from ? get(`/v1/jobs/${encodeURIComponent(from)}`) : null,
  ]);
  /** @type {Framework[]} */
  const frameworks = declared.frameworks;
  const fields = fieldsOf(frameworks.find(({ framework }) => framework === job?.framework));
  const [only] = frameworks.length === 1 ? frameworks : [];
  const typed = job ? typedOf(job, fields) : { ...EMPTY, dataset, framework: only?.framework ?? "" };
  return { job, frameworks, datasets: listed.datasets.map((/** @type {any} */ one) => one.name), typed };
}

/**
 * Returns the framework of the newest job that succeeded on a dataset; empty if there is none.
 * @param {string} dataset
 * @returns {Promise<string>}
 */
async function lastFramework(dataset) {
  const { jobs } = await get(
    `/v1/jobs?${new URLSearchParams({ dataset_id: dataset, state: "SUCCEEDED", limit: "1" })}`,
  );
  return jobs[0]?.framework ?? "";
}

/** @param {Framework | undefined} declared */
function fieldsOf(declared) {
  return declared?.fields.length ? declared.fields : UNDECLARED;
}

/** @param {(value: string) => void} set */
function entered(set) {
  return (/** @type {any} */ event) => set(event.target.value);
}

/** @param {{ model: string, models: string[], take: (model: string) => void }} props */
function Nearest({ model, models, take }) {
  const nearest = nearestModel(model, models);
  return html`<p class="hint" role="status">
    ${nearest && html`Did you mean <button type="button" class="plain" onClick=${() => take(nearest)}>${nearest}</button>?`}
  </p>`;
}

/** @param {Framework} declared */
function namesOf({ models }) {
  return models.filter((name) => !/[*?[]/.test(name));
}

/**
 * @param {Parameters<typeof bodyOf>[0]} typed
 * @param {Option[]} fields
 * @param {Option[]} options
 */
function attempt(typed, fields, options) {
  try {
    return { body: bodyOf(typed, fields, options), mistake: "" };
  } catch (reason) {
    return { body: undefined, mistake: /** @type {Error} */ (reason).message };
  }
}

/** @param {{ field: Option, settings: Setting[], change: (settings: Setting[]) => void }} props */
function Field({ field, settings, change: set }) {
  const text = settings.find(({ name }) => name === field.name)?.text ?? "";
  const others = settings.filter(({ name }) => name !== field.name);
  const hint = field.default === null || field.default === undefined ? "" : setting(field.default);
  return html`<label class="field">${field.name}
    <${Value} option=${field} text=${text} hint=${hint} enter=${(/** @type {string} */ next) => set([...others, { name: field.name, text: next }])} />
    ${field.description && html`<span class="hint">${field.description}</span>`}
  </label>`;
}

/** @param {{ option: Option | undefined, text: string, hint: string, enter: (text: string) => void }} props */
function Value({ option, text, hint, enter }) {
  const choices = option?.choices ?? (option?.type === "boolean" ? ["true", "false"] : null);
  if (!choices) return html`<input value=${text} placeholder=${hint} onInput=${entered(enter)} />`;
  return html`<select onChange=${entered(enter)}>
    <option value="">${hint ? `default: ${hint}` : "default"}</option>
    ${choices.map((choice) => html`<option key=${choice} value=${choice} selected=${String(choice) === text}>${choice}</option>`)}
  </select>`;
}

/** @param {{ options: Option[], settings: Setting[], change: (settings: Setting[]) => void }} props */
function Hyperparameters({ options, settings, change: set }) {
  const replace = (/** @type {number} */ place, /** @type {Partial<Setting>} */ changes) =>
    set(settings.map((one, index) => (index === place ? { ...one, ...changes } : one)));
  return html`<div class="hyperparameters">
    <datalist id="options">${options.map(({ name, description }) => html`<option key=${name} value=${name}>${description}</option>`)}</datalist>
    ${settings.map((one, place) => {
      const option = options.find(({ name }) => name === one.name);
      return html`<div class="pair" key=${place}>
        <label class="field">Hyperparameter
          <input list="options" value=${one.name} onInput=${entered((name) => replace(place, { name }))} />
          ${option?.description && html`<span class="hint">${option.description}</span>`}
        </label>
        <label class="field">Value
          <${Value} option=${option} text=${one.text} hint=${setting(option?.default)} enter=${(/** @type {string} */ text) => replace(place, { text })} />
        </label>
        <button type="button" class="plain" onClick=${() => set(settings.filter((_, index) => index !== place))}>Remove<span class="hidden"> ${one.name}</span></button>
      </div>`;
    })}
    <button type="button" onClick=${() => set([...settings, { name: "", text: "" }])}>Add a hyperparameter</button>
  </div>`;
}

/**
 * The same request as commands.
 * @param {{
 *   body: import("../newjob.js").Body, original: import("../jobs.js").Job | null,
 *   changes: import("../newjob.js").Body | null
 * }} props
 */
function Commands({ body, original, changes }) {
  const { dataset_id, framework, model_name } = body;
  if (!dataset_id || !framework || !model_name)
    return html`<section aria-label="The same as a command">
      <h2>The same as a command</h2>
      <p class="hint">Choose a dataset and a model to see the command that starts the same job.</p>
    </section>`;
  const isClone = original && changes;
  const command = isClone ? cloneCommand(original.id, changes) : stokerCommand(body);
  const curl = isClone
    ? curlCommand(changes, location.origin, `/v1/jobs/${original.id}/clone`)
    : curlCommand(body, location.origin);
  return html`<section aria-label="The same as a command">
    <h2>The same as a command</h2>
    <pre class="command" tabindex="0">${command}</pre>
    <pre class="command" tabindex="0">${curl}</pre>
  </section>`;
}
