"""Contact data never gets in as it stands: not into the lake, not into quarantine, not into a message."""

from __future__ import annotations

import hashlib
import hmac
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from small_shops import PROJECT, SmallShop, small_shop
from strataflow.check import check_source
from strataflow.errors import InputError, UsageError
from strataflow.privacy.contact import kind_of
from strataflow.privacy.pseudonyms import FUNCTIONS, SETTING, pseudonym_of

KEY = "a key of thirty-two characters.."
MEMBERS = """
    name: members
    table: customers
    description: All members.
    format: {type: csv}
    files: {root: delivered, path: members.csv}
    columns:
      customer_id: phone_pseudonym(mobile)
      registered_at: since
      region: region
      phone_hash: mobile
      email_hash: email
      name_hash: full_name
      wechat_hash: wechat
"""
PLAIN = MEMBERS[: MEMBERS.index("    columns")]
HEADER = "mobile,since,region,email,full_name,wechat,address\n"
ANN = '0170 1234567,2024-01-01,north,Ann@Example.org,"Ann ""Annie"" Ott",ann_ott,7 Hidden Lane\n'
SECRETS = (b"1234567", b"xample.org", b"Annie", b"Ott", b"ann_ott", b"Hidden")


def of(kind: str, text: str, key: str = KEY, code: str | None = "49") -> str | None:
    return pseudonym_of(kind, text, key.encode(), code)


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv(SETTING, KEY)


@pytest.fixture
def shop(tmp_path):
    shop = small_shop(tmp_path, MEMBERS)
    with (tmp_path / "sources" / "shop.yml").open("a") as file:
        file.write("phone_country_code: +49\n")
    return shop


def everything_kept(shop: SmallShop) -> bytes:
    """All bytes of the home, with the values of Parquet files read out of their pages."""
    found = [path.read_bytes() for path in shop.home.root.rglob("*") if path.is_file()]
    found += [
        json.dumps(pq.ParquetFile(path).read().to_pylist(), default=str, ensure_ascii=False).encode()
        for path in shop.home.root.rglob("*.parquet")
    ]
    return b"\n".join(found)


# ---------------------------------------------------------------- the hash


def test_the_hash_is_hmac_sha256_by_the_book():
    expected = hmac.new(KEY.encode(), b"phone:+491701234567".replace(b"+", b""), hashlib.sha256).hexdigest()
    assert of("phone", "+49 170 1234567") == expected[:32]
    long_key = "k" * 100
    assert of("id", "x", long_key) == hmac.new(long_key.encode(), b"id:x", hashlib.sha256).hexdigest()[:32]


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("phone", ["+49 170 1234567", "0049-170-1234567", "0170/1234567", "+49 (0) 170 123 45 67", "０１７０1234567"]),
        ("email", ["ann@example.org", " Ann@Example.ORG ", "ANN＠example.org"]),
        ("name", ["Ann Ott", "  ann   OTT ", "ANN\u00a0Ott"]),
        ("wechat", ["oAbC12", " oAbC12 "]),
        ("id", ["17850", "17850.0", " 17850"]),
    ],
)
def test_one_person_written_in_many_ways_is_one(kind, written):
    assert len({of(kind, text) for text in written}) == 1
    assert of(kind, written[0]) != of(kind, written[0], "another key, of another shop")


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("86", ["13812345678", "+86 138 1234 5678", "8613812345678"]),
        ("1", ["(212) 555-0147", "1-212-555-0147", "+1 212 555 0147"]),
        ("39", ["06 1234 5678", "+39 06 1234 5678"]),
        ("7", ["8 912 345-67-89", "+7 912 3456789"]),
    ],
)
def test_numbers_are_national_where_they_say_nothing_else(code, written):
    assert len({of("phone", text, code=code) for text in written}) == 1


def test_what_is_none_has_no_pseudonym_and_kinds_do_not_meet():
    assert [of("phone", "n/a"), of("phone", "1234"), of("email", "none"), of("id", "nan"), of("name", " ")] == [
        None
    ] * 5
    assert len({of(kind, "1234567@x.org") for kind in FUNCTIONS.values()}) == len(FUNCTIONS)


# ---------------------------------------------------------------- landing


def test_contact_data_lands_as_pseudonyms_and_nowhere_else(shop, key):
    shop.deliver("members.csv", HEADER + ANN)
    shop.land("2024-01-01")
    columns = "customer_id, phone_hash, email_hash, name_hash, wechat_hash, region"
    expected = of("phone", "+491701234567")
    assert shop.landed("customers", columns) == [
        (
            expected,
            expected,
            of("email", "ann@example.org"),
            of("name", 'ann "annie" ott'),
            of("wechat", "ann_ott"),
            "north",
        )
    ]
    assert not [secret for secret in SECRETS if secret in everything_kept(shop)]


