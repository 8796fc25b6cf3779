"""Where gunicorn finds the service: ``gunicorn wsgi:app``."""

from ccapi.app import create_app

app = create_app()
