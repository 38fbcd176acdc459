"""A generated shop has the numbers asked for, the truth it claims, and the same bytes each time."""

import hashlib
import json
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strataflow.errors import UsageError
from strataflow.generate import generate, generate_command
from strataflow.generate.interactions import KINDS
from strataflow.generate.plan import Calendar, make_plan, season_pull
from strataflow.home import Home
from strataflow.landing import land
from strataflow.project import Project
from strataflow.sources import load_sources


def contents(folder):
    """Path and hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Asked:
    """Answers SQL about one generated shop; {data} and {truth} stand for its folders."""

    def __init__(self, generated):
        self.generated = generated
        self.folder = generated.target
        self.connection = duckdb.connect()

    def rows(self, sql):
        sql = sql.replace("{data}", str(self.folder / "data")).replace("{truth}", str(self.folder / "truth"))
        return self.connection.execute(sql).fetchall()

    def row(self, sql):
        (only,) = self.rows(sql)
        return only

    def one(self, sql):
        return self.row(sql)[0]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A year of orders, as Parquet."""
    target = tmp_path_factory.mktemp("shop") / "year"
    return Asked(generate(target, customers=6_000, orders=60_000, interactions=120_000, days=365, dirt=0.01, seed=7))


@pytest.fixture(scope="module")
def baskets(tmp_path_factory):
    """Two months of order lines, as CSV."""
    target = tmp_path_factory.mktemp("shop") / "baskets"
    return Asked(
        generate(
            target,
            customers=5_000,
            orders=60_000,
            interactions=30_000,
            days=60,
            level="lines",
            file_format="csv",
            dirt=0.02,
            seed=3,
        )
    )


# Two chunks of customers, so that threads have something to share.
SMALL = {"customers": 60_000, "orders": 70_000, "interactions": 60_000, "days": 8}


@pytest.mark.parametrize("how", [{}, {"level": "lines"}, {"level": "lines", "file_format": "csv.gz"}])
def test_same_seed_same_bytes_whatever_the_threads(tmp_path, how):
    generate(tmp_path / "one", **SMALL, **how, seed=5, threads=1)
    generate(tmp_path / "many", **SMALL, **how, seed=5, threads=7)
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_another_seed_gives_other_data(tmp_path):
    generate(tmp_path / "a", **SMALL, seed=5)
    generate(tmp_path / "b", **SMALL, seed=6)
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first.keys() == second.keys()
    data = [name for name in first if name.startswith("data/")]
    assert not [name for name in data if first[name] == second[name]]


def test_the_number_of_orders_and_interactions_is_exact(shop):
    assert shop.row("select count(*), count(distinct order_id) from '{truth}/orders.parquet'") == (60_000, 60_000)
    assert shop.one("select sum(orders) from '{truth}/customers.parquet'") == 60_000
    assert shop.one("select sum(interactions) from '{truth}/days.parquet'") == 120_000
    sound = "customer_id is not null and occurred_at is not null and kind is not null"
    delivered = f"select count(distinct interaction_id) from '{{data}}/interactions/*.parquet' where {sound}"
    assert shop.one(delivered) == 120_000


def test_the_counts_told_are_those_in_the_files(shop):
    told = json.loads((shop.folder / "generated.json").read_text(encoding="utf-8"))
    assert told == json.loads(json.dumps(shop.generated.as_dict()))
    for table, counts in told["tables"].items():
        rows = shop.one(f"select count(*) from '{{data}}/{table}/*.parquet'")
        files = len(list((shop.folder / "data" / table).iterdir()))
        assert (rows, files) == (counts["rows"], counts["files"])
        assert sum(counts["reasons"].values()) == rows
        noted = shop.row(
            f"select sum(rows), sum(refused_rows) from '{{truth}}/files.parquet' where table_name = '{table}'"
        )
        assert noted == (rows, counts["refused_rows"])
        refused = f"select count(reason_code) from '{{truth}}/dirt.parquet' where table_name = '{table}'"
        assert shop.one(refused) == counts["refused_rows"]


