"""What is contact data by the look of it: names of columns, and values in text.

Nobody can prove that a column holds no phone numbers. But most columns that do
are called so, and e-mail addresses have a shape that nothing else has. Both are
looked at: names refuse a mapping that would land them as they stand, shapes
warn, and what may hold contact data is not kept as text in quarantine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

PHONE, EMAIL, WECHAT, NAME, ID = "phone", "email", "wechat", "name", "id"

_WORDS = {
    PHONE: "phone phonenumber telephone telephonenumber telefon telefono tel mobile mobilephone mobilenumber cell "
    "cellphone cellphonenumber handy msisdn shouji dianhua",
    EMAIL: "email emailaddress mail mailaddress youxiang",
    WECHAT: "wechat wechatid weixin weixinid wxid openid unionid wechatopenid wechatunionid wxopenid wxunionid",
    NAME: "firstname lastname middlename fullname surname familyname givenname forename nickname realname "
    "displayname xingming",
}
_KINDS = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_CHINESE = {
    "手机": PHONE, "电话": PHONE, "邮箱": EMAIL, "电邮": EMAIL, "微信号": WECHAT, "微信": WECHAT,
    "姓名": NAME, "收货人": NAME, "联系人": NAME,
}  # fmt: skip
_PERSONS = frozenset(
    {"customer", "cust", "client", "user", "member", "buyer", "contact", "person", "receiver", "recipient", "consignee"}
)
_AROUND = _PERSONS | {"primary", "home", "work", "private", "my", "shipping", "billing", "number", "no", "nr", "num"}
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

EMAIL_SHAPE = r"[\p{L}\p{N}._%+-]+@[\p{L}\p{N}-]+(\.[\p{L}\p{N}-]+)*\.\p{L}{2,}"
"""E-mail addresses, as a regular expression of DuckDB."""

PHONE_SHAPE = r"\+?\(?\d[\d ()./-]{6,}\d"
"""What could be a phone number; so could a date or an order number."""


def kind_of(column: str, *, of_people: bool = False) -> str | None:
    """The kind of contact data that a column holds by its name, None if by its name it holds none.

    Args:
        column: as the file names it; a path into JSON counts by its last name.
        of_people: whether rows are about people, so that a plain ``name`` is a person's.
    """
    for word, kind in _CHINESE.items():
        if word in column:
            return kind
    parts = [part.lower() for part in _PARTS.findall(column)]
    inner = [part for part in parts if part not in _AROUND]
    joined = "".join(inner)
    if joined in ("name", "names") and (of_people or _PERSONS & set(parts)):
        return NAME
    return _KINDS.get(joined) or _KINDS.get("".join(parts))


def any_kind(columns: Iterable[str], *, of_people: bool = False) -> bool:
    """Whether one of the columns holds contact data by its name."""
    return any(kind_of(column, of_people=of_people) for column in columns)


JSON_KEY_SHAPE = (
    r'(?i)"[^"]*(phone|mobile|telefon|msisdn|e-?mail|wechat|weixin|open_?id|union_?id|surname|'
    r"(first|last|full|family|given|nick|real|customer|user|member|contact|client|person)[_ -]?name|"
    rf"{'|'.join(_CHINESE)}"
    r')[^"]*"\s*:'
)
"""JSON text with a key that by its name is contact data, as a regular expression of DuckDB."""
