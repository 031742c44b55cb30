"""The lines of an export: JSON Lines (jsonlines.org), and CSV (RFC 4180) for a spreadsheet."""

import csv
import io
import re
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from ticketing.api.schemas import Format, Hold
from ticketing.model import ExportPart, Purchase


class PurchaseLine(Struct, frozen=True, tag_field="type", tag="purchase"):
    """One purchase. quantity - refunded_quantity = tickets."""

    purchase_id: str
    item_id: int
    generation: int
    status: str
    quantity: int
    refunded_quantity: int
    tickets: int
    buyer_id: str | None
    purchased_at: str
    refunded_at: str | None
    payment_reference: str | None

    @classmethod
    def of(cls, purchase: Purchase) -> "PurchaseLine":
        return cls(
            purchase_id=purchase.purchase_id,
            item_id=purchase.item_id,
            generation=purchase.generation,
            status=purchase.status,
            quantity=purchase.quantity,
            refunded_quantity=purchase.refunded_quantity,
            tickets=purchase.kept_quantity,
            buyer_id=purchase.buyer_id,
            purchased_at=purchase.purchased_at,
            refunded_at=purchase.refunded_at,
            payment_reference=purchase.payment_reference,
        )


class HoldLine(Hold, frozen=True, tag_field="type", tag="hold"):
    """One hold, as `GET /holds/{hold_id}` shows it."""


class TotalLine(Struct, frozen=True, tag_field="type", tag="total"):
    """The last line of an export: without it, some purchases are missing.

    purchases: lines of them before it. sold: tickets by the counters. agrees: no problem was found.
    """

    item_id: int
    generation: int
    quantity: int
    refunded_quantity: int
    tickets: int
    purchases: int
    sold: int | None
    agrees: bool
    checked_at: str
    problems: list[str]


COLUMNS: Final = tuple(
    dict.fromkeys(("type", *PurchaseLine.__struct_fields__, *TotalLine.__struct_fields__))
)
COLUMNS_WITH_HOLDS: Final = tuple(dict.fromkeys((*COLUMNS, *HoldLine.__struct_fields__)))
# What makes a formula of a cell, at its beginning and after each character at which a spreadsheet
# may split a line, whatever it is told to split at. Some have a full-width form.
_FORMULA: Final = re.compile(r"""(^|[,;|\t\r\n])(?=["\s]*[=+\-@\uff1d\uff0b\uff0d\uff20])""")


def export_text(part: ExportPart, shape: Format) -> str:
    """Return the lines of a part of an export. All parts together are one file."""
    lines: list[PurchaseLine | HoldLine | TotalLine] = [
        *(PurchaseLine.of(each) for each in part.purchases),
        *(HoldLine.of(each) for each in part.holds or ()),
    ]
    if total := part.total:
        lines.append(
            TotalLine(
                item_id=part.item_id,
                generation=part.generation,
                quantity=total.quantity,
                refunded_quantity=total.refunded,
                tickets=total.quantity - total.refunded,
                purchases=total.purchases,
                sold=total.sold,
                agrees=not total.problems,
                checked_at=total.checked_at,
                problems=list(total.problems),
            )
        )
    if shape is Format.JSON_LINES:
        return msgspec.json.Encoder().encode_lines(lines).decode()
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS if part.holds is None else COLUMNS_WITH_HOLDS)
    if part.is_first:
        writer.writeheader()
    for line in lines:
        fields = msgspec.to_builtins(line)
        writer.writerow({name: _cell(value) for name, value in fields.items()})
    return text.getvalue()


def next_link(shape: Format, cursor: str) -> str:
    """Return the Link to the next part, relative to the request's URL (RFC 8288)."""
    return f'<?{urlencode({"format": shape, "cursor": cursor})}>; rel="next"'


def _cell(value: Any) -> str:
    """Return the text of a cell that no spreadsheet takes for a formula.

    An apostrophe goes before what would make one, as OWASP recommends (CSV injection).
    """
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list():
            return _cell(" ".join(value))
        case str():
            return _FORMULA.sub(r"\1'", value)
        case _:
            return str(value)
