"""The scene of files: an input goes into a drive, a job reads it, and its result is downloaded by a link."""

import hashlib
import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.applications import application, parameter, var, word
from tests.sandbox.core.era import CoreEra
from tests.sandbox.driven import give_drive, web_files
from tests.sandbox.errors import SandboxError
from tests.sandbox.installation import Installation
from tests.sandbox.site import Site, SiteSettings

PATIENCE = 60.0
PASS_SECONDS = 1.0
RESEARCHER, ACCOUNT = "Alice#1", "alice"
HOME = {"name": "home", "title": "Home on the cluster", "local": "{home}"}
FOLDER, INPUT, RESULT = "ucloud-demo", "sequence.txt", "reversed.txt"
LINES = 400_000
"""Of the input, about 21 MB: two chunks of an upload."""
REVERSE = f'tac "$0" > {RESULT}'


class FilesScene:
    """A researcher's file on its way there and back."""

    def __init__(self, cluster: Cluster, installation: Installation, era: CoreEra, say: Callable[[str], None]) -> None:
        self._say = say
        self._core = SimulatedCore(provider="example", era=era, first_id=54300)
        self._home = Path(pwd.getpwnam(ACCOUNT).pw_dir)
        folder = cluster.folder / "sites" / "files"
        shutil.rmtree(folder, ignore_errors=True)
        tables = {"jobs": {"folder": f"{{home}}/{FOLDER}/jobs"}}
        settings = SiteSettings(folder=folder, links={RESEARCHER: ACCOUNT}, drives=(HOME,), tables=tables)
        self._site = Site(cluster, self._core, installation, settings)
        self._unit = self._drive = ""

    def open(self) -> None:
        """Starts the site, and waits until its researcher has a drive, which takes up to a minute.

        :raises TimeoutError: there is no drive
        """
        self._clear()
        self._core.start()
        self._site.install()
        self._site.start()
        self._unit = self._site.serve_files()
        self._drive = give_drive(self._site, self._core, RESEARCHER, every=PASS_SECONDS)

    def close(self) -> None:
        """Ends it; nothing of it stays in the home of its researcher."""
        self._site.stop()
        self._core.stop()
        self._clear()

    def play(self) -> None:
        """Plays it on the site that was opened.

        :raises SandboxError: something did not go as it should
        :raises TimeoutError: something did not come
        """
        core, drive = self._core, self._drive
        self._say(f"drive {drive} of {RESEARCHER} is the home of {ACCOUNT}: {self._home}")
        web = web_files(core, self._site, self._unit, RESEARCHER)
        lines = [f"{number:08d} {hashlib.sha256(str(number).encode()).hexdigest()[:44]}\n" for number in range(LINES)]
        sent, expected = "".join(lines).encode(), "".join(reversed(lines)).encode()
        core.create_folder(RESEARCHER, f"/{drive}/{FOLDER}")
        path = f"/{drive}/{FOLDER}/{INPUT}"
        web.upload(path, sent)
        self._show(f"upload of {INPUT}, in chunks, past the web service: ls -l", [self._listed(self._home / FOLDER / INPUT)])
        folder = self._job(path)
        page = core.browse(RESEARCHER, folder)["items"]
        self._show(f"browse {folder}", [f"{item['id']}, {item['status']['sizeInBytes']} bytes" for item in page])
        answer = web.download(f"{folder}/{RESULT}")
        got = answer.content
        self._show(f"download of {RESULT}, by a link that works once", [f"{len(got)} bytes, sha256 {_digest(got)}"])
        self._show(
            f"expected: the lines of {INPUT} from the last to the first", [f"{len(expected)} bytes, sha256 {_digest(expected)}"]
        )
        if got != expected:
            raise SandboxError("what was downloaded is not what was expected")
        if core.protocol_errors:
            raise SandboxError("; ".join(core.protocol_errors))

    def _job(self, path: str) -> str:
        """Runs the job; gives the folder of its output, as UCloud knows it."""
        core = self._core
        words = [word("sh"), word("-c"), word(REVERSE), var("data")]
        core.catalogue.add_application(application("reverse", "1.0", words, [parameter("data", "input_file")]))
        job = core.submit(
            application=("reverse", "1.0"),
            product="example-compute-1",
            owner=RESEARCHER,
            minutes=10,
            name="lines reversed",
            parameters={"data": {"type": "file", "path": path}},
        )
        self._say(f"UCloud's job {job} gets {path} as its input")
        core.wait(job, "SUCCESS", PATIENCE)
        folder = next((each["outputFolder"] for each in core.job(job).updates if each.get("outputFolder")), None)
        if folder is None:
            raise SandboxError("UCloud does not know where the output of the job is")
        return str(folder)

    @staticmethod
    def _listed(path: Path) -> str:
        status = path.stat()
        return f"{pwd.getpwuid(status.st_uid).pw_name} {status.st_size} {path}"

    def _clear(self) -> None:
        if os.path.lexists(self._home / FOLDER):
            shutil.rmtree(self._home / FOLDER)

    def _show(self, title: str, lines: list[str]) -> None:
        self._say(title)
        for line in lines:
            self._say(f"    {line}")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