def test_refused_rows_keep_pseudonyms_and_no_text(shop, key):
    shop.describe(MEMBERS + "    limits: {max_quarantine_ratio: 1}\n")
    rows = [
        ANN,  # replaced by the last row of the same key
        ANN.replace("2024-01-01", "+49 170 1234567"),  # a number got into the column of dates
        ANN.replace("0170 1234567", ""),  # no id
        ANN.replace(",ann_ott", ""),  # a field too few
        ANN.replace("north", "ring 0170 1234567 or ann@example.org").replace("2024-01-01", "never"),
        ANN.replace("north", "south"),
    ]
    shop.deliver("members.csv", HEADER + "".join(rows))
    report = shop.land("2024-01-01")
    assert (report.rows_landed, report.rows_quarantined) == (1, 5)
    who = of("phone", "01701234567")
    kept = shop.quarantined("source_line, reason_code, customer_id, raw, reason")
    assert [(line, code, person) for line, code, person, *_ in kept] == [
        (2, "duplicate_in_day", who),
        (3, "unparseable", who),
        (4, "missing_required", None),
        (5, "malformed_record", None),
        (6, "unparseable", who),
    ]
    assert kept[3][3] is None
    assert json.loads(kept[0][3])["region"] == "north"
    assert json.loads(kept[4][3])["region"] == "ring (withheld) or (withheld)"
    assert kept[1][4].startswith("registered_at: '(withheld)' is not a date")
    assert not [secret for secret in SECRETS if secret in everything_kept(shop)]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_columns_that_nothing_reads_are_not_kept_either(tmp_path, form):
    """Without a key: nothing of the mapping is contact data, but what is refused would be kept whole."""
    shop = small_shop(
        tmp_path,
        f"""
        name: orders
        table: orders
        description: Orders with the buyer's contact data in them.
        format: {{type: {form}}}
        files: {{root: delivered, path: "orders_{{date}}.{form}"}}
        columns: {{order_id: order_id, customer_id: customer_id, ordered_at: at, amount: amount}}
        limits: {{max_quarantine_ratio: 1}}
        """,
    )
    row = {"order_id": "o1", "customer_id": "c1", "at": "2024-01-01", "amount": "much", "buyer_phone": "0170 1234567"}
    path = shop.delivered / f"orders_2024-01-01.{form}"
    if form == "parquet":
        pq.write_table(pa.table({name: [value] for name, value in row.items()}), path)
    else:
        path.write_text(json.dumps(row) + "\n")
    shop.land("2024-01-01")
    ((raw, who),) = shop.quarantined("raw, customer_id")
    assert json.loads(raw) == {
        "order_id": "o1",
        "customer_id": "c1",
        "ordered_at": "2024-01-01 00:00:00",
        "amount": None,
    }
    assert who == "c1"
    assert b"1234567" not in everything_kept(shop)


def test_an_address_in_a_refused_row_is_not_kept_whatever_its_column_is_called(tmp_path):
    shop = small_shop(
        tmp_path,
        """
        name: orders
        table: orders
        description: Orders with remarks.
        format: {type: csv}
        files: {root: delivered, path: "orders_{date}.csv"}
        columns: {order_id: id, customer_id: who, ordered_at: at, amount: amount}
        limits: {max_quarantine_ratio: 1}
        """,
    )
    shop.deliver(
        "orders_2024-01-01.csv", "id,who,at,amount,remark\no1,c1,2024-01-01,x,ask ann@example.org\no2,c2,?,1,-\n"
    )
    shop.land("2024-01-01")
    first, second = shop.quarantined("raw")
    assert "ann@example.org" not in first[0]
    assert second[0] == "o2,c2,?,1,-"


# ---------------------------------------------------------------- the key