def test_newest_deliveries_of_orders_are_the_truth(shop):
    """The later file wins, and within a file the later change: what any reader of the files would do."""
    differing = shop.row(
        """
        with delivered as (
            select * from read_parquet('{data}/orders/*.parquet', filename = true)
            where order_id is not null and customer_id is not null and ordered_at is not null and amount is not null
        ),
        newest as (
            select * from delivered
            qualify row_number() over (partition by order_id order by filename desc, updated_at desc) = 1
        )
        select
            count(*),
            count(*) filter (
                newest.status is distinct from truth.status
                or newest.amount is distinct from truth.amount
                or newest.refunded_amount is distinct from truth.refunded_amount
                or newest.ordered_at is distinct from truth.ordered_at
                or replace(newest.customer_id, '.0', '') is distinct from truth.customer_id
            )
        from newest full join '{truth}/orders.parquet' as truth using (order_id)
        """
    )
    assert differing == (60_000, 0)


def test_lines_add_up_to_the_truth_about_orders(baskets):
    """A whole delivery replaces an order's lines, a returned line adds to them."""
    differing = baskets.row(
        """
        with delivered as (
            select *, try_cast(amount as decimal(18, 2)) as paid, is_return = 'true' as returned
            from read_csv('{data}/order_lines/*.csv', filename = true, all_varchar = true)
            where order_id <> 'order_id' and customer_id is not null
                and try_cast(ordered_at as timestamp) is not null
        ),
        good as (select * from delivered where (quantity::int < 0) = (paid < 0)),
        whole as (select order_id, max(filename) filter (not returned) as last_file from good group by order_id),
        summed as (
            select order_id, sum(paid - refunded_amount::decimal(18, 2)) as net, max(status) as status
            from good join whole using (order_id)
            where filename >= last_file
            group by order_id
        )
        select
            count(*),
            count(*) filter (net is distinct from amount - refunded_amount),
            count(*) filter (summed.status is distinct from truth.status)
        from summed full join '{truth}/orders.parquet' as truth using (order_id)
        """
    )
    assert differing == (60_000, 0, 0)


def test_every_noted_line_of_a_text_file_has_its_fault(baskets):
    """The truth names file and line; the text standing there shows the fault."""
    noted = baskets.rows("select file, line, fault from '{truth}/dirt.parquet' where table_name = 'order_lines'")
    found = {}
    for file in {file for file, _, _ in noted}:
        text = (baskets.folder / "data" / file).read_text(encoding="utf-8").splitlines()
        names = text[0].split(",")
        for line, fault in ((line, fault) for other, line, fault in noted if other == file):
            row = dict(zip(names, text[line - 1].split(","), strict=True))
            found.setdefault(fault, []).append(row)
    shows = {
        "float_id": lambda row: row["customer_id"].endswith(".0"),
        "missing_customer": lambda row: row["customer_id"] == "",
        "missing_order": lambda row: row["order_id"] == "",
        "bad_time": lambda row: row["ordered_at"] == "32.13.2024 25:61",
        "bad_amount": lambda row: row["amount"] == "12-7O",
        "negative_quantity": lambda row: row["quantity"].startswith("-") and not row["amount"].startswith("-"),
        "repeated_header": lambda row: all(name == value for name, value in row.items()),
    }
    assert found.keys() == shows.keys()
    for fault, rows in found.items():
        assert all(shows[fault](row) for row in rows), fault


def test_dirt_comes_at_the_rate_asked_for(shop):
    broken = shop.rows("select table_name, sum(broken_rows) from '{truth}/files.parquet' group by 1 order by 1")
    assert broken == [("customers", 0), ("interactions", 1_200), ("orders", 600)]


def test_a_shop_without_dirt_has_only_duplicates_to_refuse(tmp_path):
    clean = Asked(generate(tmp_path / "clean", customers=500, orders=20_000, interactions=0, days=30, dirt=0))
    assert clean.rows("select distinct fault from '{truth}/dirt.parquet'") == [("superseded",)]
    assert not (clean.folder / "sources" / "interactions.yml").exists()


