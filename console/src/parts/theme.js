import { signal } from "@preact/signals";

const dark = matchMedia("(prefers-color-scheme: dark)");

/** Whether the dark theme is shown: canvases have no style sheet. */
export const isDark = signal(dark.matches);
dark.addEventListener("change", () => {
  isDark.value = dark.matches;
});
