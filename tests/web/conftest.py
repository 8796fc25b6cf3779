"""Visitors of the pages, and jobs to show."""

from collections.abc import Callable

import pytest
from flask import Flask

from ccapi.db.pool import Database
from ccapi.model.token import ALL_JOBS, Role, Scope
from ccapi.service import tokens
from tests.web.visitor import Visitor, log_in

MakeVisitor = Callable[..., Visitor]


@pytest.fixture
def make_visitor(app: Flask, database: Database) -> MakeVisitor:
    """Return a function that logs somebody in, with a role and a scope."""

    def make(role: Role = Role.READER, scope: Scope = ALL_JOBS, name: str = "anna") -> Visitor:
        return log_in(app, tokens.create(database, name, role, scope=scope))

    return make


@pytest.fixture
def visitor(make_visitor: MakeVisitor) -> Visitor:
    """Return a visitor who may read."""
    return make_visitor()


@pytest.fixture
def admin_visitor(make_visitor: MakeVisitor) -> Visitor:
    """Return a visitor who may do everything."""
    return make_visitor(Role.ADMIN, name="otto")
