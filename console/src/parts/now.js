import { signal } from "@preact/signals";

const STEP_SECONDS = 5;

/** The time in milliseconds, for what is shown as an age. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, STEP_SECONDS * 1000);
