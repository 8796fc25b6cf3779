"""Where a WSGI server finds the service: ``gunicorn wsgi:app``."""

from ccapi.app import application

app = application()
