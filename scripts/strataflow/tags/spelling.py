"""When two texts are the same word: after folding, and only then."""

from __future__ import annotations

import unicodedata
from functools import lru_cache


@lru_cache(maxsize=20_000)  # the same few thousand cells are read several times a build
def fold(text: str) -> str:
    """The text without what typing adds: width, case and blanks.

    Width goes by Unicode's NFKC (ＶＩＰ is VIP), case by Unicode's case folding. Blanks are removed and
    not collapsed, because Chinese is written with and without them (首单 客户 is 首单客户); so are
    characters without width, which come along when text is copied from chats and web pages. Hyphens,
    underscores and word forms stay: what they may mean is for an alias to say. Folding is idempotent.
    """
    folded = _folded_once(text)
    # NFKC can make a new blank (of ¨, say), and taking that out can bring letters together that compose.
    while folded != text:
        text, folded = folded, _folded_once(folded)
    return folded


def _folded_once(text: str) -> str:
    written = "".join(character for character in text if not _is_blank(character))
    # Decomposed before, as a few letters fold in another way when they carry an accent.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", written).casefold())


def _is_blank(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")