def test_few_customers_bring_most_of_the_revenue(shop):
    top_fifth, once, without = shop.row(
        """
        with ranked as (
            select net_amount::double as net, orders, row_number() over (order by net_amount desc) as place
            from '{truth}/customers.parquet'
        )
        select
            sum(net) filter (place <= 0.2 * (select count(*) from ranked where orders > 0)) / sum(net),
            count(*) filter (orders = 1) / count(*) filter (orders > 0),
            count(*) filter (orders = 0) / count(*)
        from ranked
        """
    )
    assert 0.65 < top_fifth < 0.9
    assert 0.3 < once < 0.6
    assert 0.1 < without < 0.35


def test_rates_are_those_that_were_planted(shop):
    """Customers present all year order about as often as their own rate says."""
    expected, ordered = shop.row(
        """
        select sum(orders_per_year), sum(orders) from '{truth}/customers.parquet'
        where behaviour in ('occasional', 'regular', 'loyal', 'business')
            and registered_at < '2022-12-31' and is_alive_at_end
        """
    )
    assert ordered == pytest.approx(expected, rel=0.05)


def test_who_has_left_orders_no_more(shop):
    after, left = shop.row(
        """
        select count(*) filter (last_order_date >= churn_date), count(churn_date)
        from '{truth}/customers.parquet'
        """
    )
    assert after == 0
    assert left > 500
    alive, gone = shop.row(
        """
        select
            median(date '2023-12-31' - last_order_date) filter (is_alive_at_end),
            median(date '2023-12-31' - last_order_date) filter (not is_alive_at_end)
        from '{truth}/customers.parquet' where behaviour in ('regular', 'loyal') and orders > 0
        """
    )
    assert alive < 30 < gone


def test_orders_follow_the_season(shop):
    """Each day gets its share of the orders: weekdays, time of year, shopping holidays."""
    days = shop.rows("select date, orders from '{truth}/days.parquet' order by 1")
    pull = [season_pull(day) for day, _ in days]
    for (day, orders), share in zip(days, pull, strict=True):
        wanted = 60_000 * share / sum(pull)
        assert abs(orders - wanted) < 6 * wanted**0.5 + 0.1 * wanted, day
    by_day = dict(days)
    assert by_day[date(2023, 11, 11)] > 1.5 * by_day[date(2023, 10, 14)]


def test_hours_are_those_of_the_shop_not_of_utc(shop):
    share = """
        select avg((hour(ordered_at + interval 8 hour) between {hours})::int) from '{truth}/orders.parquet'
    """
    assert shop.one(share.replace("{hours}", "19 and 22")) > 0.28
    assert shop.one(share.replace("{hours}", "1 and 5")) < 0.03


def test_refunds_come_in_a_later_file(shop):
    full, partial, too_early = shop.row(
        """
        with refunds as (
            select *, strptime(regexp_extract(filename, '_(\\d{8})', 1), '%Y%m%d')::date as received
            from read_parquet('{data}/orders/*.parquet', filename = true)
            where refunded_amount > 0
        )
        select
            count(*) filter (refunded_amount = amount) / 60_000,
            count(*) filter (refunded_amount < amount) / 60_000,
            count(*) filter (received < (ordered_at + interval 8 hour)::date + 3)
        from refunds
        """
    )
    assert full == pytest.approx(0.01, abs=0.002)
    assert partial == pytest.approx(0.02, abs=0.003)
    assert too_early == 0


def test_some_orders_arrive_late_and_none_before_they_were_placed(shop):
    late, early, latest = shop.row(
        """
        with first_delivery as (
            select order_id, min(ordered_at + interval 8 hour)::date as order_date,
                min(strptime(regexp_extract(filename, '_(\\d{8})', 1), '%Y%m%d'))::date as received
            from read_parquet('{data}/orders/*.parquet', filename = true)
            where customer_id is not null and ordered_at is not null and amount is not null and order_id is not null
            group by order_id
        )
        select avg((received > order_date)::int), count(*) filter (received < order_date), max(received - order_date)
        from first_delivery
        """
    )
    assert late == pytest.approx(0.01, abs=0.002)
    assert early == 0
    assert 2 <= latest <= 7


