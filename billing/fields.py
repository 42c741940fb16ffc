"""The kinds of field in contracts, licences and price books: exact, bounded, and refused with what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, StrictInt

from kernel.clock import to_ms
from kernel.errors import InvalidInput
from kernel.ids import parse_id
from kernel.money import currency
from kernel.window import parse_zone
from kernel.wording import refused

_DECIMAL = re.compile(r"[0-9]{1,8}(\.[0-9]{1,8})?")
_VCPU = re.compile(r"[0-9]{1,6}(\.[0-9]{1,3})?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
MAX_TEXT = 200

_LOGO = re.compile(r"[a-z0-9][a-z0-9_-]{0,60}\.(png|jpg|jpeg)")
_COUNTRY = re.compile(r"[A-Z]{2}")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,6}")
_AWS_PRODUCT = re.compile(r"[-a-zA-Z0-9/=:_.@]{1,255}")
_AWS_ACCOUNT = re.compile(r"[0-9]{1,255}")
_AWS_DIMENSION = re.compile(r"[!-~]{1,255}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# Scripts that the fonts of the PDF hold: Latin, Greek and Cyrillic by the compiler's own; Chinese (the unified
# ideographs up to U+9FEF), kana, Hangul, their punctuation and full-width forms by Noto Sans CJK. Others would be
# printed as boxes, without a warning.
_PRINTED = re.compile(
    r"[\u0020-\u007e\u00a1-\u024f\u0370-\u04ff\u1e00-\u1eff\u2010-\u2027\u20ac"
    r"\u3000-\u3029\u3041-\u3096\u309b-\u30ff\u3105-\u312f\u3400-\u4db5\u4e00-\u9fef\uac00-\ud7a3\uff01-\uff60]+"
)


def is_printed(text: str) -> bool:
    """Whether the fonts of the PDF hold every character."""
    return bool(_PRINTED.fullmatch(text)) and (text.isprintable() or text.replace("\u3000", "").isprintable())


def _decimal(value: object) -> Decimal:
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise refused('a decimal in quotes such as "900.00", not negative, below 100 million, at most 8 places')
    return Decimal(value)


def _milli_vcpu(value: object) -> int:
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not _VCPU.fullmatch(text):
        raise refused('whole vCPU or a decimal in quotes such as "16.5", below a million, at most 3 places')
    return int(Decimal(text) * 1000)


def _day(value: object) -> date:
    allowed = "a date such as 2026-01-31, from 1990 to 2200"
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            value = date.fromisoformat(value)
        except ValueError as error:
            raise refused(allowed) from error
    if type(value) is not date or not 1990 <= value.year <= 2200:
        raise refused(allowed)
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT:
        raise refused(f"text of 1 to {MAX_TEXT} characters")
    if not is_printed(value):
        raise refused(
            "one line in Latin, Greek, Cyrillic, Chinese, Japanese or Korean script (no others can be printed)"
        )
    return value


def _matching(pattern: re.Pattern[str], allowed: str) -> Callable[[object], str]:
    def validate(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise refused(allowed)
        return value

    return validate


def _checked(check: Callable[[str], Any]) -> Callable[[str], str]:
    def validate(value: str) -> str:
        try:
            check(value)
        except InvalidInput as error:
            raise refused(error.findings[0].allowed) from error
        return value

    return validate


def _version(value: int) -> int:
    if not 1 <= value <= 100_000:
        raise refused("a whole number from 1")
    return value


DecimalText = Annotated[Decimal, BeforeValidator(_decimal)]
MilliVcpu = Annotated[int, BeforeValidator(_milli_vcpu)]
Day = Annotated[date, BeforeValidator(_day)]
Text = Annotated[str, BeforeValidator(_text)]
LogoFile = Annotated[
    str, BeforeValidator(_matching(_LOGO, "a file name such as example.png (png, jpg), no folder and no URL"))
]
Email = Annotated[str, BeforeValidator(_matching(_EMAIL, "an e-mail address such as billing@example.com"))]
Sha256 = Annotated[str, BeforeValidator(_matching(_SHA256, "a sha256: 64 hex digits in lower case"))]
Id = Annotated[str, AfterValidator(_checked(lambda text: parse_id(text, "id")))]
# Lengths and characters: API_marketplace-metering_BatchMeterUsage and _UsageRecord; a dimension is printed, too.
AwsProductCode = Annotated[
    str, BeforeValidator(_matching(_AWS_PRODUCT, "a product code of AWS Marketplace: 1 to 255 characters"))
]
AwsAccount = Annotated[
    str, BeforeValidator(_matching(_AWS_ACCOUNT, "the digits of the buyer's AWS account id, in quotes"))
]
AwsDimension = Annotated[
    str, BeforeValidator(_matching(_AWS_DIMENSION, "the API name of a dimension: 1 to 255 characters, no spaces"))
]
CountryCode = Annotated[str, BeforeValidator(_matching(_COUNTRY, 'an ISO 3166 code in quotes, such as "DE"'))]
CurrencyCode = Annotated[str, AfterValidator(_checked(currency))]
ZoneName = Annotated[str, AfterValidator(_checked(parse_zone))]
Version = Annotated[StrictInt, AfterValidator(_version)]


def parse_email(text: str) -> str:
    """An e-mail address named on the command line. Raises InvalidInput."""
    if not _EMAIL.fullmatch(text):
        raise InvalidInput.single("command line", "address", text, "an e-mail address such as billing@example.com")
    return text


@lru_cache(maxsize=4096)
def midnight_ms(day: date, zone: str) -> int:
    """The first moment of `day` in `zone`, in milliseconds UTC."""
    return to_ms(datetime(day.year, day.month, day.day, tzinfo=parse_zone(zone)).astimezone(UTC))
