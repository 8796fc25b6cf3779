"""The pages: what runs, what ran and why it failed, in a browser."""

from ccapi.web import forms, jobs, login, overview
from ccapi.web.pages import blueprint

__all__ = ["blueprint", "forms", "jobs", "login", "overview"]
