"""Verification of UCloud's bearer tokens (contract: authentication, Core to provider)."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ucloud_slurm.errors import Misconfigured, Unauthenticated

LEEWAY_SECONDS = 30  # by which the clocks may differ
MAX_TIME_SECONDS = 1e12  # far beyond any clock
MAX_TOKEN_CHARACTERS = 8192  # UCloud's tokens have about 700
SUBJECT = "_UCloud"
ROLES = ("SERVICE", "ADMIN")
AUDIENCE = "all:write"
MAX_CACHED_TOKENS = 64  # UCloud has one at a time

_BLOCK = re.compile(r"-----BEGIN (PUBLIC KEY|CERTIFICATE)-----.*?-----END \1-----", re.DOTALL)
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


def read_keys(path: Path) -> list[RSAPublicKey]:
    """The keys in a file: base64 lines, PEM public keys, PEM certificates, one after another.

    :raises Misconfigured: when the file cannot be read, is empty or holds something else
    """
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise Misconfigured([f"ucloud.public_key_file: {path} cannot be read ({error.strerror})."]) from None
    except UnicodeDecodeError:
        raise Misconfigured([f"ucloud.public_key_file: {path} is not a text file."]) from None
    try:
        keys = parse_keys(text)
    except ValueError as error:
        raise Misconfigured([f"ucloud.public_key_file: {path}: {error}."]) from None
    if not keys:
        raise Misconfigured([f"ucloud.public_key_file: {path} is empty; put UCloud's public key there."])
    return keys


def parse_keys(text: str) -> list[RSAPublicKey]:
    """The keys in a text. See :func:`read_keys`.

    :raises ValueError: when something in it is not an RSA public key
    """
    if _PRIVATE.search(text):
        raise ValueError("holds a private key, which is not for this file; UCloud's public key is needed")
    keys: list[Any] = []
    try:
        for block in _BLOCK.finditer(text):
            pem = block[0].encode()
            if block[1] == "CERTIFICATE":
                keys.append(x509.load_pem_x509_certificate(pem).public_key())
            else:
                keys.append(serialization.load_pem_public_key(pem))
        lines = _BLOCK.sub("", text).split()
        keys += [serialization.load_der_public_key(base64.b64decode(line, validate=True)) for line in lines]
    except UnsupportedAlgorithm:
        raise ValueError("holds a key that is not RSA") from None
    except (ValueError, binascii.Error):  # what the library says of a key that is damaged is for its programmers
        raise ValueError("is neither a base64 public key, a PEM public key nor a PEM certificate") from None
    for key in keys:
        if not isinstance(key, RSAPublicKey):
            raise ValueError("holds a key that is not RSA")  # noqa: TRY004  one kind of error for the caller
    return keys


class TokenCheck:
    """Accepts the bearer tokens of UCloud and no others.

    RS256 only, whatever algorithm the token names. UCloud signs the tokens of providers with the same key, so subject
    and role are checked too.
    """

    def __init__(self, keys: Sequence[RSAPublicKey], issuer: str) -> None:
        self._keys = tuple(keys)
        self._issuer = issuer
        # UCloud sends the same token for minutes; the signature of an accepted one is not verified again.
        self._accepted: dict[str, Mapping[str, Any]] = {}

    def verify(self, authorization: str | None, now: float) -> None:
        """Checks the value of an ``Authorization`` header.

        :param now: seconds since the epoch
        :raises Unauthenticated: the token is not acceptable
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN_CHARACTERS:
            raise Unauthenticated
        claims = self._accepted.get(token) or self._read(token)
        if claims is None or not _in_time(claims, now):
            raise Unauthenticated
        if token not in self._accepted:
            if len(self._accepted) >= MAX_CACHED_TOKENS:
                self._accepted.clear()
            self._accepted[token] = claims

    def _read(self, token: str) -> Mapping[str, Any] | None:
        """The claims of a token of UCloud with a valid signature; times are not checked."""
        for key in self._keys:
            claims = self._signed(token, key)
            if claims is not None and claims["sub"] == SUBJECT and claims.get("role") in ROLES:
                return claims
        return None

    def _signed(self, token: str, key: RSAPublicKey) -> Mapping[str, Any] | None:
        try:
            # _in_time checks the times, against the clock that is passed in.
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                issuer=self._issuer,
                audience=AUDIENCE,
                options={
                    "require": ["exp", "iat", "iss", "sub", "aud"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return claims


def _in_time(claims: Mapping[str, Any], now: float) -> bool:
    times = [claims["exp"], claims["iat"], claims.get("nbf", claims["iat"])]
    if any(isinstance(time, bool) or not isinstance(time, int | float) or not abs(time) < MAX_TIME_SECONDS for time in times):
        return False
    expires, issued, not_before = times
    return bool(expires + LEEWAY_SECONDS > now and issued - LEEWAY_SECONDS <= now and not_before - LEEWAY_SECONDS <= now)
