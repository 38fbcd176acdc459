"""The governed vocabulary of tags: what may be said of a customer, and in which words.

Two colleagues who write 客户首单 and 首购 mean the same people. The seeds
``tag_dictionary`` and ``tag_aliases`` map every spelling to one tag; this
package reads them, refuses them if they contradict themselves, and finds the
tag that a text means.
"""

from strataflow.tags.lint import Problem, lint
from strataflow.tags.spelling import fold
from strataflow.tags.vocabulary import Nearest, Vocabulary

__all__ = ["Nearest", "Problem", "Vocabulary", "fold", "lint"]
