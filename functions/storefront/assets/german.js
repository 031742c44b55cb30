// The words of the pages in German: each text of texts.js.

export const german = {
  shop: "Tickets",
  loading: "Der Verkauf wird geladen …",
  unreachable: "Der Shop antwortet nicht. Diese Seite fragt weiter.",
  insecure: "Diese Seite braucht eine sichere Verbindung: bitte mit https öffnen.",
  broken: "Diese Seite hat einen Fehler. Ihre Bestellung bleibt erhalten: bitte neu laden.",
  not_kept:
    "Dieser Browser speichert nichts für diese Seite. Lassen Sie sie offen, bis Sie Ihre " +
    "Tickets haben.",

  no_items: "Zurzeit gibt es nichts zu kaufen.",
  more_items: "Mehr",
  back: "Alle Angebote",
  no_item: "Diesen Verkauf gibt es nicht",
  no_item_next: "Die Adresse ist falsch, oder der Verkauf wurde gelöscht.",

  state_scheduled: "beginnt {at}",
  state_open: "im Verkauf",
  state_sold_out: "ausverkauft",
  state_paused: "unterbrochen",
  state_closed: "beendet",

  scheduled: "Noch nicht geöffnet",
  scheduled_at: "Der Verkauf beginnt {at}.",
  opens_in: "Noch {time}.",
  opens_in_spoken: "Der Verkauf beginnt in {time}.",
  paused: "Der Verkauf ist unterbrochen",
  paused_next: "Diese Seite fragt weiter. Bis es weitergeht, wird nichts verkauft.",
  closed: "Der Verkauf ist beendet",
  closed_at: "Er endete {at}.",
  sold_out: "Ausverkauft",
  sold_out_next: "Zurückgegebene Tickets gäbe es hier. Diese Seite fragt weiter.",
  all_held: "Alle Tickets sind verkauft oder reserviert",
  all_held_next:
    "Andere bezahlen gerade die letzten. Die ersten davon können um {at} wieder frei werden. " +
    "Diese Seite fragt weiter.",

  choose: "Tickets auswählen",
  free_one: "1 Ticket ist frei.",
  free_other: "{n} Tickets sind frei.",
  free_few: "Das sind weniger als gewählt. Verkauft werden alle oder keines.",
  quantity: "Wie viele?",
  buyer: "Ihre E-Mail-Adresse oder Ihr Konto",
  buyer_help:
    "Von diesem Verkauf kann man {n} Tickets haben. Buchstaben, Ziffern und Zeichen, ohne " +
    "Leerzeichen.",
  buyer_wrong:
    "Bitte sagen Sie, wer Sie sind: Buchstaben, Ziffern und Zeichen, ohne Leerzeichen und " +
    "Umlaute.",
  hold: "Reservieren",
  buy: "Jetzt kaufen",
  hold_help: "Sie haben dann {time} Zeit zum Bezahlen.",

  place: "Ihre Tickets werden angefragt …",
  confirm: "Ihre Tickets werden gekauft …",
  extend: "Mehr Zeit wird angefragt …",
  release: "Ihre Tickets werden zurückgegeben …",
  asking: "Ihre Bestellung ist gesendet. Bitte warten.",
  busy: "Der Shop ist ausgelastet. Ihre Bestellung bleibt und wird in {time} erneut gesendet.",
  no_answer:
    "Es kam keine Antwort. Ihre Bestellung wird in {time} erneut gesendet. Sie kann nicht " +
    "zweimal kaufen.",
  offline: "Sie sind offline. Ihre Bestellung bleibt und wird gesendet, sobald es wieder geht.",
  opening: "Der Verkauf beginnt gleich. Ihre Bestellung wird in {time} erneut gesendet.",
  in_doubt:
    "Die Tickets scheinen weg zu sein, aber eine frühere Anfrage von Ihnen blieb ohne Antwort. " +
    "Sie kann sie noch bekommen: diese Seite fragt in {time} noch einmal.",
  other_tab: "Ein anderer Tab dieses Browsers ist dabei. Sein Ergebnis erscheint auch hier.",
  hurry: "Jetzt senden",

  tickets_one: "1 Ticket",
  tickets_other: "{n} Tickets",
  held: "Für Sie reserviert",
  held_until: "Sie gehören Ihnen bis {at}. Bezahlen Sie vorher.",
  time_left: "Noch {time}",
  time_left_spoken: "Sie haben noch {time} zum Bezahlen.",
  pay: "Bezahlen (zur Vorführung: es fließt kein Geld)",
  extend_action: "Mehr Zeit",
  extend_later: "Mehr Zeit gibt es im Augenblick nicht. Später können Sie darum bitten.",
  release_action: "Zurückgeben",
  expired: "Ihre Reservierung ist abgelaufen",
  expired_next: "Sie endete {at}. Sie haben nichts bezahlt.",
  released: "Zurückgegeben",
  released_next: "Die Tickets sind wieder im Verkauf. Sie haben nichts bezahlt.",
  again: "Neu auswählen",

  bought: "Sie gehören Ihnen",
  show_receipt: "Beleg ansehen",
  paid_twice: "Sie waren schon bezahlt. Ihre Zahlung {payment} wird erstattet.",
  receipt: "Beleg",
  receipt_keep: "Bewahren Sie die Adresse dieser Seite auf: sie zeigt den Beleg jederzeit.",
  receipt_number: "Nummer",
  receipt_at: "Gekauft",
  receipt_buyer: "Käufer",
  receipt_status: "Status",
  status_confirmed: "gültig",
  status_refunded: "erstattet",
  refunded_part: "{n} davon sind erstattet",
  no_receipt: "Diesen Beleg gibt es nicht",
  no_receipt_next: "Die Adresse ist vielleicht unvollständig.",
  another: "Weitere kaufen",
  receipts: "Ihre Belege in diesem Browser",

  refused: "Das hat nicht geklappt",
  refused_sold_out: "Alle Tickets sind verkauft. Jemand anderes war schneller.",
  refused_all_held:
    "Alle Tickets sind verkauft oder für andere reserviert. Die ersten können um {at} wieder " +
    "frei werden.",
  refused_not_enough_left: "Es sind nur noch {n}, weniger als gewählt. Wählen Sie weniger.",
  refused_buyer_limit_reached:
    "Dieser Käufer hat so viele Tickets, wie der Verkauf erlaubt, und kann noch {n} bekommen.",
  refused_sale_not_open_scheduled: "Der Verkauf hat noch nicht begonnen. Er beginnt {at}.",
  refused_sale_not_open_paused:
    "Der Verkauf ist unterbrochen. Versuchen Sie es, wenn er weitergeht.",
  refused_sale_not_open_closed: "Der Verkauf ist beendet. Er endete {at}.",
  refused_holds_not_offered: "Hier gibt es keine Reservierung. Kaufen Sie die Tickets sofort.",
  refused_hold_expired:
    "Ihre Reservierung war abgelaufen, und die Tickets gingen an andere. Die Zahlung {payment} " +
    "wird erstattet.",
  refused_hold_expired_unpaid: "Ihre Reservierung war abgelaufen. Sie haben nichts bezahlt.",
  refused_hold_released:
    "Ihre Tickets wurden vorher zurückgegeben. Die Zahlung {payment} wird erstattet.",
  refused_payment_reused: "Diese Zahlung war für andere Tickets. Sie wird erstattet.",
  refused_idempotency_key_reused:
    "Diese Bestellung wurde mit einer anderen verwechselt. Wählen Sie neu.",
  refused_not_found: "Diesen Verkauf gibt es nicht mehr.",
  refused_invalid_request: "Der Shop hat die Bestellung nicht verstanden: {detail}",
  refused_unauthorized:
    "Nur Mitglieder können kaufen. Melden Sie sich an, und kommen Sie auf diese Seite zurück.",
  refused_forbidden: "Der Shop hat die Bestellung abgelehnt, es wurde nichts gekauft: {detail}",
  refused_other: "Der Shop hat die Bestellung abgelehnt, es wurde nichts gekauft.",

  board_free: "Frei",
  board_held: "Reserviert",
  board_sold: "Verkauft",
  board_rate: "{n} Verkäufe pro Sekunde",
  board_last: "Zuletzt verkauft vor {time}",
  board_stalled: "Stockt: Tickets sind frei und gefragt, seit einer Minute wurde keines verkauft",
  board_old: "Der Dienst antwortet nicht. Das sind die Zahlen von {at}.",

  seconds_one: "1 Sekunde",
  seconds_other: "{n} Sekunden",
  minutes_one: "1 Minute",
  minutes_other: "{n} Minuten",
  hours_one: "1 Stunde",
  hours_other: "{n} Stunden",
  days_one: "1 Tag",
  days_other: "{n} Tage",
};
