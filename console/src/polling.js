// Live by polling: a stream would hold a pod, and Stoker scales to zero.

import { useEffect, useRef } from "preact/hooks";
import { Unauthenticated, Unavailable } from "./api.js";
import { isSignedIn } from "./session.js";

/** @typedef {"changed" | "same" | "ended"} Outcome */

export const JOB_SECONDS = 5;
export const LIST_SECONDS = 10;
const LONGEST_SECONDS = 60;
const GROWTH = 1.5;

/**
 * Calls `load` at once and then again and again: more and more seldom while nothing changes, never twice at a time, not
 * in a hidden tab, and not after it has ended.
 */
export class Poll {
  /**
   * @param {(abort: AbortSignal) => Promise<Outcome>} load
   * @param {number} seconds
   * @param {(error: unknown) => void} fail  receives the error that ends the polling; temporary errors do not end it
   */
  constructor(load, seconds, fail) {
    this.load = load;
    this.seconds = this.delay = seconds;
    this.fail = fail;
    this.isVisible = true;
    this.isBusy = this.isEnded = false;
    this.abort = new AbortController();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** Loads now, unless that is in progress already. */
  async now() {
    clearTimeout(this.timer);
    if (this.isBusy || this.isEnded || !this.isVisible) return;
    this.isBusy = true;
    try {
      await this.#turn();
    } finally {
      this.isBusy = false;
    }
    if (this.isEnded || !this.isVisible) return;
    this.timer = setTimeout(() => this.now(), this.delay * 1000);
  }

  async #turn() {
    try {
      const outcome = await this.load(this.abort.signal);
      this.isEnded ||= outcome === "ended";
      this.delay = outcome === "changed" ? this.seconds : Math.min(this.delay * GROWTH, LONGEST_SECONDS);
    } catch (error) {
      if (this.abort.signal.aborted) return;
      if (error instanceof Unavailable) {
        this.delay = Math.max(error.retryAfterSeconds, this.seconds);
      } else {
        this.isEnded = true;
        if (!(error instanceof Unauthenticated)) this.fail(error); // polling continues after another sign-in
      }
    }
  }

  /** @param {boolean} isVisible  whether somebody can see what is loaded */
  show(isVisible) {
    const wasVisible = this.isVisible;
    this.isVisible = isVisible;
    if (!isVisible) {
      clearTimeout(this.timer);
    } else if (!wasVisible) {
      this.delay = this.seconds;
      this.now();
    }
  }

  stop() {
    this.isEnded = true;
    clearTimeout(this.timer);
    this.abort.abort();
  }
}

/**
 * Polls while a component is shown; starts again when one of the inputs changes.
 * @param {(abort: AbortSignal) => Promise<Outcome>} load
 * @param {number} seconds
 * @param {(error: unknown) => void} fail
 * @param {unknown[]} inputs
 */
export function usePoll(load, seconds, fail, inputs) {
  const latest = useRef(load);
  latest.current = load; // compares the loaded data with the shown data
  useEffect(() => {
    if (!isSignedIn.value) return undefined;
    const poll = new Poll((abort) => latest.current(abort), seconds, fail);
    const onVisibility = () => poll.show(!document.hidden);
    const onFocus = () => poll.now();
    document.addEventListener("visibilitychange", onVisibility);
    addEventListener("focus", onFocus);
    if (document.hidden) poll.isVisible = false;
    poll.now();
    return () => {
      document.removeEventListener("visibilitychange", onVisibility);
      removeEventListener("focus", onFocus);
      poll.stop();
    };
  }, [...inputs, isSignedIn.value]);
}
