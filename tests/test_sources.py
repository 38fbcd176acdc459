"""Source descriptions: what is accepted, and that every mistake is told with file, key and what is allowed."""

from datetime import date
from pathlib import Path
from textwrap import dedent

import duckdb
import pytest
import yaml

from small_shops import CUSTOMERS_ONLY, HEADER, ORDERS, PROJECT, small_shop
from strataflow.check import check_source
from strataflow.errors import InputError, UsageError
from strataflow.expressions import MACROS, BadExpression, parse
from strataflow.project import Project, canonical_tables
from strataflow.reasons import REASONS
from strataflow.sources import Files, Format, Limits, load_sources


@pytest.fixture
def shop(tmp_path):
    return small_shop(tmp_path / "shop", ORDERS)


def fault_of(shop, text: str) -> str:
    shop.describe(text, "orders")
    with pytest.raises(UsageError) as caught:
        shop.sources()
    message = str(caught.value)
    assert "orders.yml" in message
    return message


# -- the project --------------------------------------------------------------


def test_the_project_lies_around_the_package_or_where_it_is_said_to_lie(tmp_path, monkeypatch):
    assert Project.locate().root == Path(__file__).parents[1]
    (tmp_path / "dbt_project").mkdir()
    monkeypatch.setenv("STRATAFLOW_PROJECT", str(tmp_path))
    assert Project.locate().dbt == tmp_path / "dbt_project"
    monkeypatch.setenv("STRATAFLOW_PROJECT", str(tmp_path / "dbt_project"))
    with pytest.raises(UsageError, match="no folder dbt_project"):
        Project.locate()


def test_canonical_tables_say_what_a_source_must_yield():
    orders = canonical_tables(PROJECT)["orders"]
    assert orders.key == ("order_id",)
    assert (orders.event_time, orders.date_column, orders.hour_column) == ("ordered_at", "order_date", "order_hour")
    assert orders.by_name["status"].default == "'completed'"
    assert [column.name for column in orders.columns][-3:] == ["source", "source_file", "source_line"]
    assert not {"order_date", "source"} & {column.name for column in orders.mappable}


def test_canonical_tables_that_cannot_be_read_are_an_error(tmp_path):
    folder = tmp_path / "dbt_project" / "models" / "staging"
    folder.mkdir(parents=True)
    with pytest.raises(UsageError, match="not defined"):
        canonical_tables(Project(tmp_path))
    (folder / "_lake__sources.yml").write_text("sources: [{tables: [{name: orders}]}]", encoding="utf-8")
    with pytest.raises(UsageError, match="can't be read"):
        canonical_tables(Project(tmp_path))


# -- what ships ---------------------------------------------------------------


def test_complete_journey_is_described():
    sources = load_sources(PROJECT.sources / "complete_journey", PROJECT)
    assert (sources.shop.time_zone, sources.shop.currency) == ("America/New_York", "USD")
    assert {source.name: (source.table, source.kind) for source in sources.sources} == {
        "campaigns": ("interactions", "split"),
        "coupon_redemptions": ("interactions", "split"),
        "demographics": ("customers", "snapshot"),
        "products": ("products", "snapshot"),
        "transactions": ("order_lines", "split"),
    }
    assert [source.name for source in sources.feeding(["order_lines"])] == ["transactions"]
    assert len(sources.feeding()) == 5


def test_the_template_is_a_valid_description_that_lands(tmp_path):
    """What the template shows, works; with every key it documents."""
    shop = small_shop(tmp_path / "shop")
    text = (PROJECT.sources / "template.yml").read_text("utf-8")
    shop.describe(text, "template")
    (source,) = shop.sources().sources
    said = yaml.safe_load(text)
    assert set(said) == {name for name, of in type(source).model_fields.items() if not of.exclude}
    shop.deliver("prices.csv", "sku,unit\nP1,2.50\n")
    shop.deliver(
        "orders/2026/orders_20260105_a.csv",
        "Order No;Customer;Date;Total;Refund;State;Shop;Item\n"
        "1001;17850.0;05/01/2026 10:30;1.234,50;;paid;web;P1\n"
        "C1002;17850.0;05/01/2026 10:31;-20,00;;paid;web;P1\n"
        "1003;9999;05/01/2026 10:31;1,00;0,50;paid;test;P1\n",
    )
    shop.land("2026-01-05")
    assert shop.landed("orders", "order_id, customer_id, ordered_at::varchar, amount::varchar, status, channel") == [
        ("1001", "17850", "2026-01-05 09:30:00", "1234.50", "paid", "web"),
        ("1002", "17850", "2026-01-05 09:31:00", "20.00", "cancelled", "web"),
    ]
    assert shop.quarantined("source_line, reason_code") == [(4, "filtered")]


