// The shop's pages: what is shown for an order and its sale, in VIEWS, and what the buttons do.

import { address, clock, poll, read } from "./api.js";
import { OrderBook, isPending } from "./order.js";
import { LANGUAGE, count, countdown, has, moment, spoken, text } from "./texts.js";

const { item, quantityMax } = document.documentElement.dataset;
const page = document.getElementById("page");
const announcer = document.getElementById("announcer");
const SOON_MS = 60_000;

let book; // of the item
let sale = null; // what GET /inventory answered last; null: not yet, undefined: no such item
let isStale = false; // an order was refused since then
let isUnreachable = false;
let isPolling = false;
let receipt = null; // { id, body }; body null: not yet, undefined: there is none
const choice = { quantity: 1, buyer: "" };

// --- Elements ---

/** Return an element. Texts are texts: nothing in them is taken for markup. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((each) => each !== undefined));
  return made;
}

const paragraph = (...children) => element("p", {}, ...children);
const button = (name, onclick, kind = "") =>
  element("button", { type: "button", class: kind, onclick }, text(name));
const actions = (...buttons) => element("div", { class: "actions" }, ...buttons);
/** Return a name letter for letter; its direction stays its own. */
const named = (name) => element("bdi", { class: "name" }, name);

let ticking = []; // of the view that is shown: what its changing texts are now

/** Return an element whose text is asked for four times a second. */
function tick(tag, attributes, current) {
  const made = element(tag, attributes);
  const update = () => {
    const now = current();
    if (made.textContent !== now) made.textContent = now;
  };
  ticking.push(update);
  update();
  return made;
}

/** Let a screen reader say something when it has time. */
function announce(words) {
  if (announcer.textContent !== words) announcer.textContent = words;
}

/** Return a countdown to an instant. It is spoken, in words, at most once a minute. */
function timer(shownAs, spokenAs, at) {
  let saidAt = clock.now();
  let said = spoken(Date.parse(at) - saidAt);
  return tick("p", { class: "timer" }, () => {
    const left = Date.parse(at) - clock.now();
    const words = spoken(left);
    if (words !== said && clock.now() - saidAt >= 60_000 && left > 0) {
      [said, saidAt] = [words, clock.now()];
      announce(text(spokenAs, { time: words }));
    }
    return text(shownAs, { time: countdown(left) });
  });
}

const at = (instant) => (instant ? moment(instant, clock.now()) : undefined);
const tickets = () => count("tickets", book.order.body.quantity);

// --- Views: each is what stands below the item's name ---

/** Return the heading of a view, which gets the focus when the view is shown. */
const heading = (name) => element("h2", { tabindex: "-1" }, text(name));
const plain = (name, ...more) => [heading(name), ...more.map((each) => paragraph(each))];
const startAgain = (name = "again") =>
  button(
    name,
    async () => {
      isStale = true;
      await book.dismiss();
      leaveReceipt();
    },
    "primary",
  );

