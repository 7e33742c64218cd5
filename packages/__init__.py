"""Packages of the program for Debian's family and for Enterprise Linux: ``make packages`` builds, ``make test-packages`` tries.

``targets`` names the distributions, ``tree`` collects the files of one, ``scripts`` renders the maintainer scripts, and
``deb`` and ``rpm`` make packages of both. Nothing here is part of an installation.
"""
