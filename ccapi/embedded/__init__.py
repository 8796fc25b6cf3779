"""A private PostgreSQL server for `ccapi demo` and the tests; production uses the site's own."""

from ccapi.embedded.installations import Installation, choose_installation, find_installations
from ccapi.embedded.server import PrivatePostgres, private_postgres

__all__ = [
    "Installation",
    "PrivatePostgres",
    "choose_installation",
    "find_installations",
    "private_postgres",
]