def test_the_guide_explains_every_key_and_every_reason():
    guide = (PROJECT.root / "docs" / "sources.md").read_text("utf-8")
    keys = ["name", "table", "description", "columns", "filters", "later_rows"]
    for place, model in (("format", Format), ("files", Files), ("limits", Limits)):
        keys += [f"{place}.{name}" for name in model.model_fields]
    assert [key for key in [*keys, *REASONS, *MACROS] if f"`{key}" not in guide] == []


# -- mistakes -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("table: orders", "table: order"), ["table: there is no table 'order'", "order_lines"]),
        (("amount: amount", "amout: amount"), ["columns.amout", "did you mean amount?", "refunded_amount"]),
        (("amount: amount", "order_date: amount"), ["columns.order_date", "landing fills this column itself"]),
        (("  customer_id: customer_id\n", ""), ["orders needs customer_id: who ordered"]),
        (("type: csv", "type: xlsx"), ["format.type: 'xlsx' is not allowed", "'csv', 'jsonl' or 'parquet'"]),
        (("type: csv", "type: csv\n  delimeter: ';'"), ["format.delimeter: no such key (did you mean delimiter?)"]),
        (("type: csv", "type: csv\n  delimiter: ';;'"), ["format.delimiter: must be one ASCII character", "';;'"]),
        (("type: csv", "type: csv\n  delimiter: '\"'"), ["can't be the quote"]),
        (("type: csv", "type: csv\n  encoding: utf8000"), ["format.encoding", "not an encoding Python knows"]),
        (("type: csv", "type: csv\n  encoding: rot13"), ["not a text encoding"]),
        (("type: csv", "type: csv\n  time_zone: Europe/Berln"), ["'Europe/Berln'", "did you mean Europe/Berlin"]),
        (("type: csv", "type: csv\n  header: false"), ["needs column_names"]),
        (("type: csv", "type: csv\n  column_names: [a]"), ["column_names are for files without a header"]),
        (("type: csv", "type: csv\n  thousands: '.'"), ["can't be the same character"]),
        (("type: csv", "type: csv\n  date_formats: [dd.mm.yyyy]"), ["has no % in it"]),
        (("type: csv", "type: parquet\n  delimiter: ','"), ["'delimiter' means nothing for parquet"]),
        (("path: orders_{date}.csv", "path: ../x.csv"), ["files.path: must lie below `root`"]),
        (("path: orders_{date}.csv", "path: 'x_{day}.csv'"), ["only {date}"]),
        (("path: orders_{date}.csv", "path: 'x_{date:yyyy}.csv'"), ["write strftime patterns"]),
        (("root: delivered", "split_by: at"), ["not from both"]),
        (("root: delivered", "if_missing: skip"), ["files.if_missing", "'error' or 'empty'"]),
        (("amount: amount", "amount: (select 1)"), ["columns.amount: subqueries are not allowed"]),
        (("amount: amount", "amount: amount x"), ["columns.amount: leave out the alias"]),
        (("root: delivered", "package: ../x"), ["files.package: is not the name of a Python package"]),
        (("root: delivered", "package: ..x"), ["files.package: is not the name of a Python package"]),
        (("type: csv", "type: csv\n  date_formats: ['%d.%m.%Y', '%Q/%d']"), ["format.date_formats", "'%Q/%d'"]),
        (("name: orders", "name: My Orders"), ["name:", "My Orders"]),
    ],
)
def test_a_mistake_is_told_with_its_key_and_what_is_allowed(shop, change, told):
    text = dedent(ORDERS)
    assert change[0] in text
    message = fault_of(shop, text.replace(*change, 1))
    for part in told:
        assert part in message


def test_all_mistakes_of_a_file_are_told_at_once(shop):
    message = fault_of(
        shop, ORDERS.replace("type: csv", "type: xls") + "    limits: {max_quarantine_ratio: 2}\n    x: 1\n"
    )
    assert "format.type" in message
    assert "limits.max_quarantine_ratio" in message
    assert "x: no such key" in message


