"""The model card's page: complete, closed in itself, equal for equal cards."""

import json
from html.parser import HTMLParser

import pytest

from past_shops import AS_OF, LEDGERS, PROJECT, connect, shop
from strataflow.prediction import churn
from strataflow.prediction.card_page import page


@pytest.fixture(scope="module")
def card():
    return churn.train(connect(shop()), PROJECT, LEDGERS, AS_OF, 60).card


class Outline(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]


def test_it_shows_every_candidate_and_every_group_and_needs_nothing_else(card):
    text = page(card)
    outline = Outline()
    outline.feed(text)
    assert outline.links == []
    assert "script" not in outline.seen
    assert outline.seen.count("circle") == len(card["calibration"])
    assert outline.seen.count("tr") == 3 + len(card["candidates"]) + len(card["calibration"]) + len(card["importance"])
    assert all(f"{value['log_loss']:.4f}" in text for value in card["candidates"].values())
    assert "class=used" in text


def test_a_card_read_from_its_file_gives_the_same_page(card):
    assert page(json.loads(json.dumps(card))) == page(card)


def test_a_shop_without_a_model_has_a_page_with_the_reason():
    refused = {
        "as_of": "2024-01-07",
        "horizon_days": 90,
        "used": "baseline",
        "reason": "3 < 500 customers",
        "candidates": {},
    }
    text = page(refused)
    assert "3 &lt; 500 customers" in text
    assert "<svg" not in text
