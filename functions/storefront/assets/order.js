// The one order of this browser for an item. Its key is stored before it is first sent, and each
// retry sends the same: after a reload, a crash, without a network, and in other tabs.
//
// An order: { step, generation, key, kind, body, ... }. A step of STEPS is sent until it has an
// answer; the other steps rest:
//
//   place ──> held ──> confirm ──> bought          extend ──> held
//     └─────> bought     └───────> refused         release ──> released
//     └─────> refused

import { DOUBT_MS, NoAnswer, ROOT_PATH, clock, pauseMs, request, sleep } from "./api.js";

// What was not carried out, says the API. Any other answer that is not a success or a refusal
// leaves it in doubt.
const NOTHING_DONE = (answer) =>
  answer.status === 429 || (answer.status === 503 && answer.body.reason !== "in_doubt");
const OPENS_SOON_MS = 5_000;
const OTHER_TAB_MS = 500; // a wait for another tab is said after this time
const RECEIPTS_MAX = 20;

const receipt = ({ body }) => ({ step: "bought", purchase_id: body.purchase_id });
const hold = ({ body }) => ({
  step: "held",
  hold_id: body.hold_id,
  expires_at: body.expires_at,
  extended: body.extended,
});

// step → what it sends, and what an answer makes of the order. `isFinal`: a refusal stands, also
// while an earlier attempt is in doubt.
const STEPS = {
  place: {
    send: (order) => request("POST", order.kind, order),
    done: (order, answer) => (order.kind === "holds" ? hold(answer) : receipt(answer)),
    isFinal: false,
  },
  confirm: {
    send: ({ hold_id, payment_reference }) =>
      request("POST", `holds/${hold_id}/confirm`, { body: { payment_reference } }),
    done: (_, answer) => receipt(answer),
    isFinal: true,
  },
  extend: {
    send: ({ hold_id }) => request("POST", `holds/${hold_id}/extend`),
    // Just after the reservation there is no time to add, and the one extension is not used up.
    done: (_, answer) => ({ ...hold(answer), is_too_early: !answer.body.extended }),
    isFinal: true,
  },
  release: {
    send: ({ hold_id }) => request("DELETE", `holds/${hold_id}`),
    done: () => ({ step: "released" }),
    isFinal: true,
  },
};

/** Return whether the order waits for an answer. */
export const isPending = (order) => order !== null && order.step in STEPS;

/**
 * The order, in the browser's storage. A change of it is made by one tab at a time.
 *
 * onChange: called when the order or its progress may have changed, here or in another tab.
 */
export class OrderBook {
  /** Of a pending order: { kind, until }, `until` in ms of performance.now(). */
  progress = { kind: "asking" };
  /** Whether the browser keeps what is stored. Otherwise a reload loses the order. */
  isKept = true;
  #name;
  #onChange;
  #stored = { made: 0, order: null, receipts: [] }; // made: how many orders there have been
  #isSending = false;
  #hurry = new AbortController();

  constructor(itemId, onChange) {
    this.#name = `ticket-sale:${ROOT_PATH}:${itemId}`;
    this.#onChange = onChange;
    this.#load();
    addEventListener("storage", (event) => {
      if (event.key !== this.#name && event.key !== null) return;
      this.#load();
      onChange();
      if (isPending(this.order)) this.pursue();
    });
  }

  /** Return the order; null without one. */
  get order() {
    return this.#stored.order;
  }

  /** Return the ids of this browser's purchases, the last one first. */
  get receipts() {
    return this.#stored.receipts;
  }

  /** Make an order and send it, unless one is made meanwhile. `kind`: "holds" or "buy_ticket". */
  async place(generation, kind, body) {
    this.#load();
    const { made } = this.#stored;
    await this.#alone(() => {
      if (this.order !== null || this.#stored.made !== made) return undefined;
      const key = crypto.randomUUID();
      this.#stored.made += 1;
      this.#save({ step: "place", generation, key, kind, body, doubt_until: 0 });
      return this.#send();
    });
  }