def test_limits_and_filters_are_checked(shop):
    message = fault_of(shop, ORDERS + "    limits: {expected: [missing]}\n    filters: [{name: a, where: b}]\n")
    assert "'missing' is not a reason code; allowed: malformed_record" in message
    assert "filters.0.where: no such key" in message
    assert "filters.0.keep: is required" in message
    assert "not_a_snapshot" not in message


def test_later_rows_are_for_orders(tmp_path):
    shop = small_shop(tmp_path / "shop", CUSTOMERS_ONLY + "    later_rows: add\n")
    with pytest.raises(UsageError, match="rows of customers replace each other"):
        shop.sources()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", "not valid YAML"),
        ("- a", "holds no keys"),
        ("[a, b]: c\nname: b\n", "a key is a list"),
        ("? {a: b}\n: c\n", "a key is a list or a mapping"),
        ("name: a\nname: b\n", "key 'name' stands twice (line 2)"),
    ],
)
def test_what_is_no_description(shop, text, told):
    assert told in fault_of(shop, text)


def test_a_folder_that_is_no_shop(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        load_sources(tmp_path / "none", PROJECT)
    with pytest.raises(UsageError, match=r"shop\.yml is missing"):
        load_sources(tmp_path, PROJECT)
    (tmp_path / "shop.yml").write_text("name: s\ntime_zone: Nowhere/Land\ncurrency: EUR\n", encoding="utf-8")
    with pytest.raises(UsageError, match="not an IANA time zone"):
        load_sources(tmp_path, PROJECT)
    (tmp_path / "shop.yml").write_text("name: s\ntime_zone: UTC\ncurrency: Euro\n", encoding="utf-8")
    with pytest.raises(UsageError, match="currency"):
        load_sources(tmp_path, PROJECT)
    (tmp_path / "shop.yml").write_text("name: s\ntime_zone: UTC\ncurrency: EUR\n", encoding="utf-8")
    with pytest.raises(UsageError, match="describes no source"):
        load_sources(tmp_path, PROJECT)


def test_two_sources_of_one_name(shop):
    shop.describe(ORDERS, "copy")
    with pytest.raises(UsageError, match="two sources are named orders"):
        shop.sources()


# -- where files lie ----------------------------------------------------------


def test_variables_of_the_environment_in_paths(shop, monkeypatch, tmp_path):
    shop.describe(ORDERS.replace("root: delivered", "root: ${INBOX}"))
    with pytest.raises(UsageError, match="needs the environment variable INBOX"):
        shop.sources().sources[0].files_of(date(2026, 1, 5))
    monkeypatch.setenv("INBOX", str(tmp_path / "inbox"))
    path = tmp_path / "inbox" / "orders_2026-01-05.csv"
    path.parent.mkdir()
    path.write_text(HEADER, encoding="utf-8")
    assert shop.sources().sources[0].files_of(date(2026, 1, 5)) == [path]


def test_a_package_that_is_not_installed(shop):
    shop.describe(ORDERS.replace("root: delivered", "package: no_such_package"))
    with pytest.raises(UsageError, match="pip install no-such-package"):
        shop.sources().sources[0].root()


@pytest.mark.parametrize("package", ["nope.sub", "os", "strataflow.nope", "os.path"])
def test_a_package_without_a_folder_is_no_package(shop, package):
    shop.describe(ORDERS.replace("root: delivered", f"package: {package}"))
    with pytest.raises(UsageError, match=r"orders\.yml: files\.package"):
        shop.sources().sources[0].root()


def test_a_package_inside_another_is_found_without_running_code(shop, tmp_path, monkeypatch):
    inner = tmp_path / "outer_package" / "inner"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").write_text("raise SystemExit('imported')")
    (inner / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    shop.describe(ORDERS.replace("root: delivered", "package: outer_package.inner"))
    assert shop.sources().sources[0].root() == inner


@pytest.mark.parametrize("path", ["/etc/prices.csv", "../prices.csv", "a/../../prices.csv"])
def test_a_lookup_lies_below_the_root(shop, path):
    lookup = f"    lookups:\n      price: {{path: {path}, key: {{order_id: id}}}}\n"
    assert "lookups.price.path: must lie below `root`" in fault_of(shop, ORDERS + lookup)


@pytest.mark.parametrize("outside", ["/etc", "..", "a/../.."])
def test_variables_do_not_lead_out_of_the_root(shop, monkeypatch, outside):
    lookup = "    lookups:\n      price: {path: '${SHOP}/x.csv', key: {order_id: id}}\n"
    shop.describe(ORDERS.replace("orders_{date}", "${SHOP}/orders_{date}") + lookup)
    (source,) = shop.sources().sources
    shop.deliver("west/orders_2026-01-05.csv", HEADER)
    monkeypatch.setenv("SHOP", "west")
    assert source.files_of(date(2026, 1, 5)) == [shop.delivered / "west" / "orders_2026-01-05.csv"]
    assert source.lookup_file("price") == shop.delivered / "west" / "x.csv"
    monkeypatch.setenv("SHOP", outside)
    for asked in (lambda: source.files_of(date(2026, 1, 5)), lambda: source.lookup_file("price")):
        with pytest.raises(UsageError, match=r"must lie below `root`"):
            asked()


def test_file_names_may_hold_what_patterns_are_made_of(tmp_path):
    shop = small_shop(tmp_path / "a shop [1]", ORDERS.replace("csv", "parquet"))
    duckdb.sql("select 'A' order_id, 'C' customer_id, date '2026-01-05' ordered_at, 1 amount").write_parquet(
        str(shop.delivered / "orders_2026-01-05.parquet")
    )
    assert shop.land("2026-01-05").rows_landed == 1


# -- expressions --------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "a; drop table b", "a, b", "a as b", "a b", "a from t", "a where b", "(select 1)", "exists(from t)",
        "a in (select b from t)", "sum(a)", "first(a)", "row_number() over ()", "*", "columns('a')", "a limit 1",
        "distinct a", "a union select b", "now()", "current_date", "CURRENT_TIMESTAMP", "today()", "random()",
        "uuid()", "nextval('s')", "age(a)", "getvariable('x')", "current_setting('threads')", "$1", "", "  ",
        "from t", "a order by 1", "with x as (select 1) select 1", "copy t to 'x'", "'unclosed", "error('x')",
        "epoch(ago(interval 1 day))", "AGO(interval 1 day)", "current_localtimestamp()", "current_localtime()",
        "current_user()", "version()", "current_role()", "current_catalog()", "session_user()", "user()",
        "has_table_privilege('t', 'select')", "pg_typeof(a)", "pg_postmaster_start_time()", "inet_client_addr()",
        "main.ago(interval 1 day)", "a.ago()", "\"ago\"(interval 1 day)", "get_block_size('x')", "current_schema()",
        "list_transform([1], lambda x: ago(interval 1 day))",
    ],
)  # fmt: skip
def test_what_an_expression_may_not_say(sql):
    with pytest.raises(BadExpression):
        parse(sql)


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("a", [("a",)]),
        ('"Order No"', [("Order No",)]),
        ("order", [("order",)]),
        ("a -- the id", [("a",)]),
        ("case when starts_with(a, 'C') then -b else b end", [("a",), ("b",)]),
        ("campaign.sent", [("campaign", "sent")]),
        ("list_transform(string_split(a, ','), lambda x: x || b)", [("a",), ("b",)]),
        ("json_object('k', a, 'l', current_date_of_file)", [("a",), ("current_date_of_file",)]),
        ("clean_id(a) || money(b) || number(c) || shop_currency()", [("a",), ("b",), ("c",)]),
        ("'fixed'", []),
        ("age(a, b)", [("a",), ("b",)]),
        ("split_part(a, '-', 1) || nullif(b, '')", [("a",), ("b",)]),
        ("fmod(a, 2) + list_sum([b, c])", [("a",), ("b",), ("c",)]),
    ],
)
def test_what_an_expression_reads(sql, columns):
    assert sorted(parse(sql).columns) == sorted(columns)