def test_planted_pairs_show_the_lift_that_was_planted(baskets):
    """Lift counted from the delivered lines against the lift computed from the draw's own probabilities."""
    measured = baskets.rows(
        """
        with lines as (
            select distinct order_id, product_id
            from read_csv('{data}/order_lines/*.csv', all_varchar = true)
            where order_id in (select order_id from '{truth}/orders.parquet')
        ),
        pairs as (select * from '{truth}/affinities.parquet'),
        counted as (
            select
                product_a,
                (select count(*) from lines where product_id = product_a) as with_a,
                (select count(*) from lines where product_id = product_b) as with_b,
                (
                    select count(*) from lines as a join lines as b using (order_id)
                    where a.product_id = product_a and b.product_id = product_b
                ) as with_both
            from pairs
        )
        select expected_lift, lift, with_both * 60_000 / (with_a * with_b), with_both, orders_with_both
        from counted join pairs using (product_a)
        """
    )
    assert len(measured) == 8
    for expected, told, lift, both, told_both in measured:
        assert both == told_both
        assert lift == pytest.approx(told, rel=1e-9)
        assert lift == pytest.approx(expected, rel=4 / both**0.5 + 0.02)
        assert lift > 3


def test_campaigns_cause_the_orders_they_claim(shop):
    """Who received a campaign orders more in the two weeks after than who did not, and redeems its coupon."""
    redeemed, caused, marked = shop.row(
        """
        select
            (select count(distinct interaction_id) from '{data}/interactions/*.parquet'
                where kind = 'coupon_redeemed' and campaign_id is not null and customer_id is not null
                    and occurred_at is not null),
            (select sum(orders_caused) from '{truth}/campaigns.parquet'),
            (select count(campaign_id) from '{truth}/orders.parquet')
        """
    )
    assert redeemed == caused == marked > 500
    received, others = shop.row(
        """
        with receipts as (
            select distinct replace(customer_id, '.0', '') as customer_id
            from '{data}/interactions/*.parquet' where kind = 'campaign_received' and campaign_id = 'C0010'
        ),
        period as (
            select first_date, last_date from '{truth}/campaigns.parquet' where campaign_id = 'C0010'
        ),
        bought as (
            select customer_id, count(*) as orders from '{truth}/orders.parquet', period
            where order_date between first_date and last_date + 13 group by 1
        )
        select
            avg(coalesce(bought.orders, 0)) filter (receipts.customer_id is not null),
            avg(coalesce(bought.orders, 0)) filter (receipts.customer_id is null)
        from '{truth}/customers.parquet' as customers
        left join bought using (customer_id)
        left join receipts using (customer_id)
        where behaviour = 'bargain_hunter' and coalesce(is_alive_at_end, true)
        """
    )
    assert received > 1.2 * others


def test_invitations_name_the_customer_they_brought(shop):
    named, newcomers, in_time, channel = shop.row(
        """
        select
            (select count(distinct referred_customer_id) from '{data}/interactions/*.parquet'
                where kind = 'invited' and referred_customer_id is not null),
            (select count(*) from '{truth}/referrals.parquet'),
            (select count(*) from '{truth}/referrals.parquet' where invited_at <= registered_at),
            (select count(*) from '{truth}/customers.parquet'
                where referred_by is not null and source_channel = 'referral')
        """
    )
    assert named == newcomers == in_time == channel > 30


def test_kinds_of_interactions_are_in_the_dictionary(shop):
    seeds = Path(__file__).parents[1] / "dbt_project" / "seeds" / "interaction_kinds.csv"
    known = set(shop.connection.execute(f"select kind from '{seeds}'").fetchall())
    made = set(shop.rows("select distinct kind from '{data}/interactions/*.parquet' where kind is not null"))
    assert made == {(kind,) for kind in KINDS}
    assert made <= known


