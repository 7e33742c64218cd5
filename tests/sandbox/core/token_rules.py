"""What differs in the tokens of a Core (contract: authentication, both directions)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenRules:
    """How tokens look and what comes of bad ones.

    :ivar seconds: that a token of either side lives
    :ivar has_uid: whether the claims ``uid`` and ``extendedByChain`` are there
    :ivar lists_audience: whether ``aud`` is a list
    :ivar refusal: status for a provider whose token is missing, malformed or stale
    :ivar refusal_why: the sentence that goes with it
    :ivar stranger_why: the sentence for a token of a provider that this Core does not know
    :ivar reads_claims: whether the role and the audience of a provider's token are looked at
    :ivar unknown_refresh: status for a refresh token that nobody has
    """

    seconds: int
    has_uid: bool
    lists_audience: bool
    refusal: int
    refusal_why: str
    stranger_why: str
    reads_claims: bool
    unknown_refresh: int


RULES_OF_2021 = TokenRules(
    seconds=15 * 60,
    has_uid=True,
    lists_audience=False,
    refusal=401,
    refusal_why="Unauthorized",
    stranger_why="Unauthorized",
    reads_claims=True,
    unknown_refresh=403,
)
"""Until 2022 at least."""
