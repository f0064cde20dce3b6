import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, bytes, duration, number, ordinal, percent, plural, roughly, setting } from "../src/format.js";

test("numbers have three decimals, or four digits where that says more", () => {
  assert.deepEqual(
    [0.79012, 12, 0, -0.5, 0.00012345, 123456.789, 1e-9, null, undefined, Number.NaN, Infinity].map(number),
    ["0.790", "12", "0", "−0.500", "0.0001234", "123500", "1e-9", "", "", "", "∞"],
  );
});

test("durations are those of the command", () => {
  assert.deepEqual([0.44, 9.94, 42, 59.6, 185, 3600, 7620, 200000, null].map(duration), [
    "0.4 s",
    "9.9 s",
    "42 s",
    "1 min 00 s",
    "3 min 05 s",
    "1 h 00 min",
    "2 h 07 min",
    "2 d 7 h",
    "",
  ]);
});

test("ages are rounded to one unit", () => {
  assert.deepEqual([3, 90, 5000, 90000, 200000].map(roughly), ["3 s", "2 min", "1 h", "25 h", "2 d"]);
  assert.equal(ago("2026-01-01T00:00:00Z", Date.parse("2026-01-01T00:10:00Z")), "10 min ago");
  assert.equal(ago("2026-01-01T00:00:00Z", Date.parse("2026-01-01T00:00:01Z")), "just now");
});

test("sizes, counts and settings", () => {
  assert.deepEqual([0, 512, 6554, 5 * 2 ** 30].map(bytes), ["0 B", "512 B", "6.4 KiB", "5.0 GiB"]);
  assert.deepEqual([plural(1, "job"), plural(2, "job")], ["1 job", "2 jobs"]);
  assert.deepEqual([0, false, "cpu", [0.7, 1], null].map(setting), ["0", "false", "cpu", "[0.7,1]", ""]);
});

test("places and shares in words", () => {
  assert.deepEqual([1, 2, 3, 4, 11, 12, 13, 21, 112].map(ordinal), [
    "1st",
    "2nd",
    "3rd",
    "4th",
    "11th",
    "12th",
    "13th",
    "21st",
    "112th",
  ]);
  assert.deepEqual([0, 0.004, 0.926, 1, null].map(percent), ["0 %", "0.4 %", "93 %", "100 %", ""]);
});
