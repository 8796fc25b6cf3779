"""Build script; everything that is declarative lives in setup.cfg."""

from setuptools import setup

setup()
