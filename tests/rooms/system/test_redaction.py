"""No secret and no name is left in a text, however it is written there; and the rest of the text is."""

import json

import pytest

from ucloud_slurm.system.redaction import Redactor, names_a_secret, without_secret_lines

KEY = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"
HEX = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("token=abc123 x", "token=[secret] x"),
        ('"refresh_token": "abc", "n": 1', '"refresh_token": [secret]", "n": 1'),
        ("Password : abc", "Password : [secret]"),
        ("Authorization: Bearer abc.def-1", "Authorization: [secret] [secret]"),
        ("sent Bearer abcdef-12 to it", "sent Bearer [secret] to it"),
        ("eyJhbGciOi.eyJzdWIi.c2ln in a line", "[secret] in a line"),
        ("http://user:pw@proxy:3128/x", "http://[secret]@proxy:3128/x"),
        ("by ada.l+x@mail.example.org.", "by [e-mail]."),
        (f"x {KEY} y", "x [secret] y"),
        (f"x={KEY}==", "x=[secret]"),
        (f"nonce {HEX}", "nonce [secret]"),
        ("sbatch --export=A=1,B=2 --nice=3", "sbatch --export=[secret] --nice=3"),
        ("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\nrest", "[secret]\nrest"),
        ("-----BEGIN EC PRIVATE KEY-----\nx", "[secret]"),
    ],
)
def test_what_looks_like_a_secret_or_an_address_is_cut(text: str, left: str) -> None:
    assert Redactor().text(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "/var/lib/ucloud-slurm/backups/ucloud-slurm-20261130T070000Z.db is whole (4.0 MiB, 12 jobs)",
        "ucloud.refresh_token_file: /etc/ucloud-slurm/refresh-token cannot be read (No such file or directory).",
        "job 54112: it is cancelled; 2 public key(s) of UCloud, and a refresh token",
        "systemctl enable --now ucloud-slurm-worker.timer",
    ],
)
def test_sentences_and_paths_stay_as_they_are(text: str) -> None:
    assert Redactor(names={"x": "user"}).text(text) == text


def test_known_secrets_are_cut_also_line_by_line_and_inside_of_words() -> None:
    known = Redactor(["one-line", "first line\nsecond line", "abc"])
    assert known.text("xone-linex second line abc") == "x[secret]x [secret] abc"


def test_a_name_is_replaced_as_a_word_wherever_it_stands_and_not_inside_of_another_word() -> None:
    names = Redactor(names={"Ada#1": "user", "ada": "account", "ada.l": "account", "Notes of Ada": "project"})
    assert names.text("Ada#1: /home/ada/x of user:ada, ada.l, adamant ada. (Notes of Ada) 'ada'") == (
        "user-1: /home/account-1/x of user:account-1, account-2, adamant account-1. (project-1) 'account-1'"
    )
    assert (names.name("ada"), names.name("eve"), names.name(None)) == ("account-1", "somebody", None)


def test_data_keeps_its_form_and_its_numbers_and_loses_what_its_keys_call_secret() -> None:
    data = {"token": "x", "token_file": "/etc/token", "private_key": ["a", "b"], "pass_age": 4, "ada": None, "n": ("ada", True)}
    found = Redactor(names={"ada": "user"}).data(data)
    assert found == {
        "token": "[secret]",
        "token_file": "/etc/token",
        "private_key": ["[secret]", "[secret]"],
        "pass_age": 4,
        "user-1": None,
        "n": ["user-1", True],
    }
    json.dumps(found)


def test_lines_of_a_configuration_lose_the_values_of_secret_keys_only() -> None:
    text = "AccountingStoragePass = (null) x\nAuthAltTypes   = auth/jwt\nJobCompPass=y\nno equals"
    assert without_secret_lines(text) == (
        "AccountingStoragePass = [secret]\nAuthAltTypes   = auth/jwt\nJobCompPass= [secret]\nno equals"
    )
    assert names_a_secret("SlurmctldKey")
    assert not [key for key in ("refresh_token_file", "PrivateData", "TrackWCKey", "passed") if names_a_secret(key)]
