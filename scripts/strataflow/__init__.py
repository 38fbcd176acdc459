"""Strataflow: from a shop's orders and interactions to customer segments, once a day, repeatably."""

__version__ = "0.1.0"