  /** Take the next step with a hold, with `more` about it, unless one is taken meanwhile. */
  async advance(step, more = {}) {
    const { key } = this.order;
    await this.#alone(() => {
      if (this.order?.step !== "held" || this.order.key !== key) return undefined;
      this.#save({ ...this.order, step, ...more });
      return this.#send();
    });
  }

  /** Ask until the pending order has its answer. While another tab does, wait for that one. */
  async pursue() {
    await this.#alone(() => (isPending(this.order) ? this.#send() : undefined));
  }

  /** Close an order that rests, so that the next one gets a key of its own. */
  async dismiss() {
    const key = this.order?.key;
    await this.#alone(() => {
      if (this.order?.key === key && !isPending(this.order)) this.#save(null);
    });
  }

  /** Forget an order of an earlier generation of the sale, unless its answer is awaited. */
  async turnTo(generation) {
    if (this.order !== null && this.order.generation !== generation) await this.dismiss();
  }

  /** Look up the hold: it may have been paid for or released somewhere else. */
  async refresh() {
    const { order: asked } = this;
    if (asked?.step !== "held") return;
    const answer = await request("GET", `holds/${asked.hold_id}`).catch(() => undefined);
    if (answer?.status !== 200) return;
    await this.#alone(() => {
      const { order } = this;
      if (JSON.stringify(order) !== JSON.stringify(asked)) return;
      const { status } = answer.body;
      if (status === "held") this.#save({ ...order, ...hold(answer) });
      if (status === "released") this.#save({ ...order, step: "released" });
      if (status === "confirmed" || status === "refunded") this.#bought(order, order.hold_id);
    });
  }

  /** Send the pending order now, not after the pause. */
  hurry() {
    this.#hurry.abort();
  }

  /** Send the pending step until it has an answer. */
  async #send() {
    this.#isSending = true;
    for (let failures = 0; isPending(this.order); ) {
      const { order } = this;
      const doubtedUntil = Math.min(order.doubt_until, Date.now() + DOUBT_MS);
      this.#save({ ...order, doubt_until: Date.now() + DOUBT_MS });
      this.#report("asking");
      const answer = await STEPS[order.step].send(order).catch((error) => {
        if (error instanceof NoAnswer) return undefined;
        throw error;
      });
      if (answer && NOTHING_DONE(answer)) {
        this.#save({ ...order, doubt_until: doubtedUntil });
        failures += 1;
        await this.#pause("busy", pauseMs(failures, answer.retryMs));
      } else if (!answer || answer.status >= 500) {
        failures += 1;
        const kind = navigator.onLine ? "no_answer" : "offline";
        await this.#pause(kind, pauseMs(failures, answer?.retryMs));
      } else if (answer.status < 300) {
        this.#settle(order, STEPS[order.step].done(order, answer));
      } else {
        await this.#refused({ ...order, doubt_until: doubtedUntil }, answer);
      }
    }
    this.#isSending = false;
  }

  /** Take note of a refusal, once no earlier attempt can take effect any more. */
  async #refused(order, { body, retryMs }) {
    const doubtMs = STEPS[order.step].isFinal ? 0 : order.doubt_until - Date.now();
    if (Date.parse(body.opens_at ?? "") < clock.now() + OPENS_SOON_MS) {
      this.#save(order);
      await this.#pause("opening", pauseMs(1, retryMs));
    } else if (doubtMs > 0) {
      this.#save(order);
      await this.#pause("in_doubt", doubtMs);
    } else if (body.code === "already_paid" || body.code === "hold_confirmed") {
      this.#bought({ ...order, problem: body }, order.hold_id);
    } else {
      this.#settle(order, { step: "refused", refused_step: order.step, problem: body });
    }
  }

  #settle(order, change) {
    if (change.step === "bought") this.#bought(order, change.purchase_id);
    else this.#save({ ...order, ...change, doubt_until: 0 });
  }

  #bought(order, purchaseId) {
    const others = this.receipts.filter((each) => each !== purchaseId);
    const receipts = [purchaseId, ...others].slice(0, RECEIPTS_MAX);
    this.#save({ ...order, step: "bought", purchase_id: purchaseId, doubt_until: 0 }, receipts);
  }

  async #pause(kind, ms) {
    this.#hurry = new AbortController();
    this.#report(kind, performance.now() + ms);
    await sleep(ms, this.#hurry.signal);
  }

  #report(kind, until) {
    this.progress = { kind, until };
    this.#onChange();
  }

  /**
   * Run `work` on the stored order, while nothing else changes it: in this tab or in another one. A
   * tab that ends, or crashes, makes room.
   */
  async #alone(work) {
    const isLate = () => this.#isSending || this.#report("other_tab");
    const waiting = setTimeout(isLate, OTHER_TAB_MS);
    await navigator.locks.request(this.#name, async () => {
      clearTimeout(waiting);
      this.progress = { kind: "asking" };
      this.#load();
      await work();
      this.#onChange();
    });
  }

  #load() {
    if (!this.isKept) return;
    try {
      this.#stored = JSON.parse(localStorage.getItem(this.#name)) ?? this.#stored;
    } catch {
      // Denied, or damaged: what this page knows itself is all there is.
    }
  }

  #save(order, receipts = this.receipts) {
    this.#stored = { ...this.#stored, order, receipts };
    try {
      localStorage.setItem(this.#name, JSON.stringify(this.#stored));
      this.isKept = true;
    } catch {
      this.isKept = false; // denied, or full
    }
  }
}