const VIEWS = {
  loading: () => [tick("p", {}, () => text(isUnreachable ? "unreachable" : "loading"))],
  no_item: () => plain("no_item", text("no_item_next")),
  scheduled: () => [
    ...plain("scheduled", text("scheduled_at", { at: at(sale.opens_at) })),
    timer("opens_in", "opens_in_spoken", sale.opens_at),
  ],
  paused: () => plain("paused", text("paused_next")),
  closed: () => plain("closed", text("closed_at", { at: at(sale.closes_at) })),
  sold_out: () => plain("sold_out", text("sold_out_next")),
  all_held: () => [
    heading("all_held"),
    tick("p", {}, () => text("all_held_next", { at: at(sale.next_release_at) })),
  ],
  choose,
  place: pending,
  confirm: pending,
  extend: pending,
  release: pending,
  held: () => [
    ...plain("held", tickets(), text("held_until", { at: at(book.order.expires_at) })),
    timer("time_left", "time_left_spoken", book.order.expires_at),
    book.order.is_too_early ? paragraph(text("extend_later")) : "",
    actions(
      button("pay", pay, "primary"),
      book.order.extended ? undefined : button("extend_action", () => book.advance("extend")),
      button("release_action", () => book.advance("release")),
    ),
  ],
  expired: () => [
    ...plain("expired", text("expired_next", { at: at(book.order.expires_at) })),
    actions(startAgain()),
  ],
  released: () => [...plain("released", text("released_next")), actions(startAgain())],
  refused: () => [...plain("refused", refusal(book.order)), actions(startAgain())],
  bought: () => [
    ...plain("bought", tickets()),
    book.order.problem?.code === "already_paid" ? paragraph(refusalPaidTwice()) : "",
    paragraph(element("a", { href: `#receipt=${book.order.purchase_id}` }, text("show_receipt"))),
    actions(startAgain("another")),
  ],
  receipt: receiptView,
  receipt_loading: () => VIEWS.loading(),
  no_receipt: () => [
    ...plain("no_receipt", text("no_receipt_next")),
    actions(button("again", leaveReceipt)),
  ],
};

function choose() {
  const limit = sale.per_buyer_limit;
  const most = Math.min(Number(quantityMax), limit ?? Infinity);
  const isHold = sale.hold_seconds !== null;
  const options = Array.from({ length: most }, (_, index) => String(index + 1)).map((each) =>
    element("option", { selected: each === String(choice.quantity) ? "" : undefined }, each),
  );
  const onchange = ({ target }) => (choice.quantity = Number(target.value));
  const form = element(
    "form",
    { onsubmit: submit, novalidate: "" },
    element("label", { for: "quantity" }, text("quantity")),
    element("select", { id: "quantity", onchange }, ...options),
  );
  if (limit !== null) form.append(...buyerField(limit));
  form.append(element("button", { class: "primary" }, text(isHold ? "hold" : "buy")));
  if (isHold) form.append(paragraph(text("hold_help", { time: spoken(sale.hold_seconds * 1000) })));
  return [
    heading("choose"),
    tick("p", {}, () => count("free", sale.current_stock)),
    tick("p", { class: "warning" }, () =>
      sale.current_stock < choice.quantity ? text("free_few") : "",
    ),
    form,
  ];
}

function buyerField(limit) {
  const oninput = ({ target }) => (choice.buyer = target.value);
  return [
    element("label", { for: "buyer" }, text("buyer")),
    element("input", {
      id: "buyer",
      autocomplete: "email",
      autocapitalize: "none",
      spellcheck: "false",
      maxlength: "128",
      value: choice.buyer,
      "aria-describedby": "buyer-help",
      oninput,
    }),
    element("p", { id: "buyer-help" }, text("buyer_help", { n: limit })),
  ];
}

function submit(event) {
  event.preventDefault();
  const { quantity } = choice;
  const body = { item_id: Number(item), quantity };
  const field = document.getElementById("buyer");
  if (field) {
    body.buyer_id = choice.buyer.trim();
    if (!/^[!-~]+$/.test(body.buyer_id)) {
      field.setAttribute("aria-invalid", "true");
      const help = document.getElementById("buyer-help");
      help.className = "warning";
      help.textContent = text("buyer_wrong");
      field.focus();
      return;
    }
  }
  book.place(sale.generation, sale.hold_seconds === null ? "buy_ticket" : "holds", body);
}

/**
 * Pay for the hold: a stand-in, which makes up the payment's reference.
 *
 * A real provider plugs in here: docs/shop.md. The reference is stored before it is sent, and each
 * retry of the confirmation sends the same.
 */
function pay() {
  book.advance("confirm", { payment_reference: `demo-${crypto.randomUUID()}` });
}

