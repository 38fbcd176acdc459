"""Why a row can be refused: the codes that stand in quarantine and in every landing's manifest.

One list, because the code is the contract between landing, the limits in a
source description, the gates and whoever repairs the data at night.
"""

from __future__ import annotations

MALFORMED_RECORD = "malformed_record"
REPEATED_HEADER = "repeated_header"
FILTERED = "filtered"
UNPARSEABLE = "unparseable"
MISSING_REQUIRED = "missing_required"
NO_RATE = "no_rate"
UNDATED = "undated"
DUPLICATE_IN_DAY = "duplicate_in_day"

REASONS: dict[str, str] = {
    MALFORMED_RECORD: "the record can't be read: wrong number of fields, a quote never closed, no JSON object",
    REPEATED_HEADER: "the header again, as in files glued together",
    FILTERED: "a filter of the source leaves the row out on purpose",
    UNPARSEABLE: "a value is there but can't be read as the type of its column",
    MISSING_REQUIRED: "a column that must have a value has none",
    NO_RATE: "the amount is in a currency that has no rate into the shop's own on that day",
    UNDATED: "the row of a file split by date has no readable date, so no day can be told",
    DUPLICATE_IN_DAY: "a later version of the same key came on the same day and took its place",
}

ERASED = "erased"
"""Not a reason to refuse: the row is of a customer who was erased, and nothing of it is kept but that it was read."""

NEVER_COUNTED = (FILTERED, REPEATED_HEADER)
"""Codes that say nothing about the quality of the data and so never count towards a limit."""
