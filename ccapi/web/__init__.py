"""The pages: what runs, what ran and why it failed, in a browser."""

# The views register themselves with the blueprint.
from ccapi.web import forms as forms
from ccapi.web import hosts as hosts
from ccapi.web import jobs as jobs
from ccapi.web import login as login
from ccapi.web import overview as overview
from ccapi.web import people as people
from ccapi.web import search as search
from ccapi.web import statistics as statistics
from ccapi.web.pages import create as create
