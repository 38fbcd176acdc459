"""The parts of the two gates: suites as data, the tables they look at, the checking, the report, the pages.

:mod:`strataflow.validate` puts them together; nothing else needs to import them.
"""
