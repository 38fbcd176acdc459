"""RFM scoring of the same order rows by Strataflow's models and by what a user would write instead.

Each ``with_*.py`` is a script of its own, ``with_X.py ORDERS DAY OUT``: it imports its
library, notes the time, reads, scores, notes the time, and only then writes what it
found to OUT and its seconds to standard output, so that the library's start-up shows in
the whole process alone. They don't share code, because pymc-marketing lives in an
environment without this package.
"""
