// The meaning of a job's fields, as text.

import { capital, duration, ordinal, roughly, secondsBetween } from "./format.js";
import { isLowerBetter, label, primary } from "./metrics.js";

/** A job as the API shows it. */
/** @typedef {Record<string, any>} Job */

export const STATES = ["PENDING", "QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"];
const FINAL = new Set(["SUCCEEDED", "FAILED", "CANCELLED"]);
/** @type {Record<string, string>} */
const STATE_WORDS = {
  PENDING: "Pending",
  QUEUED: "Queued",
  RUNNING: "Running",
  SUCCEEDED: "Succeeded",
  FAILED: "Failed",
  CANCELLED: "Cancelled",
};

/** Why a job failed, and what to do: [meaning, advice]. */
/** @type {Record<string, [string, string]>} */
const REASONS = {
  dataset_invalid: [
    "The dataset cannot be used",
    "Correct what the message names, upload the dataset again, and train on it.",
  ],
  config_invalid: ["A setting cannot be used", "Change what the message names, and start a new job."],
  trainer_error: ["The trainer failed", "The end of its log says why."],
  launch_rejected: ["The trainer can never start", "Change what the message names, and start a new job."],
  oom_gpu: ["The GPU ran out of memory", "Start a new job with a smaller batch or smaller images."],
  oom_host: [
    "The container ran out of memory",
    "Start a new job with fewer workers or a smaller batch, or raise the trainer's memory limit.",
  ],
  image_pull: [
    "The trainer's image cannot be pulled",
    "Check the image's name and the registry's credentials; then start a new job.",
  ],
  unschedulable: ["No node fits the job", "Request fewer GPUs or another GPU type in a new job."],
  deadline_pending: ["The job waited too long", "Start it again when the cluster has room, or allow a longer wait."],
  deadline_running: ["The job ran longer than allowed", "Start a new job with fewer epochs, or allow a longer run."],
  stalled: ["The job made no progress for too long", "The end of its log says what it did last."],
  storage_error: [
    "The storage was unreachable for too long",
    "It was retried until its limit. Start it again when the storage answers.",
  ],
  evicted: [
    "The cluster evicted the trainer",
    "It was retried until its limit. Start a new job, or allow more attempts.",
  ],
  preempted: [
    "A job of higher priority took its place",
    "It was retried until its limit. Start a new job, or allow more attempts.",
  ],
  node_lost: ["The node was lost", "It was retried until its limit. Start a new job, or allow more attempts."],
  lost: ["The trainer disappeared", "It was retried until its limit. Start a new job, or allow more attempts."],
};

/** Reasons whose names are abbreviations. */
/** @type {Record<string, string>} */
const SHORT_REASONS = { oom_gpu: "GPU out of memory", oom_host: "out of memory" };

/** @param {Job} job */
export function isOpen(job) {
  return !FINAL.has(job.state);
}

/** @param {string} state */
export function stateWord(state) {
  return STATE_WORDS[state] ?? state;
}

/**
 * Returns a note on an unusual state of a job; empty if there is none.
 * @param {Job} job
 */
export function stateDetail(job) {
  if (job.state === "FAILED") return SHORT_REASONS[job.reason] ?? String(job.reason ?? "").replaceAll("_", " ");
  if (job.state !== "RUNNING") return "";
  if (job.liveness === "silent") return "silent";
  return job.liveness === "waiting" ? "waits for a new trainer" : "";
}

/**
 * Returns a failed job's reason in words, and what to do.
 * @param {Job} job
 */
export function failure(job) {
  const [meaning, advice] = REASONS[job.reason] ?? [stateDetail(job), ""];
  return { meaning, advice };
}

/**
 * Returns why a job does not train at the moment; empty if it does, or has ended.
 * @param {Job} job
 */
export function waitingReason(job) {
  if (job.state === "PENDING") return job.message || "The launcher has not accepted it yet.";
  if (job.state === "QUEUED") return job.message || "It waits for a free slot.";
  if (job.state !== "RUNNING") return "";
  if (job.liveness === "waiting")
    return job.message || "Its trainer was disrupted; it goes on when a new one has started.";
  return job.liveness === "silent"
    ? "No heartbeat has arrived for a while. That alone never fails a job: the launcher still runs its trainer."
    : "";
}

/**
 * Returns a waiting job's place in the queue; empty if it is not known.
 * @param {Job} job
 */