def test_a_comment_cannot_swallow_the_query_around_it(shop):
    shop.describe(ORDERS.replace("amount: amount", 'amount: "amount -- as delivered"'))
    shop.deliver("orders_2026-01-05.csv", HEADER + "A,C,2026-01-05,5\n")
    assert shop.land("2026-01-05").rows_landed == 1


def test_an_expression_that_does_not_fit_the_columns_is_told_with_its_key(shop):
    shop.describe(ORDERS.replace("amount: amount", "amount: amount * amount"))
    shop.deliver("orders_2026-01-05.csv", HEADER + "A,C,2026-01-05,5\n")
    with pytest.raises(UsageError, match=r"orders\.yml, columns\.amount: .*No function matches"):
        shop.land("2026-01-05")


def test_a_fixed_text_without_quotes_is_explained(shop):
    shop.describe(ORDERS + "      channel: web\n")
    shop.deliver("orders_2026-01-05.csv", HEADER + "A,C,2026-01-05,5\n")
    with pytest.raises(InputError) as caught:
        shop.land("2026-01-05")
    for part in ("no column 'web'", "order_id, customer_id", "columns.channel in orders.yml", "\"'web'\""):
        assert part in str(caught.value)


# -- sources check ------------------------------------------------------------


def test_check_tells_types_nulls_samples_and_refusals_in_plain_words(shop):
    path = shop.describe(ORDERS + "      channel: place\n")
    rows = "".join(f"A{n},C{n % 3},2026-01-0{1 + n % 5},{n}.5,{'web' if n % 2 else ''},z\n" for n in range(20))
    shop.deliver("orders_2026-01-05.csv", HEADER.strip() + ",place,note\n" + rows + "A,,2026-01-05,x,web,\nbad\n")
    check = check_source(PROJECT, path)
    assert (check.rows_read, check.rows_landed, check.is_whole_file) == (22, 20, True)
    assert (check.first_date, check.last_date) == ("2026-01-01", "2026-01-05")
    columns = {column.column: column for column in check.columns}
    channel = columns["channel"]
    assert (channel.nulls, channel.distinct, channel.samples) == (10, 1, ("web",))
    assert columns["status"].filled_by == "(default) 'completed'"
    assert {refusal.code: refusal.rows for refusal in check.refusals} == {"malformed_record": 1, "missing_required": 1}
    assert check.unmapped == ("note",)
    assert not check.is_good
    text = "\n".join(check.lines())
    for part in (
        "read: all 22 rows; 20 land, 2 are refused",
        "channel (varchar) from place",
        "empty in 10 of 20",
        "line 23: 1 field where the header has 6 | bad",
        "columns of the file that nothing reads: note",
        "a day like this would be refused (9.09% refused, the limit is 5.00%)",
    ):
        assert part in text
    assert check.as_dict()["is_good"] is False
    assert not shop.home.root.exists()


