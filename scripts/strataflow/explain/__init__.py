"""Why a customer is where the published tables say, in facts and in sentences.

Staff ask "why is she no champion any more, and what would it take?". The answer stands in
half a dozen published tables; this package collects it for one customer or many
(:mod:`strataflow.explain.facts`) and says it in English or Chinese
(:mod:`strataflow.explain.told`). It reads what was published and computes nothing anew,
so it can't say anything else than the tables.
"""

from strataflow.explain.facts import explain, explained
from strataflow.explain.told import render, sentences

__all__ = ["explain", "explained", "render", "sentences"]
