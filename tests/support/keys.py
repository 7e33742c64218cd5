"""A few RSA keys for the many simulated Cores of a test run: making one takes 20 to 150 ms."""

import itertools

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from tests.sandbox.core.tokens import fresh_key

KEYS = 8
"""More than one test needs: Cores that exist at the same time, and those after a rotation, have different keys."""
_keys: list[RSAPrivateKey] = []
_places = itertools.cycle(range(KEYS))


def next_key() -> RSAPrivateKey:
    """The next of the keys, round robin."""
    place = next(_places)
    if place == len(_keys):
        _keys.append(fresh_key())
    return _keys[place]