def test_check_prints_nothing_that_a_terminal_would_obey(shop):
    evil = "\x1b[2J\x1b]0;pwned\x07\u202e\u200b"
    path = shop.describe(ORDERS + "      channel: place\n    limits: {max_quarantine_ratio: 1}\n")
    rows = f"A,C,2026-01-05,1,{evil},x\nB,C,2026-01-05,{evil},web,x\n{evil}\n"
    shop.deliver("orders_2026-01-05.csv", f"{HEADER.strip()},place,note{evil}\n" + rows)
    check = check_source(PROJECT, path)
    text = "".join(check.lines())
    assert (check.rows_read, check.rows_landed) == (3, 1)
    assert text.isprintable()
    assert "\\x1b[2J" in text
    assert "note\\x1b" in text


def test_check_looks_at_the_first_rows_only(shop):
    path = shop.describe(ORDERS)
    shop.deliver("orders_2026-01-05.csv", HEADER + "".join(f"A{n},C,2026-01-05,1\n" for n in range(5000)))
    check = check_source(PROJECT, path, rows=100)
    assert (check.rows_read, check.is_whole_file, check.is_good) == (100, False, True)
    assert "read: the first 100 rows" in "\n".join(check.lines())
    assert check_source(PROJECT, path, day=date(2026, 1, 5)).rows_read == 1000
    with pytest.raises(InputError, match="no file to look at"):
        check_source(PROJECT, path, day=date(2026, 1, 6))


def test_check_of_a_file_where_nothing_lands(shop):
    path = shop.describe(ORDERS)
    shop.deliver("orders_2026-01-05.csv", HEADER + ",,,\n")
    assert check_source(PROJECT, path).lines()[-1] == "verdict: no row lands; a day like this would be empty"
