"""Telling other systems who entered a segment, who left and what changed, and nothing else.

A CRM is told changes, not tables: the difference between what it has acknowledged and what readers of
``published/current`` see now. ``docs/lists.md`` says what a receiver has to do.

========================  ======================================================================
:mod:`.targets`           who is told what, from a YAML file
:mod:`.changes`           the difference as SQL, and each change as a line of JSON
:mod:`.outbox`            what a target has acknowledged, and what is on its way, on disk
:mod:`.sending`           one batch to an HTTP endpoint: signed, tried again, acknowledged
:mod:`.delivering`        all of it together
:mod:`.command`           the command line
========================  ======================================================================
"""