function pending() {
  let said = "asking";
  const words = () => {
    const { kind, until } = book.progress;
    const time = (until ?? 0) - performance.now();
    if (kind !== said) announce(text(kind, { time: spoken(time) }));
    said = kind;
    return text(kind, { time: countdown(time) });
  };
  const hurry = button("hurry", () => book.hurry());
  ticking.push(() => {
    hurry.hidden = !["busy", "no_answer", "opening"].includes(book.progress.kind);
  });
  return [...plain(book.order.step, tickets()), tick("p", {}, words), actions(hurry)];
}

/** Return why an order was refused, and what comes next. */
function refusal({ problem, payment_reference }) {
  const { code, reason, detail } = problem;
  const unpaid = payment_reference ? "" : "_unpaid";
  const names = [`${code}_${reason}`, `${code}${unpaid}`, code].map((each) => `refused_${each}`);
  return text(names.find(has) ?? "refused_other", {
    at: at(problem.next_release_at ?? problem.opens_at ?? problem.closes_at),
    n: problem.left,
    payment: payment_reference,
    detail,
  });
}

const refusalPaidTwice = () => text("paid_twice", { payment: book.order.payment_reference });

function receiptView() {
  const { body } = receipt;
  const row = (name, ...value) => [
    element("dt", {}, text(name)),
    element("dd", {}, ...value),
  ];
  const part = body.status === "refunded" ? 0 : body.refunded_quantity;
  return [
    ...plain("receipt", count("tickets", body.quantity)),
    element(
      "dl",
      {},
      ...row("receipt_status", text(`status_${body.status}`)),
      ...row("receipt_at", moment(body.purchased_at)),
      ...(body.buyer_id === null ? [] : row("receipt_buyer", named(body.buyer_id))),
      ...row("receipt_number", element("code", {}, body.purchase_id)),
    ),
    part ? paragraph(text("refunded_part", { n: part })) : "",
    paragraph(text("receipt_keep")),
    actions(startAgain("another")),
  ];
}

// --- Which view is shown ---

/** Return the name of the view for what is known now. */
function currentView() {
  if (receipt?.body === null) return "receipt_loading";
  if (receipt) return receipt.body ? "receipt" : "no_receipt";
  const { order } = book;
  if (order) {
    const isOver = order.step === "held" && clock.now() >= Date.parse(order.expires_at);
    return isOver ? "expired" : order.step;
  }
  if (sale === null || isStale) return "loading";
  if (sale === undefined) return "no_item";
  const { state, opens_at, closes_at, current_stock, held } = sale;
  if (closes_at && clock.now() >= Date.parse(closes_at)) return "closed";
  if (state === "scheduled" && clock.now() < Date.parse(opens_at)) return "scheduled";
  if (state === "paused" || state === "sold_out") return state;
  return current_stock === 0 && held > 0 ? "all_held" : "choose";
}

/** Return the seconds until the inventory is read again; undefined: not while this is shown. */
function interval() {
  const view = currentView();
  if (["loading", "choose", "all_held"].includes(view)) return 1;
  if (view === "scheduled") return Date.parse(sale.opens_at) - clock.now() < SOON_MS ? 1 : 10;
  return ["paused", "sold_out"].includes(view) ? 10 : undefined;
}

let shown; // the view, and what it was made of
let isSaleShown = false;

/** Show the view for what is known now. A new one gets the focus, unless it is the first. */
function render() {
  const view = currentView();
  const { generation, item_name, per_buyer_limit, hold_seconds } = sale ?? {};
  const { expires_at, extended } = book.order ?? {};
  const now = JSON.stringify(
    [view, expires_at, extended, generation, item_name, per_buyer_limit, hold_seconds],
  );
  if (now !== shown) {
    const wasPending = page.querySelector("[data-pending]") !== null;
    shown = now;
    ticking = [];
    document.title = `${text(has(view) ? view : "shop")} – ${sale?.item_name ?? text("shop")}`;
    const content = element("section", isPending(book.order) ? { "data-pending": "" } : {});
    content.append(...VIEWS[view]());
    page.replaceChildren(
      element("p", {}, element("a", { href: address("shop") }, text("back"))),
      element("h1", {}, sale ? named(sale.item_name) : text("shop")),
      content,
      tick("p", { class: "warning" }, () => (book.isKept ? "" : text("not_kept"))),
      ...receiptLinks(),
    );
    page.dataset.view = view;
    if (isSaleShown) page.querySelector("h2")?.focus();
    isSaleShown = sale !== null;
    if (view === "bought" && wasPending) location.hash = `receipt=${book.order.purchase_id}`;
  }
  ticking.forEach((update) => update());
  watch();
}

