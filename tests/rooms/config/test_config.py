"""The configuration: everything that is wrong is said at once, and by name."""

from pathlib import Path
from typing import Any

import pytest

from ucloud_slurm import config
from ucloud_slurm.config import annotated
from ucloud_slurm.errors import Misconfigured

GOOD: dict[str, Any] = {
    "provider": {"id": "example", "url": "https://hpc.example.org"},
    "ucloud": {
        "url": "https://cloud.example.org",
        "refresh_token_file": "/etc/ucloud-slurm/refresh-token",
        "public_key_file": "/etc/ucloud-slurm/ucloud.pub",
    },
    "products": [{"id": "example-compute-1", "category": "example-compute", "partition": "cpu"}],
}


HOOK = {"program": "/x", "events": ["job-ended"], "socket": "h.sock"}


def changed(path: str, value: Any) -> dict[str, Any]:
    data: dict[str, Any] = {**GOOD, "products": [dict(GOOD["products"][0])]}
    section, _, key = path.partition(".")
    if section == "products":
        data["products"][0][key] = value
    else:
        data[section] = {**data.get(section, {}), key: value}
    return data


def test_the_smallest_file_has_the_defaults_of_the_design() -> None:
    read = config.parse(GOOD)
    assert (read.jobs.grace, read.accounting.every, read.users.mapping, read.slurm.backend) == (30.0, 900.0, "service", "auto")
    assert str(read.database.path) == "/var/lib/ucloud-slurm/ucloud-slurm.db"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("provider.colour", "red", "provider.colour is not a key"),
        ("nonsense.x", 1, "nonsense is not a key"),
        ("provider.id", "a/b", "provider.id"),
        ("ucloud.url", "http://cloud.example.org", "https://"),
        ("ucloud.url", "ftp://cloud.example.org", "ucloud.url"),
        ("ucloud.url", "https://me:secret@cloud.example.org", "password"),
        ("ucloud.era", "1999", "ucloud.era: should be"),
        ("branding.url", "https://example.org", "branding: title is needed with url"),
        ("branding.title", "a\nb", "branding.title"),
        ("jobs.grace", "30", 'such as "30s"'),
        ("jobs.grace", 30, 'such as "30s"'),
        ("jobs.grace", "-5s", "jobs.grace"),
        ("jobs.ssh", "login.example.org", "jobs.ssh: should be one line that begins with ssh"),
        ("jobs.ssh", "ssh a\nssh b", "jobs.ssh: should be one line"),
        ("jobs.ssh", "ssh {home}@login.example.org", "jobs.ssh: {user} is filled in, and no other word"),
        ("jobs.ssh", "ssh {user}@login.example.org", 'jobs.ssh: with mapping = "service" {user} is one account'),
        ("users.mapping", "magic", "users.mapping"),
        ("products.partition", "--uid=0", "products[1].partition"),
        ("products.qos", "a b", "products[1].qos"),
        ("products.cpus", 0, "products[1].cpus"),
        ("products.cpus", "many", "products[1].cpus"),
        ("products.memory_gb", -1, "products[1].memory_gb"),
        ("products.unit", "CREDITS_PER_CENTURY", "products[1].unit"),
        ("products.omit", ["time"], "products[1].omit[1]: --time cannot be left out; these options can: cpus-per-task, gres"),
        ("products.omit", ["mem", "--mem"], "products[1].omit[2]: "),
        ("products.omit", ["job-name"], "--job-name cannot be left out"),
        ("products.omit", ["no\nsuch"], "--no such cannot be left out"),
        ("products.omit", "mem", "products[1].omit"),
        ("ucloud.proxy", "https://proxy.example.org:3128", "ucloud.proxy: should be http://, a host and a port"),
        ("ucloud.proxy", "http://proxy.example.org", "ucloud.proxy: should be http://, a host and a port"),
        ("ucloud.proxy", "http://proxy.example.org:3128/path", "ucloud.proxy: should be"),
        ("ucloud.proxy", "http://proxy.example.org:99999", "ucloud.proxy: "),
        ("ucloud.proxy", "socks5://proxy.example.org:1080", "ucloud.proxy: should be"),
        ("ucloud.proxy", 3128, "ucloud.proxy: should be"),
        *(
            ("jobs.folder", folder, "jobs.folder: should be an absolute path such as")
            for folder in ("", "/", "jobs", "~/jobs", "{home}jobs", "/{home}/jobs", "/a/../b", "/a/{project}", "/a\nb", 5)
        ),
        *(
            ("users.group", group, "users.group: should be the name of a group")
            for group in ("", " ", "-x", "%x", "#1", "x:y", "x,y", "x\nALL ALL=(ALL) ALL", " x", "g" * 300, 5)
        ),
    ],
)
def test_a_wrong_value_is_named(path: str, value: Any, words: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        config.parse(changed(path, value))
    assert any(words in sentence for sentence in raised.value.sentences), raised.value.sentences


def test_credentials_of_the_proxy_are_read_from_a_file_and_shown_nowhere(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"ucloud\.proxy_credentials_file") as raised:
        config.parse(changed("ucloud.proxy", "http://me:hunter2@proxy.example.org:3128"))
    assert "hunter2" not in str(raised.value)
    file = tmp_path / "credentials"
    data = changed("ucloud.proxy", "http://proxy.example.org:3128/")
    assert config.parse(data).ucloud.proxy_url() == "http://proxy.example.org:3128"
    data["ucloud"]["proxy_credentials_file"] = str(file)
    read = config.parse(data)
    with pytest.raises(Misconfigured, match=r"ucloud\.proxy_credentials_file: .* cannot be read"):
        read.ucloud.proxy_url()
    file.write_text("me:a:/@%\n")
    assert read.ucloud.proxy_url() == "http://me:a%3A%2F%40%25@proxy.example.org:3128"
    assert "%40" not in repr(read)
    for wrong in ("", "me", ":x", "me:x\nmore"):
        file.write_text(wrong)
        with pytest.raises(Misconfigured, match="should hold user:password in one line"):
            read.ucloud.proxy_url()


@pytest.mark.parametrize("folder", ["{home}", "{home}/jobs", "/scratch/{user}", "/a b/50%d/{user}/", "/" + "x" * 200])
def test_a_folder_of_jobs_may_have_any_name(folder: str) -> None:
    assert config.parse(changed("jobs.folder", folder)).jobs.folder == folder


@pytest.mark.parametrize("group", ["hpc", "DOMAIN\\hpc users", "hpc@example.org", "gruppe-ä", "1x"])
def test_a_group_has_a_name_that_a_directory_gives(group: str) -> None:
    assert config.parse(changed("users.group", group)).users.group == group


@pytest.mark.parametrize("key", ["provider.url", "ucloud.url"])
@pytest.mark.parametrize(
    "url",
    [
        *(
            "https://hpc.example.org:99999",
            "https://hpc.example.org:x",
            "https://hpc.example.org:",
            "https://hpc.example.org:0",
        ),
        *(
            "https://hpc.exämple.org",
            "https://a b.org",
            "https://a;b{}",
            "https://h\n.evil",
            "https://h\0x.org",
            "https://[::1",
        ),
        *("https://$(touch x)", 'https://h"x', "https://-h", "https://", " https://hpc.example.org"),
    ],
)
def test_a_url_that_nginx_or_a_header_cannot_have_is_refused(key: str, url: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        config.parse(changed(key, url))
    assert raised.value.sentences == (f"{key}: should be a URL such as https://cloud.example.org, in ASCII.",)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        *((f"https://x.org{end}", "should be https:// and a host, without a path") for end in ("/path", "?x=1", "#f")),
        ("https://*.x.org", "should be https:// and a host, without a path"),
        ("http://x.org", "must begin with https:// (http:// is accepted for a loopback address only)."),
    ],
)
def test_the_address_that_ucloud_calls_is_a_host(url: str, said: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        config.parse(changed("provider.url", url))
    assert raised.value.sentences[0].startswith(f"provider.url: {said}")


def test_a_url_in_capitals_is_the_same() -> None:
    assert config.parse(changed("provider.url", "HTTPS://HPC.Example.org/")).provider.url == "https://hpc.example.org"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:80", "https://x.org/"])
def test_plain_http_is_for_this_host_only(url: str) -> None:
    assert config.parse(changed("ucloud.url", url)).ucloud.url == url.rstrip("/")


def test_all_errors_are_listed_at_once() -> None:
    data = {"provider": {"id": "example"}, "ucloud": {"url": "http://x.org"}, "products": []}
    with pytest.raises(Misconfigured) as raised:
        config.parse(data)
    text = str(raised.value)
    for name in ("provider.url", "ucloud.url", "ucloud.refresh_token_file", "ucloud.public_key_file", "products"):
        assert name in text


def test_a_product_that_is_configured_twice_is_an_error() -> None:
    with pytest.raises(Misconfigured, match="example-compute-1 in category example-compute is configured twice"):
        config.parse(GOOD | {"products": GOOD["products"] * 2})


def test_a_terminal_is_never_one_of_an_account_that_all_users_share() -> None:
    drive = {"name": "p", "title": "P", "owner": "project", "local": "/p/{project}", "terminal": True}
    with pytest.raises(Misconfigured) as raised:
        config.parse({**GOOD, "drives": [drive]})
    assert "a shell of the account that all users share" in raised.value.sentences[0]


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="UCLOUD_SLURM_CONFIG"):
        config.read(tmp_path / "none.toml")


