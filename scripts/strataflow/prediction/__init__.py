"""Numbers about the future: who leaves, what a customer is worth, what comes next.

Every model here is compared with a baseline on the shop's own past, and where
it can't beat the baseline the baseline is used and the reason is written down.
"""