export function queuePlace(job) {
  const { queue_position: position, queue_length: length } = job;
  return position ? `${ordinal(position)} of ${length} in the queue` : "";
}

/** @param {Job} job */
export function title(job) {
  return job.name || `${job.dataset_id} · ${job.model_name}`;
}

/**
 * Returns the share of the epochs that are done, from 0 to 1; null if unknown.
 * @param {Job} job
 */
export function progress(job) {
  return job.epoch !== null && job.epochs ? Math.min(job.epoch / job.epochs, 1) : null;
}

/** @param {Job} job */
export function epochs(job) {
  if (job.epoch === null) return "";
  return job.epochs ? `${job.epoch} of ${job.epochs}` : String(job.epoch);
}

/**
 * Returns the time left of a running job, the time that an ended one took, or the time that the job has waited.
 * @param {Job} job
 * @param {number} now
 */
export function timing(job, now) {
  if (!isOpen(job)) return duration(secondsBetween(job.started_at, job.finished_at));
  if (job.state !== "RUNNING") return `waits ${roughly(secondsBetween(job.created_at, now) ?? 0)}`;
  return job.eta_seconds === null
    ? `for ${roughly(secondsBetween(job.started_at, now) ?? 0)}`
    : `${roughly(job.eta_seconds)} left`;
}

/**
 * Returns the metric that stands for a job, with its latest value.
 * @param {Job} job
 */
export function headline(job) {
  const metrics = job.metrics ?? {};
  const name = primary(Object.keys(metrics));
  return name ? { name, label: label(name), value: metrics[name] } : undefined;
}

/**
 * Returns jobs in the order of their metrics; different metrics cannot be compared, so each has its own run of rows.
 * Jobs without a metric are last.
 * @param {Job[]} jobs
 * @param {string} first  best or worst; all else: as they are
 * @returns {Job[]}
 */
export function sortedByMetric(jobs, first) {
  if (first !== "best" && first !== "worst") return jobs;
  const rows = jobs.map((job) => ({ job, metric: headline(job) }));
  const names = rows.map(({ metric }) => metric?.name ?? "");
  const place = (/** @type {string | undefined} */ name) => (name ? names.indexOf(name) : jobs.length);
  rows.sort(({ metric: a }, { metric: b }) => {
    if (!a || !b || a.name !== b.name) return place(a?.name) - place(b?.name);
    return (b.value - a.value) * (isLowerBetter(a.name) ? -1 : 1) * (first === "best" ? 1 : -1);
  });
  return rows.map(({ job }) => job);
}

/** @typedef {{ words: string, at: string, afterSeconds: number | null, message: string, actor: string, isWarning: boolean }} Entry */

/**
 * Returns the timeline in words: what happened, when, and how long after the step before. Of checkpoints that follow
 * one another, only the last is shown.
 * @param {any[]} events
 * @returns {Entry[]}
 */
export function timeline(events) {
  const steps = events.filter((event) => event.kind === "state" || event.kind === "event");
  const shown = steps.filter((event, index) => event.type !== "checkpoint" || steps[index + 1]?.type !== "checkpoint");
  return shown.map((event, index) => ({
    words: words(event),
    at: event.at,
    afterSeconds: secondsBetween(shown[index - 1]?.at, event.at),
    message: event.message ?? "",
    actor: event.kind === "state" && event.actor !== "trainer" ? (event.actor ?? "") : "",
    isWarning: event.type === "warning",
  }));
}

/** @type {Record<string, string>} */
const EVENT_WORDS = {
  started: "Trainer started",
  checkpoint: "Checkpoint stored",
  interrupted: "Trainer interrupted",
  retrying: "Launched again",
  waiting: "Waits for a new trainer",
  silent: "No heartbeat for a while",
  check_started: "Check of the dataset started",
  check_passed: "Check of the dataset passed",
  check_skipped: "Check of the dataset skipped",
  warning: "Warning",
  log: "Message",
};

/** @param {any} event */
function words({ kind, type, attempt, data }) {
  if (kind === "state") return type === "PENDING" ? "Created" : stateWord(type);
  const phase = data?.phase; // what a trainer does before its first step
  if (typeof phase === "string") return capital(phase);
  const own = EVENT_WORDS[type] ?? type;
  return type === "started" && attempt > 1 ? `${own}, attempt ${attempt}` : own;
}