def test_without_a_key_contact_data_is_refused_and_nothing_lands(shop, monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    shop.deliver("members.csv", HEADER + ANN)
    with pytest.raises(UsageError, match="no key is set to replace it") as refused:
        shop.land("2024-01-01")
    assert SETTING in refused.value.where
    assert not list(shop.home.lake.rglob("*.parquet"))
    monkeypatch.setenv(SETTING, "short")
    with pytest.raises(UsageError, match="can be guessed"):
        shop.land("2024-01-01")


def test_another_key_is_noticed_before_anything_lands(shop, key, monkeypatch):
    shop.deliver("members.csv", HEADER + ANN)
    shop.land("2024-01-01")
    before = shop.bytes_in_lake()
    assert len(shop.manifest("members", "2024-01-01")["pseudonym_key"]) == 12
    monkeypatch.setenv(SETTING, "the key of some other deployment")
    shop.deliver("members.csv", HEADER + ANN + ANN.replace("0170", "0171"))
    with pytest.raises(UsageError, match="would become somebody else"):
        shop.land("2024-01-02")
    assert shop.bytes_in_lake() == before
    monkeypatch.setenv(SETTING, KEY)
    assert shop.land("2024-01-02").rows_landed == 2


def test_phone_numbers_need_the_country_of_the_shop(tmp_path, key):
    shop = small_shop(tmp_path, MEMBERS)
    shop.deliver("members.csv", HEADER + ANN)
    with pytest.raises(UsageError, match="of which country"):
        shop.land("2024-01-01")


def test_a_mapping_that_fails_tells_no_key(shop, key):
    shop.describe(MEMBERS.replace("region: region", "region: region + phone_pseudonym(mobile)"))
    shop.deliver("members.csv", HEADER + ANN)
    with pytest.raises(UsageError) as refused:
        shop.land("2024-01-01")
    assert KEY not in str(refused.value)


def test_a_key_that_stands_twice_in_a_lookup_is_not_repeated_in_the_error(tmp_path, key):
    shop = small_shop(
        tmp_path,
        """
        name: orders
        table: orders
        description: Orders known by phone.
        format: {type: csv}
        files: {root: delivered, path: "orders_{date}.csv"}
        lookups: {members: {path: members.csv, key: {mobile: mobile}, format: {type: csv}}}
        columns: {order_id: id, customer_id: members.number, ordered_at: at, amount: amount}
        """,
    )
    shop.deliver("orders_2024-01-01.csv", "id,mobile,at,amount\no1,0170 1234567,2024-01-01,1\n")
    shop.deliver("members.csv", "mobile,number\n0170 1234567,c1\n0170 1234567,c2\n")
    with pytest.raises(InputError) as refused:
        shop.land("2024-01-01")
    assert "1234567" not in str(refused.value)


# ---------------------------------------------------------------- descriptions


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("customer_id: mobile", "'mobile' is contact data by its name"),
        ('customer_id: lower(trim("E-Mail"))', "'E-Mail' is contact data"),
        ("{customer_id: id, attributes: name}", "'name' is contact data"),
        ("{customer_id: id, region: \"extra->>'$.home.phone'\"}", "'phone' is contact data"),
        ("{customer_id: id, phone_hash: phone_pseudonym(mobile)}", "map the plain value"),
    ],
)
def test_what_by_its_name_is_contact_data_is_not_mapped_as_it_stands(tmp_path, columns, told):
    inner = columns if columns.startswith("{") else f"{{{columns.split(': ')[0]}: '{columns.split(': ', 1)[1]}'}}"
    shop = small_shop(
        tmp_path,
        f"""
        name: members
        table: customers
        description: Members.
        format: {{type: jsonl}}
        files: {{root: delivered, path: members.jsonl}}
        columns: {inner}
        """,
    )
    with pytest.raises(UsageError, match=r"contact data|plain value") as refused:
        shop.sources()
    assert told in str(refused.value)


def test_whoever_knows_better_says_so(tmp_path):
    shop = small_shop(tmp_path)
    shop.describe(PLAIN + "    columns: {customer_id: mobile}\n    not_contact: [Mobile]\n")
    assert shop.sources().sources[0].not_contact == ("Mobile",)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("Phone Number", "phone"), ("customerMobile", "phone"), ("手机号码", "phone"), ("msisdn", "phone"),
        ("E-Mail", "email"), ("contact_email_address", "email"), ("客户姓名", "name"), ("first_name", "name"),
        ("customer_name", "name"), ("unionid", "wechat"), ("wx_open_id", "wechat"), ("WeChatID", "wechat"),
        ("product_name", None), ("name", None), ("is_mobile", None), ("email_opened", None), ("mobile_app", None),
        ("customer_id", None), ("campaign_name", None), ("phone_hash", None), ("channel", None),
    ],
)  # fmt: skip
def test_names_of_columns_tell_contact_data(column, kind):
    assert kind_of(column) == kind


def test_checking_a_source_shows_pseudonyms_and_warns_of_what_looks_like_contact_data(tmp_path, key):
    shop = small_shop(tmp_path)
    with (tmp_path / "sources" / "shop.yml").open("a") as file:
        file.write("phone_country_code: 49\n")
    path = shop.describe(PLAIN + "    columns: {customer_id: login, region: place, phone_hash: mobile}\n")
    shop.deliver("members.csv", "login,place,mobile\nann@example.org,+49 170 12345,0170 1234567\n")
    found = check_source(PROJECT, path)
    assert "1234567" not in "\n".join(found.lines())
    assert [warning.split(" ")[0] for warning in found.warnings] == ["customer_id", "region"]
    assert "warning: customer_id holds e-mail addresses" in "\n".join(found.lines())
