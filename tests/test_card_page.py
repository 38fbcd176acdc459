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


def test_groups_of_customers_are_on_it_where_they_are_switched_on(card):
    assert "Groups of customers" not in page(card)
    said = {"fitted_on": "2024-01-07", "reason": "k = 3 & no more", "found": None}
    without = page(card | {"behaviour_clusters": said})
    assert "Fitted on 2024-01-07: k = 3 &amp; no more." in without
    group = {
        "cluster_id": "cluster_7",
        "name_en": "frequent",
        "name_zh": "下单频繁",
        "share": 0.25,
        "typical": {"order_days": 9},
    }
    found = {"scales": [{"measure": "order_days"}], "clusters": [group]}
    text = page(card | {"behaviour_clusters": said | {"found": found}})
    assert "<td>cluster_7</td><td>frequent</td><td>下单频繁</td><td>25.0%</td><td>9.00</td>" in text
