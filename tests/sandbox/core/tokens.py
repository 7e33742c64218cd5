"""Keys and tokens of the simulated Core (contract: authentication, both directions).

Source: the UCloud developer guide, provider authentication. RS256 with one 2048-bit key pair per provider;
the provider's own access tokens are signed with the same pair, so a provider must check more than the
signature.
"""

import base64
import secrets
import threading
import uuid
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from tests.sandbox.core.errors import CoreError
from tests.sandbox.core.token_rules import RULES_OF_2021, TokenRules

ISSUER = "cloud.sdu.dk"
SCOPE = "all:write"


def fresh_key() -> RSAPrivateKey:
    """A new RSA key of 2048 bits."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Tokens:
    """Makes and checks the tokens of one provider and its Core. Safe for several threads."""

    def __init__(
        self,
        provider: str,
        now: Callable[[], float],
        changed: threading.Condition,
        rules: TokenRules = RULES_OF_2021,
        new_key: Callable[[], RSAPrivateKey] | None = None,
    ) -> None:
        """Make the first keys.

        :param new_key: gives a key that is not in use; a fresh one unless given
        """
        self._new_key = new_key or fresh_key
        self._provider = provider
        self._rules = rules
        self._now = now
        self._changed = changed
        self._live: set[str] = set()
        self.rotate()

    def rotate(self) -> None:
        """Make a new key pair and refresh token. The old ones, and all tokens made with them, die at once."""
        key = self._new_key()
        public = key.public_key()
        spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        with self._changed:
            self._key = key
            self._public = public
            self.refresh_token = base64.b64encode(secrets.token_bytes(64)).decode()
            self.public_key = base64.b64encode(spki).decode()
            self.public_key_pem = public.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ).decode()

    def revoke_access(self) -> None:
        """Forget all access tokens of the provider. Its refresh token stays good."""
        with self._changed:
            self._live.clear()

    def core_token(self, **claims: Any) -> str:
        """A bearer token as Core sends it.

        :param claims: replace claims; a claim that is None is left out
        """
        return self._sign(self._claims("_UCloud", "SERVICE", "service") | claims)

    def provider_token(self, **claims: Any) -> str:
        """An access token of the provider, as the refresh call gives it. See :meth:`core_token`."""
        reference = str(uuid.uuid4())
        with self._changed:
            self._live.add(reference)
            made = self._claims(f"#P_{self._provider}", "PROVIDER", "provider")
            return self._sign(made | {"publicSessionReference": reference} | claims)

    def refresh(self, refresh_token: str) -> str:
        """An access token for a refresh token (contract: auth.providers.refresh).

        :raises CoreError: 403 when the token is unknown, in later eras 401
        """
        with self._changed:
            if not secrets.compare_digest(refresh_token.encode(), self.refresh_token.encode()):
                raise CoreError(self._rules.unknown_refresh, "Forbidden")
            return self.provider_token()

    def check_provider(self, authorization: str | None) -> None:
        """Accept the ``Authorization`` header of the provider.

        :raises CoreError: 401, in later eras 403, unless it is a live access token of this provider, for the role
            PROVIDER
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise self._refusal()
        with self._changed:
            try:
                claims = jwt.decode(
                    token,
                    self._public,
                    algorithms=["RS256"],
                    issuer=ISSUER,
                    audience=SCOPE,
                    options={
                        "require": ["exp", "iat"],
                        "verify_exp": False,
                        "verify_iat": False,
                        "verify_aud": self._rules.reads_claims,
                    },
                )
            except jwt.PyJWTError:
                raise self._refusal() from None
            known = claims.get("publicSessionReference") in self._live
            subject = str(claims.get("sub"))
            if subject.startswith("#P_") and subject != f"#P_{self._provider}":
                raise CoreError(self._rules.refusal, self._rules.stranger_why)
            in_role = claims.get("role") == "PROVIDER" or not self._rules.reads_claims
            rightful = subject == f"#P_{self._provider}" and in_role
            # The clock is Core's, which tests move.
            if not (known and rightful and claims["exp"] > self._now()):
                raise self._refusal()

    def _claims(self, subject: str, role: str, kind: str) -> dict[str, Any]:
        issued = int(self._now())
        claims: dict[str, Any] = {
            "sub": subject,
            "role": role,
            "iss": ISSUER,
            "principalType": kind,
            "iat": issued,
            "exp": issued + self._rules.seconds,
            "aud": [SCOPE] if self._rules.lists_audience else SCOPE,
        }
        return claims | ({"uid": -1, "extendedByChain": []} if self._rules.has_uid else {})

    def _refusal(self) -> CoreError:
        return CoreError(self._rules.refusal, self._rules.refusal_why)

    def _sign(self, claims: dict[str, Any]) -> str:
        present = {name: value for name, value in claims.items() if value is not None}
        with self._changed:
            return jwt.encode(present, self._key, algorithm="RS256")
