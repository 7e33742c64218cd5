"""How UCloud presents the provider: what it asks for every ten seconds, and the logo that browsers load."""

import logging
from pathlib import Path

import pytest
import requests

from tests.conftest import Open, Serve
from tests.sandbox.core import SimulatedCore
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.system.pictures import MOST_BYTES, read_picture

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
TITLE = {"title": "Example Cluster"}
today = pytest.mark.parametrize("era", ["today"], scope="session")


def polled(core: SimulatedCore) -> None:
    core.poll()
    assert core.protocol_errors == []


@today
def test_ucloud_shows_the_names_texts_and_link_of_the_configuration(
    core: SimulatedCore, open_provider: Open, serve: Serve
) -> None:
    texts = {"short_description": "Old nodes.", "description": "*All* of it: [manual](https://example.org/m)"}
    serve(open_provider(branding=TITLE | texts | {"short_title": "Ex", "url": "https://example.org/hpc"}))
    polled(core)
    shown = core.polling.branding
    assert shown is not None
    assert (shown.title, shown.short_title, shown.url) == ("Example Cluster", "Ex", "https://example.org/hpc")
    assert (shown.short_description, shown.description) == (texts["short_description"], texts["description"])
    assert shown.logo is None


@today
def test_a_browser_loads_the_logo_without_a_token_and_keeps_it(
    core: SimulatedCore, open_provider: Open, serve: Serve, tmp_path: Path
) -> None:
    logo = tmp_path / "logo.svg"  # its name says nothing
    logo.write_bytes(PNG)
    url = serve(open_provider(branding=TITLE | {"logo": str(logo)}))
    polled(core)
    assert core.polling.branding is not None
    address = str(core.polling.branding.logo)
    assert address.startswith("http://127.0.0.1:1/ucloud/example/provider/branding/image?name="), "as browsers reach us"
    logo.unlink()  # it was read at the start
    answer = requests.get(address.replace("http://127.0.0.1:1", url), timeout=5)
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, PNG, "image/png")
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    other = requests.get(f"{url}/ucloud/example/provider/branding/image?name=other.png", timeout=5)
    assert (other.status_code, other.headers["Cache-Control"]) == (404, "no-store")


@today
def test_a_logo_that_cannot_be_used_is_left_out_and_the_journal_says_why(
    core: SimulatedCore, open_provider: Open, serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        serve(open_provider(branding=TITLE | {"logo": str(tmp_path / "none.png")}))
    polled(core)
    assert core.polling.branding is not None
    assert core.polling.branding.logo is None
    assert "branding.logo: " in caplog.text
    assert "cannot be read (No such file or directory)" in caplog.text


@pytest.mark.parametrize("era", ["2021", "2022"], scope="session")
def test_an_older_ucloud_has_no_such_call(core: SimulatedCore, open_provider: Open, serve: Serve) -> None:
    serve(open_provider(branding=TITLE))
    assert core.call("GET", "/ucloud/example/provider/branding/retrieveInfo")[0] == 404


@pytest.mark.parametrize(
    ("content", "type_"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "image/jpeg"),
        (b"GIF89a" + bytes(20), "image/gif"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(20), "image/webp"),
    ],
)
def test_the_content_of_a_picture_says_what_it_is(content: bytes, type_: str, tmp_path: Path) -> None:
    (tmp_path / "logo").write_bytes(content)
    assert read_picture("branding.logo", tmp_path / "logo").type == type_


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "is not a PNG"),
        (b"", "is not a PNG"),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", "is not a PNG"),
        (PNG + bytes(MOST_BYTES), "more than 512 KiB"),
    ],
)
def test_what_is_no_small_picture_is_refused_by_name(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(content)
    with pytest.raises(Misconfigured, match=words) as raised:
        read_picture("branding.logo", tmp_path / "logo.png")
    assert raised.value.sentences[0].startswith(f"branding.logo: {tmp_path}/logo.png ")
