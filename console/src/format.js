// Numbers, times and sizes as text, in the same words as the command `stoker`.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const FEW_SECONDS = 9.95;

/**
 * Returns a number with three decimals, or four significant digits where that is more precise.
 * @param {number | null | undefined} value
 */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return String(value).replace("-", "−");
  const text = size >= 0.01 && size < 1000 ? value.toFixed(3) : String(Number(value.toPrecision(4)));
  return text.replace(/^-/, "−");
}

/**
 * Returns seconds as `0.4 s`, `42 s`, `3 min 05 s`, `2 h 07 min` or `3 d 4 h`.
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "";
  if (seconds < FEW_SECONDS) return `${Math.max(seconds, 0).toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (/** @type {number} */ part) => String(part).padStart(2, "0");
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min ${two(whole % MINUTE)} s`;
  if (whole < 2 * DAY) return `${Math.floor(whole / HOUR)} h ${two(Math.floor((whole % HOUR) / MINUTE))} min`;
  return `${Math.floor(whole / DAY)} d ${Math.floor((whole % DAY) / HOUR)} h`;
}

/**
 * Returns seconds rounded to their largest unit: `42 s`, `3 min`, `2 h`, `5 d`.
 * @param {number} seconds
 */
export function roughly(seconds) {
  if (seconds < MINUTE) return `${Math.max(Math.round(seconds), 0)} s`;
  if (seconds < HOUR) return `${Math.round(seconds / MINUTE)} min`;
  if (seconds < 2 * DAY) return `${Math.round(seconds / HOUR)} h`;
  return `${Math.round(seconds / DAY)} d`;
}

/**
 * @param {string | null | undefined} time
 * @param {number} now  milliseconds
 */
export function ago(time, now) {
  if (!time) return "";
  const seconds = (now - Date.parse(time)) / 1000;
  return seconds < 5 ? "just now" : `${roughly(seconds)} ago`;
}

/**
 * Returns the seconds between two times; null if one is missing.
 * @param {string | null | undefined} start
 * @param {string | number | null | undefined} end
 */
export function secondsBetween(start, end) {
  if (!start || !end) return null;
  return (new Date(end).getTime() - Date.parse(start)) / 1000;
}

const DATE_TIME = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const TIME = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

/** @param {string | null | undefined} time */
export function dateTime(time) {
  return time ? DATE_TIME.format(new Date(time)) : "";
}

/** @param {string} time */
export function clock(time) {
  return TIME.format(new Date(time));
}

/** @param {number} count */
export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit ? `${value.toFixed(1)} ${units[unit]}` : `${count} B`;
}

/**
 * @param {number} count
 * @param {string} noun
 */
export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * Returns a text as the beginning of a sentence.
 * @param {string} text
 */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** @param {number} value */
export function ordinal(value) {
  const isTeen = value % 100 > 10 && value % 100 < 14;
  return `${value}${(isTeen ? "" : ["", "st", "nd", "rd"][value % 10]) || "th"}`;
}

/**
 * Returns a share as percent, such as `93 %`, or `0.4 %` if it is below one.
 * @param {number | null | undefined} share
 */
export function percent(share) {
  if (share === null || share === undefined || Number.isNaN(share)) return "";
  const value = share * 100;
  return `${value > 0 && value < 0.95 ? value.toFixed(1) : Math.round(value)} %`;
}

/** @param {unknown} value */
export function setting(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
