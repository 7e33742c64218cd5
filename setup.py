"""Everything is declared in setup.cfg; this file is here for tools that ask for it."""

from setuptools import setup

setup()
