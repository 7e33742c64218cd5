"""What the tests about the runner share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runner_site import Site, runner_site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with runner_site(tmp_path, monkeypatch) as site:
        yield site
