// All words of the pages, here in English. The browser chooses the language; others are modules of
// their own, so that each visitor loads one.

export const english = {
  shop: "Tickets",
  loading: "Looking up the sale …",
  unreachable: "The shop does not answer. This page goes on asking.",
  insecure: "This page needs a secure connection: open it with https.",
  broken: "This page has a fault. Your order is kept: load the page again.",
  not_kept: "This browser keeps no data for this page. Leave it open until you have your tickets.",

  no_items: "There is nothing on sale.",
  more_items: "More",
  back: "All items",
  no_item: "There is no such sale",
  no_item_next: "The address may be wrong, or the sale was deleted.",

  state_scheduled: "opens {at}",
  state_open: "on sale",
  state_sold_out: "sold out",
  state_paused: "paused",
  state_closed: "over",

  scheduled: "Not open yet",
  scheduled_at: "The sale opens {at}.",
  opens_in: "It opens in {time}.",
  opens_in_spoken: "The sale opens in {time}.",
  paused: "The sale is paused",
  paused_next: "This page goes on looking. Nothing is sold until the sale goes on.",
  closed: "The sale is over",
  closed_at: "It ended {at}.",
  sold_out: "Sold out",
  sold_out_next: "Tickets that are refunded would be on sale here. This page goes on looking.",
  all_held: "All tickets are sold or reserved",
  all_held_next:
    "Others are paying for the last ones. The first of these may come back at {at}. " +
    "This page goes on looking.",

  choose: "Choose your tickets",
  free_one: "1 ticket is free.",
  free_other: "{n} tickets are free.",
  free_few: "That is less than you have chosen. All of them or none are sold.",
  quantity: "How many?",
  buyer: "Your e-mail address or account",
  buyer_help:
    "A buyer can have {n} tickets of this sale. Letters, digits and signs, without spaces.",
  buyer_wrong: "Please say who you are: letters, digits and signs, without spaces or umlauts.",
  hold: "Reserve",
  buy: "Buy now",
  hold_help: "You then have {time} to pay.",

  place: "Asking for your tickets …",
  confirm: "Buying your tickets …",
  extend: "Asking for more time …",
  release: "Giving your tickets back …",
  asking: "Your order is sent. Please wait.",
  busy: "The shop is busy. Your order is kept, and is sent again in {time}.",
  no_answer:
    "There was no answer. Your order is sent again in {time}. It cannot buy twice.",
  offline: "You are offline. Your order is kept, and is sent when the network is back.",
  opening: "The sale opens in a moment. Your order is sent again in {time}.",
  in_doubt:
    "The tickets seem to be gone, but an earlier request of yours was not answered. " +
    "It may still get them: this page asks once more in {time}.",
  other_tab: "Another tab of this browser is at it. Its result is shown here, too.",
  hurry: "Send now",

  tickets_one: "1 ticket",
  tickets_other: "{n} tickets",
  held: "Reserved for you",
  held_until: "They are yours until {at}. Pay before that.",
  time_left: "Time left: {time}",
  time_left_spoken: "You have {time} left to pay.",
  pay: "Pay (a demonstration: no money moves)",
  extend_action: "More time",
  extend_later: "You have all the time that there is. Later you can ask for more.",
  release_action: "Give back",
  expired: "Your reservation has ended",
  expired_next: "It ended {at}. You have paid nothing.",
  released: "Given back",
  released_next: "The tickets are on sale again. You have paid nothing.",
  again: "Choose again",

  bought: "They are yours",
  show_receipt: "Show the receipt",
  paid_twice: "They were paid for before. Your payment {payment} is refunded.",
  receipt: "Receipt",
  receipt_keep: "Keep this page's address: it shows this receipt at any time.",
  receipt_number: "Number",
  receipt_at: "Bought",
  receipt_buyer: "Buyer",
  receipt_status: "State",
  status_confirmed: "valid",
  status_refunded: "refunded",
  refunded_part: "{n} of them are refunded",
  no_receipt: "There is no such receipt",
  no_receipt_next: "The address may be incomplete.",
  another: "Buy another",
  receipts: "Your receipts in this browser",

  refused: "That did not work",
  refused_sold_out: "All tickets are sold. Another buyer was faster.",
  refused_all_held:
    "All tickets are sold or reserved by others. The first of these may come back at {at}.",
  refused_not_enough_left: "Only {n} are left, and you asked for more. Choose fewer.",
  refused_buyer_limit_reached:
    "This buyer has as many tickets as the sale allows, and can get {n} more.",
  refused_sale_not_open_scheduled: "The sale is not open yet. It opens {at}.",
  refused_sale_not_open_paused: "The sale is paused. Try again when it goes on.",
  refused_sale_not_open_closed: "The sale is over. It ended {at}.",
  refused_holds_not_offered: "This sale has no reservations. Buy the tickets at once.",
  refused_hold_expired:
    "Your reservation had ended, and the tickets went to others. " +
    "Payment {payment} is refunded.",
  refused_hold_expired_unpaid: "Your reservation had ended. You have paid nothing.",
  refused_hold_released: "Your tickets were given back before. Payment {payment} is refunded.",
  refused_payment_reused: "This payment was for other tickets. It is refunded.",
  refused_idempotency_key_reused: "This order was mixed up with another one. Choose again.",
  refused_not_found: "The sale is not there any more.",
  refused_invalid_request: "The shop did not understand the order: {detail}",
  refused_unauthorized: "Only members can buy. Sign in, and come back to this page.",
  refused_forbidden: "The shop refused the order, and nothing was bought: {detail}",
  refused_other: "The shop refused the order, and nothing was bought.",

  board_free: "Free",
  board_held: "Reserved",
  board_sold: "Sold",
  board_rate: "{n} sold per second",
  board_last: "The last one was sold {time} ago",
  board_stalled: "Stalled: tickets are free and asked for, and none was sold for a minute",
  board_old: "The service does not answer. These are the numbers of {at}.",

  seconds_one: "1 second",
  seconds_other: "{n} seconds",
  minutes_one: "1 minute",
  minutes_other: "{n} minutes",
  hours_one: "1 hour",
  hours_other: "{n} hours",
  days_one: "1 day",
  days_other: "{n} days",
};

