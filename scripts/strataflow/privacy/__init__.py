"""Personal data: what never gets in as it stands, and what goes out on request.

Landing replaces contact data by pseudonyms (:mod:`strataflow.privacy.pseudonyms`)
and refuses to take in what by its name is contact data
(:mod:`strataflow.privacy.contact`).
"""
