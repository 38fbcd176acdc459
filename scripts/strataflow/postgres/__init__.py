"""Published versions in PostgreSQL, for BI tools that want a server.

The home stays the truth; the database follows it. What readers are led to there is decided by rows, not by the
definitions of views: a day is copied where no view shows it, and one transaction moves the rows that say which copy
and which day count, so whoever queries sees all of a day or nothing of it, and never waits for the writer.

:mod:`~strataflow.postgres.session` talks to the server, :mod:`~strataflow.postgres.layout` says what lies where,
:mod:`~strataflow.postgres.contract` what a change of a table means, :mod:`~strataflow.postgres.migration` carries it
out, :mod:`~strataflow.postgres.load` copies a day, :mod:`~strataflow.postgres.follow` brings the database in line
with the home.
"""

from strataflow.postgres.follow import (
    STEP,
    Followed,
    follow,
    forget,
    keep_days_setting,
    layout_of,
    print_followed,
    record,
)
from strataflow.postgres.session import SETTING, dsn_of

__all__ = [
    "SETTING",
    "STEP",
    "Followed",
    "dsn_of",
    "follow",
    "forget",
    "keep_days_setting",
    "layout_of",
    "print_followed",
    "record",
]