function receiptLinks() {
  const others = book.receipts.filter((each) => each !== receipt?.id);
  if (others.length === 0) return [];
  const links = others.map((each) =>
    element("li", {}, element("a", { href: `#receipt=${each}` }, element("code", {}, each))),
  );
  return [element("h3", {}, text("receipts")), element("ul", {}, ...links)];
}

/** Read the inventory again and again, while what is shown depends on it. */
function watch() {
  if (isPolling || (sale !== null && interval() === undefined)) return;
  isPolling = true;
  const onFailure = () => {
    isUnreachable = true;
    render();
  };
  poll(`inventory?item_id=${item}`, learn, onFailure, interval).finally(() => {
    isPolling = false;
  });
}

function learn(answer) {
  isUnreachable = isStale = false;
  sale = answer.status === 200 ? answer.body : undefined;
  if (sale) book.turnTo(sale.generation);
  render();
}

/** Show the receipt that the page's address names, or none. */
async function showReceipt() {
  const id = /^#receipt=([\w-]+)$/.exec(location.hash)?.[1];
  receipt = id === undefined ? null : { id, body: null };
  render();
  if (id === undefined) return;
  const answer = await read(`purchases/${id}`, () => (isUnreachable = true));
  isUnreachable = false;
  if (receipt?.id !== id) return;
  if (answer.status === 200 && answer.body.item_id !== Number(item)) {
    location.replace(address(`shop/${answer.body.item_id}#receipt=${id}`));
    return;
  }
  receipt.body = answer.status === 200 ? answer.body : undefined;
  render();
}

function leaveReceipt() {
  if (location.hash) history.pushState(null, "", location.pathname);
  receipt = null;
  render();
}

// --- The list of all items ---

async function list(after = 0) {
  const { body } = await read(`items?after=${after}`, () => {
    page.replaceChildren(element("h1", {}, text("shop")), paragraph(text("unreachable")));
  });
  const links = body.items.map(({ item_id, item_name, state, opens_at }) =>
    element(
      "li",
      {},
      element("a", { href: address(`shop/${item_id}`) }, named(item_name)),
      " ",
      element("span", {}, text(`state_${state}`, { at: at(opens_at) })),
    ),
  );
  const before = [...page.querySelectorAll("li")];
  page.replaceChildren(
    element("h1", {}, text("shop")),
    links.length || before.length
      ? element("ul", { class: "items" }, ...before, ...links)
      : paragraph(text("no_items")),
    body.next_after ? button("more_items", () => list(body.next_after)) : "",
  );
  page.dataset.view = "list";
  if (before.length) links[0].querySelector("a").focus();
}

// --- Start ---

document.documentElement.lang = LANGUAGE;
document.title = text("shop");
const fail = () => {
  if (!document.querySelector("[role=alert]")) {
    page.before(element("p", { role: "alert", class: "warning" }, text("broken")));
  }
};
addEventListener("error", fail);
addEventListener("unhandledrejection", fail);

if (!isSecureContext) {
  page.replaceChildren(paragraph(text("insecure")));
} else if (item === "") {
  list();
} else {
  book = new OrderBook(Number(item), render);
  addEventListener("hashchange", showReceipt);
  document.addEventListener("visibilitychange", () => document.hidden || book.refresh());
  setInterval(render, 250);
  showReceipt();
  book.refresh();
  if (isPending(book.order)) book.pursue();
}