def test_a_broken_file_says_where(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[provider]\nid = \n")
    with pytest.raises(Misconfigured, match="line 2"):
        config.read(path)


def test_the_annotated_example_is_a_working_file() -> None:
    path = Path(__file__).parents[3] / "etc" / "config.toml"
    assert config.read(path).products


def test_a_comment_may_say_what_no_text_may_have(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("# not \\u0000\n" + annotated.annotated(GOOD))
    assert config.read(tmp_path / "config.toml").provider.id == GOOD["provider"]["id"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 100_000, "has lists or tables in too many others."),
        ('[database]\npath = "/x\\u0000y"', "a text has the character U+0000; leave it out."),
        ("a = ", "is not valid TOML: "),
        (annotated.annotated({**GOOD, "database": {"path": "u.db"}}), "database.path: u.db should begin with /."),
        (annotated.annotated({**GOOD, "hooks": [HOOK]}), "hooks[1].socket: h.sock should begin with /."),
    ],
)
def test_a_file_that_no_reader_can_have_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(Misconfigured) as raised:
        config.read(tmp_path / "config.toml")
    (sentence,) = raised.value.sentences
    assert sentence.startswith(f"{tmp_path}/config.toml: {said}")


def test_a_file_of_another_editor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf" + annotated.annotated(annotated.EXAMPLE).replace("\n", "\r\n").encode())
    assert config.read(path).provider.id == "example"
