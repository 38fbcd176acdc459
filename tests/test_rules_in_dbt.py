"""Edits of dbt's vars and seeds that can't be right: named in words, before any table rests on them."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from strataflow.build import build
from strataflow.errors import StepFailed
from strataflow.home import Home
from strataflow.project import Project
from strataflow.sources import Shop
from worlds import START, random_world, write_lake

SHOP = Shop(name="corner", time_zone="UTC", currency="USD")
DAY = START + timedelta(days=35)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    write_lake(home, Project.locate(), random_world(11))
    return home


def edited(folder: Path, file: str, before: str, after: str) -> Project:
    """The rules with one edit."""
    shutil.copytree(Project.locate().dbt, folder / "dbt_project", ignore=shutil.ignore_patterns("target", "logs"))
    (folder / "expectations").mkdir()
    path = folder / "dbt_project" / file
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
    return Project(folder)


def test_a_ladder_that_does_not_exist_is_named_with_those_that_do_and_dbt_itself_is_silent(home, tmp_path, capfd):
    project = edited(tmp_path / "rules", "dbt_project.yml", "leading_ladder: ecommerce", "leading_ladder: ecomerce")
    with pytest.raises(StepFailed, match="leading_ladder is 'ecomerce'; it must be ecommerce, high_ticket or activity"):
        build(home, project, SHOP, DAY)
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")
    assert "ecomerce" in (home.root / "logs" / "dbt.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("general_winback,false,false,false", "general_winback,false,false,true"),
        ("no_orders,,,", "nothing_yet,,,"),
    ],
)
def test_classes_that_leave_out_a_combination_stop_the_build(before, after, home, tmp_path, capfd):
    project = edited(tmp_path / "rules", "seeds/rfm_classes.csv", before, after)
    # The lint asks that what a tag restates exists.
    dictionary = project.tag_dictionary.read_text(encoding="utf-8")
    restated = dictionary.replace(f"rfm_class,{before.split(',')[0]},", f"rfm_class,{after.split(',')[0]},")
    project.tag_dictionary.write_text(restated, encoding="utf-8")
    with pytest.raises(StepFailed, match="test assert_rfm_classes_cover_every_combination"):
        build(home, project, SHOP, DAY)
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "")


@pytest.mark.parametrize("kind", ["review_posted", ""])
def test_a_key_of_a_seed_that_stands_twice_or_is_empty_stops_the_build(kind, home, tmp_path):
    project = edited(tmp_path / "rules", "seeds/interaction_kinds.csv", "\npage_view,", f"\n{kind},")
    with pytest.raises(StepFailed, match="test is_key_interaction_kinds_kind"):
        build(home, project, SHOP, DAY)
