"""The address of a database: which forms ccapi accepts, and what of it may be shown.

The grammar is stricter than libpq's. libpq guesses where a mistyped URL has its password, and
its messages repeat what it took for a port or a keyword.
"""

import re

MASK = "********"
EXPECTED = "postgresql://USER:PASSWORD@HOST/DATABASE, with %XX for special characters, or keywords"
_HEX = "%[0-9A-Fa-f]{2}"
_NAME = rf"(?:[\w.~+-]|{_HEX})*"
_HOST = rf"(?:\[[0-9A-Fa-f:.%]+\]|{_NAME})(?::[0-9]*)?"
_QUERY_VALUE = rf"(?:[^\s&#%=]|{_HEX})*"
_URL = re.compile(
    rf"(postgres(?:ql)?://)(?:({_NAME})(:(?:[^\s@/?#%]|{_HEX})*)?(@))?"
    rf"({_HOST}(?:,{_HOST})*(?:/{_NAME})?)"
    rf"(\?\w+={_QUERY_VALUE}(?:&\w+={_QUERY_VALUE})*)?"
)
_PAIR = r"(\w+)(\s*=\s*)('(?:\\.|[^'\\])*'|(?:\\.|[^\s\\'=])*)"
_KEYWORDS = re.compile(rf"\s*{_PAIR}(?:\s+{_PAIR})*\s*")
# The values of all other keywords are masked: libpq's next version may have more secrets.
_SHOWN = frozenset((
    "host", "hostaddr", "port", "dbname", "user", "passfile", "service", "sslmode", "sslcert",
    "sslrootcert", "sslcrl", "target_session_attrs", "load_balance_hosts", "connect_timeout",
    "application_name", "client_encoding", "channel_binding", "require_auth", "gssencmode",
    "krbsrvname", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
    "tcp_user_timeout", "options",
))  # fmt: skip
# Text that may be an address, or a part of one, in the place of another setting.
_SUSPICIOUS = re.compile(r"://|:[^/]*@|(?:^|[\s?&])\w+\s*=")


def is_database_url(text: object) -> bool:
    """Return whether a text is a URL, or keywords and values, whose secrets have a place."""
    is_line = isinstance(text, str) and text.isprintable()
    return is_line and bool(_URL.fullmatch(str(text)) or _KEYWORDS.fullmatch(str(text)))


def mask(text: str) -> str:
    """Return an address with asterisks for its secrets, and for all of it if it is malformed."""
    if (url := _URL.fullmatch(text)) is not None:
        scheme, user, password, at, place, query = url.groups(default="")
        shown_query = re.sub(r"(\w+)(=)([^&]*)", _mask_pair, query)
        return f"{scheme}{user}{password and ':' + MASK}{at}{place}{shown_query}"
    return re.sub(_PAIR, _mask_pair, text) if _KEYWORDS.fullmatch(text) else MASK


def hide(text: str) -> str:
    """Return the text of another setting, masked if it may be an address."""
    return mask(text) if is_suspicious(text) else text


def is_suspicious(text: str) -> bool:
    """Return whether a text may be the address of a database."""
    return _SUSPICIOUS.search(text) is not None


def _mask_pair(pair: re.Match[str]) -> str:
    keyword, equals, value = pair.groups()
    return f"{keyword}{equals}{value if keyword in _SHOWN else MASK}"
