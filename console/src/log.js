// A trainer's log in readable form.

import { clock } from "./format.js";

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what terminals take as colours and cursor moves
const ESCAPES = /\u001b\[[0-9;?]*[A-Za-z]/g;

/** What Stoker's trainers write before each line: the time, and what is the same in every line of a job. */
const PREFIX = /^(\d{4}-\d\d-\d\dT[\d:.]+Z) \[TRACE:[0-9a-f]*\] job(?:_id)?=\S+ ?/;

/**
 * Returns the lines of a log with the time of day, without colours; of a progress bar, which writes a line again and again, its last state.
 * @param {string} text
 * @param {boolean} isPart  the text begins somewhere in the log, so its first line may be incomplete
 * @returns {string[]}
 */
export function logLines(text, isPart) {
  const lines = text.replace(ESCAPES, "").replaceAll("\r\n", "\n").split("\n").map(lastState).map(short);
  if (lines.at(-1) === "") lines.pop();
  return isPart ? lines.slice(1) : lines;
}

/** @param {string} line */
function short(line) {
  return line.replace(PREFIX, (_, time) => `${clock(time)} `);
}

/** @param {string} line */
function lastState(line) {
  return line.split("\r").findLast((state) => state !== "") ?? "";
}

/**
 * Returns the object with an attempt's log; undefined until its trainer has stored it.
 * @template {{ key: string }} T
 * @param {T[]} artifacts
 * @param {number} attempt
 * @returns {T | undefined}
 */
export function storedLog(artifacts, attempt) {
  return artifacts.find(({ key }) => key.startsWith("logs/") && key.endsWith(`/attempt-${attempt}.log`));
}
