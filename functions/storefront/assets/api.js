// The API, as a page calls it: one request, the service's clock, and asking again and again.

const { root, doubtSeconds } = document.documentElement.dataset;
const ROOT = new URL(root, location.href);
const READ_MS = 15_000; // the service takes 13 s at most
const CHANGE_MS = 30_000; // API Gateway answers within 29 s
const PAUSE_MS_MAX = 30_000;

export const ROOT_PATH = ROOT.pathname;

// After a request without an answer: for so long it may still take effect (functions/ticketing/
// limits.py).
export const DOUBT_MS = Number(doubtSeconds) * 1000;

/** Return the address of a route or page, wherever this page is. */
export const address = (path) => new URL(path, ROOT).href;

/** No answer of the API: no network, a time-out, or something else that answered in its place. */
export class NoAnswer extends Error {}

/**
 * The service's clock, out of the header Date of its answers.
 *
 * An answer was stamped between the sending of its request and its own arrival, and the stamp has
 * whole seconds. So each answer bounds how far the service is ahead of this page; together they
 * come closer than a second. The clock of the device decides nothing.
 */
class Clock {
  #least = -Infinity;
  #most = Infinity;

  /** All in ms. `stamped` by the service, `sent` and `arrived` by performance.now(). */
  learn(stamped, sent, arrived) {
    const least = stamped - arrived;
    const most = stamped + 1000 - sent;
    if (least > this.#most || most < this.#least) {
      [this.#least, this.#most] = [least, most]; // the device slept, or another server answered
    } else {
      this.#least = Math.max(this.#least, least);
      this.#most = Math.min(this.#most, most);
    }
  }

  /** Return the service's time, in ms since the epoch; the device's before the first answer. */
  now() {
    if (this.#least === -Infinity) return Date.now();
    return performance.now() + (this.#least + this.#most) / 2;
  }
}

export const clock = new Clock();

/**
 * Return the answer to one request: status, body, retryMs. Throw NoAnswer.
 *
 * retryMs: what Retry-After says; undefined without it.
 */
export async function request(method, path, { key, body } = {}) {
  const headers = {};
  if (key) headers["Idempotency-Key"] = key;
  if (body) headers["Content-Type"] = "application/json";
  const sent = performance.now();
  try {
    const response = await fetch(address(path), {
      method,
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      signal: AbortSignal.timeout(method === "GET" ? READ_MS : CHANGE_MS),
    });
    const arrived = performance.now();
    const stamped = Date.parse(response.headers.get("Date"));
    const age = Number(response.headers.get("Age") ?? 0) * 1000; // in a cache before the API
    if (!Number.isNaN(stamped)) clock.learn(stamped + age, sent, arrived);
    const retry = Number(response.headers.get("Retry-After") ?? NaN) * 1000;
    const answer = await response.json();
    if (typeof answer !== "object" || answer === null) throw new TypeError("no answer of the API");
    return {
      status: response.status,
      body: answer,
      retryMs: Number.isNaN(retry) ? undefined : retry,
    };
  } catch (error) {
    throw new NoAnswer(String(error));
  }
}

/** Return how long to wait after the failure number `count`: what the API says, or full jitter. */
export function pauseMs(count, retryMs) {
  if (retryMs !== undefined) return Math.min(retryMs, PAUSE_MS_MAX) * (1 + Math.random() / 4);
  return Math.random() * Math.min(PAUSE_MS_MAX, 1000 * 2 ** Math.min(count, 10));
}

/** Resolve after the time, or earlier: when the network comes back, or `signal` is aborted. */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done);
    signal?.addEventListener("abort", done);
  });
}

/** Return the answer to a GET, however often it must be asked. `onFailure` is called with each. */
export async function read(path, onFailure = () => {}) {
  for (let failures = 1; ; failures += 1) {
    let answer;
    try {
      answer = await request("GET", path);
      if (answer.status < 500 && answer.status !== 429) return answer;
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
    }
    onFailure(failures);
    await sleep(pauseMs(failures, answer?.retryMs));
  }
}

/**
 * Read a path again and again, and call `onAnswer` with each answer.
 *
 * interval: returns the seconds until the next read, undefined to stop. They are jittered by a
 * quarter, and ten times as long while the page is hidden.
 */
export async function poll(path, onAnswer, onFailure, interval) {
  for (;;) {
    onAnswer(await read(path, onFailure));
    const seconds = interval();
    if (seconds === undefined) return;
    const jittered = seconds * 1000 * (0.75 + Math.random() / 2);
    await sleep(document.hidden ? jittered * 10 : jittered, visible());
  }
}

/** Return a signal that is aborted when the hidden page is shown again. */
function visible() {
  const controller = new AbortController();
  if (document.hidden) {
    document.addEventListener("visibilitychange", () => controller.abort(), { once: true });
  }
  return controller.signal;
}
