"""Headers that strangers send are refused, whatever is in them; none is an error that an administrator has to look at."""

from collections.abc import Mapping

import pytest
import requests

from tests.conftest import World

UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "a", "Sec-WebSocket-Version": "13"}
SOCKET = "/ucloud/example/websocket"
ODD = ("http://[", "//[a", "http://a]b", "http://a:99999", "\xff\xfe", "%00", "=" * 5000)


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        (SOCKET, UPGRADE, "Origin"),
        (SOCKET, UPGRADE | {"Origin": "https://elsewhere.example"}, "UCloud-Username"),
        ("/_ucloud/authorize", {"X-UCloud-Session": "a"}, "X-Original-URI"),
        ("/_ucloud/authorize", {"X-Original-URI": "/"}, "Cookie"),
        ("/_ucloud/authorize", {"X-Original-URI": "/_ucloud/vnc?token=a"}, "X-UCloud-Session"),
    ],
)
def test_an_odd_header_is_refused(world: World, path: str, headers: Mapping[str, str], name: str, odd: str) -> None:
    sent: dict[str, str | bytes] = {**headers, name: odd.encode("latin-1")}
    assert requests.get(f"{world.url}{path}", headers=sent, allow_redirects=False, timeout=10).status_code == 403
