"""The visitor whom a proxy has authenticated, by the headers of [web] in the settings."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ccapi.errors import Unauthenticated
from ccapi.http import auth
from ccapi.http.auth import Network
from ccapi.model import rules
from ccapi.model.token import ALL_JOBS, Role, Scope, ValidToken


@dataclass(frozen=True)
class ProxyLogin:
    """Which header has the user, who may send it, and what the user's groups permit.

    Only a proxy on a Unix socket or at one of the addresses may send the headers. Members of
    neither `admin_groups` nor `reader_groups` see their own jobs.
    """

    user_header: str
    groups_header: str
    addresses: tuple[Network, ...]
    admin_groups: frozenset[str]
    reader_groups: frozenset[str]

    def find_visitor(self, environ: Mapping[str, Any]) -> ValidToken | None:
        """Return a token for the user in the headers; None without one.

        Raises Unauthenticated for a name that no user has.
        """
        name = self._read(environ, self.user_header)
        # A Unix socket has no address.
        address = environ.get("REMOTE_ADDR")
        if not name or (address and not auth.is_address_in(address, self.addresses)):
            return None
        if rules.USER.violation(name) is not None or not name.isprintable():
            raise Unauthenticated("the proxy sends a name that is not a user's")
        groups = {group.strip() for group in self._read(environ, self.groups_header).split(",")}
        is_admin = bool(groups & self.admin_groups)
        sees_all = is_admin or bool(groups & self.reader_groups)
        return ValidToken(
            # Negative, because tokens have the other numbers; limits are counted by it.
            id=-1 - zlib.crc32(name.encode()),
            name=name,
            role=Role.ADMIN if is_admin else Role.READER,
            scope=ALL_JOBS if sees_all else Scope(users=(name,)),
            should_record_use=False,
            is_cacheable=False,
        )

    @staticmethod
    def _read(environ: Mapping[str, Any], header: str) -> str:
        """Return a header, "" if it is missing, not configured, or not UTF-8."""
        value: str = environ.get(f"HTTP_{header.upper().replace('-', '_')}", "") if header else ""
        try:
            return value.encode("latin-1").decode().strip()
        except UnicodeError:
            return ""
