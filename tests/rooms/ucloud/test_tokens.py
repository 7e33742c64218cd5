"""Only UCloud gets in."""

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ucloud_slurm.errors import Unauthenticated
from ucloud_slurm.ucloud.tokens import LEEWAY_SECONDS, TokenCheck, parse_keys

NOW = 1_633_521_500
CLAIMS: dict[str, Any] = {
    "sub": "_UCloud",
    "role": "SERVICE",
    "uid": -1,
    "iss": "cloud.sdu.dk",
    "principalType": "service",
    "iat": NOW - 100,
    "exp": NOW + 800,
    "aud": "all:write",
    "extendedByChain": [],
}
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
CHECK = TokenCheck([KEY.public_key()], "cloud.sdu.dk")


def bearer(claims: dict[str, Any] | None = None, key: Any = KEY, algorithm: str = "RS256") -> str:
    return "Bearer " + jwt.encode(claims or CLAIMS, key, algorithm=algorithm)


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in CLAIMS.items() if name not in names}


def unsigned(algorithm: str | None, claims: dict[str, Any] = CLAIMS) -> str:
    def part(data: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()

    header = {"typ": "JWT"} | ({} if algorithm is None else {"alg": algorithm})
    return f"Bearer {part(header)}.{part(claims)}."


def hmac_with_the_public_key(secret: bytes) -> str:
    import hashlib
    import hmac

    head = unsigned("HS256").removeprefix("Bearer ").rstrip(".")
    signature = hmac.new(secret, head.encode(), hashlib.sha256).digest()
    return f"Bearer {head}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


@pytest.mark.parametrize(
    "claims",
    [
        CLAIMS,
        CLAIMS | {"aud": ["all:write"]},
        CLAIMS | {"role": "ADMIN"},
        without("uid", "extendedByChain"),
        CLAIMS | {"exp": NOW - LEEWAY_SECONDS + 1},
        CLAIMS | {"iat": NOW + LEEWAY_SECONDS - 1},
    ],
)
def test_a_token_of_ucloud_is_accepted(claims: dict[str, Any]) -> None:
    CHECK.verify(bearer(claims), NOW)


@pytest.mark.parametrize(
    "claims",
    [
        CLAIMS | {"exp": NOW - LEEWAY_SECONDS - 1},
        CLAIMS | {"exp": str(NOW + 800)},
        CLAIMS | {"exp": -1},
        CLAIMS | {"exp": True},
        CLAIMS | {"iat": NOW + LEEWAY_SECONDS + 1},
        CLAIMS | {"nbf": NOW + LEEWAY_SECONDS + 1},
        CLAIMS | {"nbf": "x"},
        CLAIMS | {"iss": "evil.example.org"},
        CLAIMS | {"aud": "somebody:else"},
        CLAIMS | {"sub": "#P_example", "role": "PROVIDER"},
        CLAIMS | {"sub": "user", "role": "SERVICE"},
        CLAIMS | {"role": "USER"},
        CLAIMS | {"role": ["SERVICE"]},
        without("exp"),
        without("iat"),
        without("iss"),
        without("sub"),
        without("aud"),
        without("role"),
    ],
)
def test_a_token_with_wrong_claims_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        CHECK.verify(bearer(claims), NOW)


@pytest.mark.parametrize(
    "make",
    [
        lambda: None,
        lambda: "",
        lambda: "Bearer",
        lambda: "Bearer ",
        lambda: "Bearer x",
        lambda: "Bearer a.b.c",
        lambda: "Bearer " + "x" * 1_000_000,
        lambda: "Bearer \u00e9",
        lambda: bearer().replace("Bearer", "Basic"),
        lambda: bearer() + "," + bearer(),
        lambda: bearer(key=OTHER),
        lambda: bearer()[:-3],
        lambda: bearer(algorithm="RS512"),
        lambda: bearer(key="s" * 64, algorithm="HS256"),
        lambda: bearer(key=ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"),
        lambda: unsigned("none"),
        lambda: unsigned("None"),
        lambda: unsigned("NONE"),
        lambda: unsigned(None),
        lambda: unsigned("RS256"),
        lambda: hmac_with_the_public_key(PUBLIC),
        lambda: hmac_with_the_public_key(b" " + PUBLIC),
        lambda: hmac_with_the_public_key(PUBLIC.replace(b"\n", b"\r\n")),
        lambda: hmac_with_the_public_key(PUBLIC.strip()),
    ],
)
def test_what_is_not_signed_by_ucloud_with_rs256_is_refused(make: Callable[[], str | None]) -> None:
    with pytest.raises(Unauthenticated):
        CHECK.verify(make(), NOW)


def test_while_ucloud_changes_its_key_both_are_accepted() -> None:
    check = TokenCheck([OTHER.public_key(), KEY.public_key()], "cloud.sdu.dk")
    check.verify(bearer(), NOW)
    check.verify(bearer(key=OTHER), NOW)


def test_a_key_is_read_in_every_form_that_ucloud_hands_out() -> None:
    der = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    line = base64.b64encode(der).decode()
    assert parse_keys(line) == [KEY.public_key()]
    assert parse_keys(PUBLIC.decode()) == [KEY.public_key()]
    assert parse_keys(f"{line}\n{PUBLIC.decode()}") == [KEY.public_key()] * 2
    assert parse_keys("") == []


@pytest.mark.parametrize("text", ["hello", "bm90IGEga2V5", "-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----"])
def test_something_else_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_keys(text)


def test_a_private_key_is_refused_as_one() -> None:
    form = (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL)
    for each in form:
        pem = KEY.private_bytes(serialization.Encoding.PEM, each, serialization.NoEncryption()).decode()
        for text in (pem, f"{PUBLIC.decode()}{pem}"):
            with pytest.raises(ValueError, match="holds a private key"):
                parse_keys(text)


def test_a_key_of_a_kind_that_the_library_does_not_know_is_not_rsa() -> None:
    prime192v2 = bytes.fromhex("3049301306072a8648ce3d020106082a8648ce3d03010203320004") + b"\1" * 48
    with pytest.raises(ValueError, match="holds a key that is not RSA"):
        parse_keys(base64.b64encode(prime192v2).decode())
