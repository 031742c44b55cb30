// The live board of a sale, for a screen on the wall: made of GET /inventory alone.

import { clock, poll } from "./api.js";
import { LANGUAGE, countdown, moment, text } from "./texts.js";

const { item } = document.documentElement.dataset;
const page = document.getElementById("page");
const SAMPLES_MAX = 60; // of the chart; one a second while the sale is open
const RATE_MS = 5_000; // the number beside the chart is the average of this time
const SOON_MS = 60_000;
// Stalled: tickets are free, and so many of the last minute's answers show that tickets were
// reserved or given back, but none was sold.
const STALLED_MS = 60_000;
const STALLED_MOVES_MIN = 10;
const WHOLE = new Intl.NumberFormat(LANGUAGE);
const ONE_DIGIT = new Intl.NumberFormat(LANGUAGE, {
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
});

let sale = null; // the last answer; undefined: no such item
// Instants of this page, in ms of performance.now():
let failingSince = null;
let watchedSince = null; // of this generation
let lastSaleAt = null;
let samples = []; // of the last answers: { at, sold, more, rate, isMove }

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Return the tickets of each part. They add up to all tickets of the sale. */
const parts = () => ({
  free: sale.current_stock,
  held: sale.held,
  sold: sale.total_purchases,
});

/** Take note of an answer. A sale that has started again has no past. */
function learn({ status, body }) {
  failingSince = null;
  const before = sale;
  sale = status === 200 ? body : undefined;
  if (!sale || before?.generation !== sale.generation) [samples, lastSaleAt] = [[], null];
  if (sale) {
    const [now, last] = [performance.now(), samples.at(-1)];
    const sold = sale.total_purchases;
    const more = last ? Math.max(0, sold - last.sold) : 0; // refunds are no sales
    if (more > 0) lastSaleAt = now;
    const rate = last && now > last.at ? (more * 1000) / (now - last.at) : 0;
    const isMove = last !== undefined && before.last_updated !== sale.last_updated;
    if (!last) watchedSince = now;
    samples = [...samples, { at: now, sold, more, rate, isMove }].slice(-SAMPLES_MAX);
  }
  render();
}

/** Return the tickets sold per second, on average over the last seconds. */
function rate() {
  const since = samples.filter((each) => each.at > performance.now() - RATE_MS).slice(1);
  const ms = since.length ? since.at(-1).at - samples.at(-since.length - 1).at : 0;
  return ms ? (since.reduce((sum, each) => sum + each.more, 0) * 1000) / ms : 0;
}

/** Return whether tickets are free and asked for, and none has been sold for a minute. */
function isStalled() {
  if (sale.state !== "open" || sale.current_stock === 0) return false;
  const start = performance.now() - STALLED_MS;
  const since = samples.filter((each) => each.at > start);
  if (watchedSince > start || since.some((each) => each.more > 0)) return false;
  return since.filter((each) => each.isMove).length >= STALLED_MOVES_MIN;
}

function bar() {
  const made = element("div", { class: "bar", "aria-hidden": "true" });
  for (const [part, tickets] of Object.entries(parts())) {
    const block = element("span", { class: part });
    block.style.flexGrow = tickets; // set by a script: no style in the page
    if (tickets) made.append(block);
  }
  return made;
}

function numbers() {
  const entries = Object.entries(parts()).map(([part, tickets]) =>
    element(
      "div",
      { class: part },
      element("dt", {}, text(`board_${part}`)),
      element("dd", {}, WHOLE.format(tickets)),
    ),
  );
  return element("dl", { class: "parts" }, ...entries);
}

/** Return the sales per second of the last minute, one column for each answer. */
function chart() {
  const most = Math.max(1, ...samples.map((each) => each.rate));
  const label = text("board_rate", { n: ONE_DIGIT.format(rate()) });
  const drawn = svg("svg", {
    viewBox: `0 0 ${SAMPLES_MAX} 20`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": label,
  });
  samples.forEach(({ rate: height }, index) => {
    const x = SAMPLES_MAX - samples.length + index;
    const scaled = (height / most) * 20;
    drawn.append(svg("rect", { x, y: 20 - scaled, width: 0.8, height: scaled }));
  });
  return element("figure", {}, drawn, element("figcaption", {}, label));
}

function light() {
  if (failingSince !== null) {
    const at = moment(clock.now() - performance.now() + failingSince, clock.now());
    return element("p", { class: "light warning" }, `⚠ ${text("board_old", { at })}`);
  }
  if (isStalled()) return element("p", { class: "light warning" }, `⚠ ${text("board_stalled")}`);
  const ago = lastSaleAt !== null && countdown(performance.now() - lastSaleAt);
  return element("p", { class: "light" }, ago ? text("board_last", { time: ago }) : "");
}

/** Return the state in words: the service's, with what the clock has changed since its answer. */
function state() {
  const { opens_at, closes_at } = sale;
  const left = Date.parse(opens_at ?? "") - clock.now();
  if (sale.state === "scheduled" && left > 0) return text("opens_in", { time: countdown(left) });
  if (closes_at && clock.now() >= Date.parse(closes_at)) return text("state_closed");
  return text(`state_${sale.state === "scheduled" ? "open" : sale.state}`);
}

function render() {
  const name = sale ? sale.item_name : text(sale === null ? "shop" : "no_item");
  document.title = name;
  const heading = element("h1", {}, element("bdi", { class: "name" }, name));
  page.dataset.view = sale ? "board" : sale === null ? "loading" : "no_item";
  if (!sale) {
    const words = failingSince === null ? "loading" : "unreachable";
    page.replaceChildren(heading, element("p", {}, sale === null ? text(words) : ""));
    return;
  }
  page.replaceChildren(
    heading,
    element("p", { class: "state" }, state()),
    numbers(),
    bar(),
    chart(),
    light(),
  );
}

/** Return the seconds until the next answer: a board on the wall never stops asking. */
function interval() {
  if (!sale) return 10;
  if (sale.state === "scheduled") return Date.parse(sale.opens_at) - clock.now() < SOON_MS ? 1 : 10;
  return sale.state === "open" ? 1 : 10;
}

function fail() {
  failingSince ??= samples.at(-1)?.at ?? performance.now();
  render();
}

document.documentElement.lang = LANGUAGE;
document.body.className = "board";
render();
setInterval(render, 1000);
poll(`inventory?item_id=${item}`, learn, fail, interval);