def test_nobody_acts_before_being_registered(shop):
    early = shop.one(
        """
        select count(*) from '{truth}/orders.parquet' join '{truth}/customers.parquet' using (customer_id)
        where ordered_at < registered_at
        """
    )
    assert early == 0


def test_a_change_of_the_clock_moves_no_order_to_another_day(tmp_path):
    """New York in the spring: one business day has 23 hours."""
    shop = Asked(
        generate(
            tmp_path / "spring",
            customers=3_000,
            orders=30_000,
            interactions=0,
            days=3,
            start=date(2023, 3, 11),
            founders=1,
            time_zone="America/New_York",
            dirt=0,
        )
    )
    moved = """
        select count(*) from '{truth}/orders.parquet'
        where order_date <> (ordered_at at time zone 'UTC' at time zone 'America/New_York')::date
    """
    assert shop.one(moved) == 0
    calendar = Calendar(shop.generated.plan)
    assert (calendar.utc(calendar_midnights()) // 3600 % 24).tolist() == [5, 5, 4]


def calendar_midnights():
    import numpy as np

    return np.arange(3) * 86_400


def test_a_longer_history_has_the_same_days():
    short, usual = (_plan(size="L", days=days) for days in (110, 1096))
    assert short.customers == usual.customers == 2_000_000
    assert short.orders / 110 == pytest.approx(usual.orders / 1096, rel=1e-4)
    newcomers = [plan.customers * (1 - plan.founders) / plan.days for plan in (short, usual)]
    assert newcomers[0] == pytest.approx(newcomers[1])


def _plan(**given):
    usual = {
        "size": "S", "customers": None, "orders": None, "interactions": None, "days": 100, "start": None, "seed": 1,
        "level": "orders", "file_format": "parquet", "dirt": 0.0, "founders": None, "time_zone": "UTC",
        "currency": "EUR",
    }  # fmt: skip
    return make_plan(**{**usual, **given})


def test_no_day_of_a_small_shop_is_refused_for_what_was_planted(tmp_path):
    """Of a day of thirty rows a few broken ones are a tenth: the command that is printed has to work all the same."""
    small = Asked(generate(tmp_path / "small", customers=800, orders=4_000, interactions=4_000, days=120))
    described = load_sources(small.folder / "sources").sources
    limits = {source.table: source.limits.max_quarantine_ratio for source in described}
    worst = dict(
        small.rows("select table_name, max(refused_rows / rows) from '{truth}/files.parquet' where rows > 0 group by 1")
    )
    assert worst["orders"] > 0.058
    assert all(share <= limits[table] for table, share in worst.items())


def test_descriptions_are_accepted(shop, baskets):
    for generated, tables in (
        (shop, {"orders", "interactions", "customers"}),
        (baskets, {"order_lines", "interactions", "customers", "products"}),
    ):
        described = load_sources(generated.folder / "sources")
        assert {source.table for source in described.sources} == tables
        assert described.shop.time_zone == "Asia/Shanghai"
        for source in described.sources:
            (file,) = source.files_of(date(2023, 1, 31))
            assert file.is_relative_to(generated.folder / "data")


@pytest.mark.parametrize(
    "how", [{"level": "orders", "file_format": "parquet"}, {"level": "lines", "file_format": "csv.gz"}]
)
def test_landing_refuses_exactly_the_rows_that_are_broken(tmp_path, how):
    """By table, file, line and reason; all other rows land, on the business day they were planted on."""
    days = 10
    shop = Asked(
        generate(
            tmp_path / "shop", customers=1_500, orders=9_000, interactions=12_000, days=days, dirt=0.03, seed=11, **how
        )
    )
    project, home, first = Project.locate(), Home.at(tmp_path / "home"), date(2023, 1, 1)
    sources = load_sources(shop.folder / "sources", project)
    report = land(home, project, sources, first, first + timedelta(days=days - 1))
    refused = shop.rows(
        f"""
        select "table", source_file, source_line, reason_code
        from read_parquet('{home.lake}/quarantine/*/*.parquet') order by all
        """
    )
    planted = shop.rows(
        """
        select table_name, file, line, reason_code
        from '{truth}/dirt.parquet' where reason_code is not null order by all
        """
    )
    assert refused == planted
    for table, counts in shop.generated.tables.items():
        landed = sum(day.manifest["rows_landed"] for day in report.landings if day.table == table)
        assert landed == counts["rows"] - counts["refused_rows"]
    table = "order_lines" if how["level"] == "lines" else "orders"
    elsewhere = shop.row(
        f"""
        select count(distinct order_id), count(*) filter (landed.order_date is distinct from truth.order_date)
        from read_parquet('{home.lake}/{table}/*/*.parquet') as landed
        full join '{{truth}}/orders.parquet' as truth using (order_id, customer_id)
        """
    )
    assert elsewhere == (9_000, 0)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"size": "XL"}, "unknown size"),
        ({"days": 0}, "history of 0 days"),
        ({"dirt": 0.5}, "dirt is 0.5"),
        ({"customers": 0}, "customers is 0"),
        ({"time_zone": "Mars/Base"}, "unknown time zone"),
        ({"time_zone": "../etc"}, "unknown time zone"),
        ({"file_format": "xml"}, "unknown file_format"),
        ({"customers": 10_000, "orders": 10}, "too few for 10,000 customers"),
        ({"customers": 1, "orders": 100, "interactions": 0, "seed": 3}, "orders can't be met"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(tmp_path, wrong, told):
    with pytest.raises(UsageError, match=told):
        generate(tmp_path / "shop", **{"days": 30, **wrong})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="not empty"):
        generate(tmp_path, customers=10, orders=50, days=5)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_run_that_breaks_off_leaves_no_half_shop(tmp_path):
    def stop(step, done, total):
        if step == "write orders":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "shop", customers=100, orders=500, days=5, progress=stop)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    customers=st.integers(60, 3_000),
    orders_each=st.floats(2, 8),
    interactions_each=st.sampled_from([0, 3, 10]),
    days=st.integers(1, 40),
    level=st.sampled_from(["orders", "lines"]),
    file_format=st.sampled_from(["parquet", "csv"]),
    dirt=st.sampled_from([0.0, 0.02, 0.2]),
    seed=st.integers(0, 2**40),
)
def test_any_shop_keeps_its_word(tmp_path_factory, customers, orders_each, interactions_each, **rest):
    orders = round(customers * orders_each)
    target = tmp_path_factory.mktemp("any") / "shop"
    shop = Asked(
        generate(target, customers=customers, orders=orders, interactions=customers * interactions_each, **rest)
    )
    first, last, count, nobody = shop.row(
        """
        select min(order_date), max(order_date), count(*), count(*) filter (customers.customer_id is null)
        from '{truth}/orders.parquet' left join '{truth}/customers.parquet' as customers using (customer_id)
        """
    )
    assert (count, nobody) == (orders, 0)
    assert 0 <= (first - date(2023, 1, 1)).days <= (last - date(2023, 1, 1)).days < rest["days"]
    assert shop.one("select min(amount - refunded_amount) from '{truth}/orders.parquet'") >= 0
    assert shop.one("select count(*) from '{truth}/customers.parquet'") == customers
    load_sources(target / "sources")


def test_the_command_tells_what_it_wrote(tmp_path):
    target = tmp_path / "shop"
    said = CliRunner().invoke(
        generate_command,
        [str(target), "--customers", "200", "--orders", "900", "--days", "10", "--start", "2024-02-25"],
        catch_exceptions=False,
    )
    assert said.exit_code == 0
    assert "200 customers over 10 days" in said.stdout
    assert "--from 2024-02-25 --date 2024-03-05" in said.stdout
    assert (target / "data" / "orders" / "orders_20240229.parquet").is_file()