const LANGUAGES = {
  en: async () => english,
  de: async () => (await import("./german.js")).german,
};
const wanted = navigator.languages.map((each) => each.slice(0, 2).toLowerCase());
export let LANGUAGE = wanted.find((each) => each in LANGUAGES) ?? "en";
const WORDS = await LANGUAGES[LANGUAGE]().catch(() => {
  LANGUAGE = "en"; // a shop in the other language is better than none
  return english;
});

// Dates as the visitor writes them, where that is the language of the page.
const LOCALE = navigator.languages.find((each) => each.toLowerCase().startsWith(LANGUAGE));
const PLURALS = new Intl.PluralRules(LANGUAGE);

/** Return whether there is such a text. */
export const has = (name) => name in WORDS;

/** Return a text with its {places} filled in. */
export function text(name, places = {}) {
  const pattern = WORDS[name];
  if (pattern === undefined) throw new Error(`no text ${name}`);
  return pattern.replace(/\{(\w+)\}/g, (_, place) => String(places[place] ?? "–"));
}

/** Return a text with a number, as in "1 ticket". */
export const count = (name, n) => text(`${name}_${PLURALS.select(n)}`, { n });

/** Return date and time, or only the time where it is the day of `now`. at: ISO 8601. */
export function moment(at, now) {
  const date = new Date(at);
  const isToday = now !== undefined && date.toDateString() === new Date(now).toDateString();
  const dateStyle = isToday ? undefined : "medium";
  return new Intl.DateTimeFormat(LOCALE ?? LANGUAGE, { dateStyle, timeStyle: "medium" }).format(
    date,
  );
}

/** Return a time that passes, as in "9:05" or "1 day 2:00:00". */
export function countdown(ms) {
  const total = Math.max(0, Math.ceil(ms / 1000));
  const [days, hours] = [Math.floor(total / 86_400), Math.floor(total / 3600) % 24];
  const [minutes, seconds] = [Math.floor(total / 60) % 60, String(total % 60).padStart(2, "0")];
  if (!days && !hours) return `${minutes}:${seconds}`;
  const clock = `${hours}:${String(minutes).padStart(2, "0")}:${seconds}`;
  return days ? `${count("days", days)} ${clock}` : clock;
}

/** Return a length of time in words, rounded to its largest unit, as in "9 minutes". */
export function spoken(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds < 60) return count("seconds", seconds);
  if (seconds < 3600) return count("minutes", Math.round(seconds / 60));
  if (seconds < 86_400) return count("hours", Math.round(seconds / 3600));
  return count("days", Math.round(seconds / 86_400));
}
