"""Files: a page of a large folder, contents there and back, and what transfers cost those who do other things."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tests.sandbox.bench import curls
from tests.sandbox.bench.drive_stage import DriveScene, drive_scene
from tests.sandbox.bench.rows import Series, row
from tests.sandbox.bench.stage import OWNER, RUNNING, Stage
from tests.sandbox.core.applications import application, word
from tests.sandbox.core.web_files import CHUNK
from tests.sandbox.processes import wait_until

ENTRIES = 10_000
PAGES = 30
TRANSFERS, FEW = 100, 10
NOTHING, BY_NGINX, OURS = "nothing is transferred", "nginx alone carries them", "the file unit"
RATE = "12500k"
"""Bytes a second of each of the ten: together a gigabit."""
SLOW = "2M"
WATCHED = 12.0
FOLLOWERS = 20
PATIENCE = 60.0
TALKER = ("ticker", "1")
LINES = 20
TICK = "while sleep 0.2; do date +%s.%N; done"


def files(stage: Stage) -> None:
    """Measures them."""
    with drive_scene(stage) as drives:
        _page(drives)
        _download(drives)
        _upload(drives)
        _memory(drives)
        _others(drives)
        _first(drives)


def _page(drives: DriveScene) -> None:
    """The first page of a folder of many, beside ls, which lists it whole."""
    scene = drives.scene
    folder = drives.folder / "many"
    folder.mkdir()
    for number in range(ENTRIES):
        (folder / f"result-{number:05d}.dat").touch()
    drives.give(folder)
    http, asked = drives.listing("many")
    timer = scene.timer()
    ls = ["/bin/ls", "-l", str(folder)]
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(PAGES // 5):
        ours += http.post([asked] * 5).took
        bare += timer.run(ls, scene.stage.environment(), times=5).took
    name = f"the first page of a folder of {ENTRIES}"
    scene.stage.add(row("files-page", name, "ms", ours, bare, "ls -l of all"))
    late = Series.of(ours).quantile(0.95)
    scene.stage.add(row("files-page-late", "of which 95 of 100 take less than", "ms", [late]))


def _download(drives: DriveScene) -> None:
    """A large file through the file unit, and the same by nginx itself."""
    stage = drives.scene.stage
    size = stage.sizes.download
    with (drives.folder / "large").open("wb") as file:
        file.truncate(size)
    drives.give(drives.folder / "large")
    curls.took(curls.get(f"{drives.static}/large"))  # from now on the kernel has it in memory
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(stage.sizes.rounds):
        ours.append(size / 1e6 / curls.took(curls.get(drives.download("large"))))
        bare.append(size / 1e6 / curls.took(curls.get(f"{drives.static}/large")))
    name = f"download of {size / 2**30:g} GiB through nginx and the file unit"
    stage.add(row("files-download", name, "MB/s", ours, bare, "nginx from its disk"))


def _upload(drives: DriveScene) -> None:
    """A large file in chunks, and the same by WebDAV."""
    stage = drives.scene.stage
    number = stage.sizes.chunks
    chunk, whole = _source(drives, number)
    ours: list[float] = []
    bare: list[float] = []
    for each in range(stage.sizes.rounds):
        os.sync()
        ours.append(number * CHUNK / 1e6 / curls.took(curls.chunks(drives.upload(f"up-{each}"), chunk, number)))
        os.sync()
        put = curls.took(curls.put(whole, f"{drives.static}/dav/up-{each}"))
        bare.append(number * CHUNK / 1e6 / (put + _forced(drives.folder / f"dav/up-{each}")))
        for path in (drives.folder / f"up-{each}", drives.folder / f"dav/up-{each}"):
            if path.stat().st_size != number * CHUNK:
                raise AssertionError(f"{path} is not whole")
            path.unlink()
    name = f"upload of {number * CHUNK / 1e9:.3g} GB in chunks through nginx, to the disk"
    stage.add(row("files-upload", name, "MB/s", ours, bare, "WebDAV of nginx, and fsync"))


def _forced(path: Path) -> float:
    """Seconds until a file is on the disk: an upload of ours ends with that."""
    begun = time.perf_counter()
    descriptor = os.open(path, os.O_RDWR)
    os.fsync(descriptor)
    os.close(descriptor)
    return time.perf_counter() - begun


def _source(drives: DriveScene, number: int) -> tuple[Path, Path]:
    folder = drives.scene.site.folder
    chunk, whole = folder / "chunk", folder / "whole"
    data = os.urandom(CHUNK)
    chunk.write_bytes(data)
    with whole.open("wb") as file:
        for _ in range(number):
            file.write(data)
    return chunk, whole


def _memory(drives: DriveScene) -> None:
    """The memory of the file unit while many transfer."""
    stage = drives.scene.stage
    half = TRANSFERS // 2
    chunk = drives.scene.site.folder / "chunk"
    commands = [curls.get(drives.download("large"), SLOW) for _ in range(half)]
    commands += [curls.chunks(drives.upload(f"slow-{each}"), chunk, 20, SLOW) for each in range(half)]
    idle = drives.unit_memory()
    seen: list[float] = []
    with curls.beside(commands):
        until = time.monotonic() + WATCHED
        while time.monotonic() < until:
            seen.append(drives.unit_memory())
            time.sleep(0.1)
    stage.add(row("files-memory", f"the file unit's memory, {TRANSFERS} transfers at once", "MiB", [max(seen)], [idle], "idle"))


def _others(drives: DriveScene) -> None:
    """Creates and logs while some transfer, beside without, and while nginx carries the same by itself."""
    stage, core = drives.scene.stage, drives.scene.core
    http = drives.scene.http()
    core.catalogue.add_application(application(*TALKER, [word("bash"), word("-c"), word(TICK)]))
    job = core.submit(application=TALKER, product=str(RUNNING["id"]), owner=OWNER)
    core.wait(job, "RUNNING", PATIENCE)
    http.post(drives.scene.bodies(stage.sizes.block))
    load: Mapping[str, Callable[[int], Sequence[curls.Command]]] = {
        NOTHING: lambda _: (), BY_NGINX: partial(_by_nginx, drives), OURS: partial(_by_the_unit, drives)
    }  # fmt: skip
    creates: dict[str, list[float]] = {each: [] for each in load}
    lines: dict[str, list[float]] = {each: [] for each in load}
    for number in range(stage.sizes.rounds):
        for name, commands in load.items():
            with curls.beside(commands(number)):
                time.sleep(1)
                creates[name] += http.post(drives.scene.bodies(stage.sizes.at_once)).took
                lines[name] += _follow(drives, job)
    for key, what, took in (("create", "create", creates), ("follow", "line written to line shown", lines)):
        name = f"{what} while {FEW} transfer at a gigabit together"
        stage.add(row(f"files-{key}", name, "ms", took[OURS], took[BY_NGINX], BY_NGINX))
        stage.add(row(f"files-{key}-quiet", "the same", "ms", took[OURS], took[NOTHING], NOTHING))


def _by_the_unit(drives: DriveScene, number: int) -> Sequence[curls.Command]:
    chunk = drives.scene.site.folder / "chunk"
    down = [curls.get(drives.download("large"), RATE) for _ in range(FEW // 2)]
    return down + [curls.chunks(drives.upload(f"beside-{number}-{each}"), chunk, 40, RATE) for each in range(FEW // 2)]


def _by_nginx(drives: DriveScene, number: int) -> Sequence[curls.Command]:
    whole, static = drives.scene.site.folder / "whole", drives.static
    down = [curls.get(f"{static}/large", RATE) for _ in range(FEW // 2)]
    return down + [curls.put(whole, f"{static}/dav/beside-{number}-{each}", RATE) for each in range(FEW // 2)]


def _follow(drives: DriveScene, job: str) -> list[float]:
    """What those wait for a line who follow a log that grows, from the second second on: what was there before comes first."""
    late: list[float] = []
    lock = threading.Lock()
    begun = time.time()

    def heard(_at: float, payload: dict[str, Any]) -> None:
        now = time.time()
        with lock:
            written = (float(each) for each in (payload.get("stdout") or "").split())
            late.extend((now - each) * 1000 for each in written if each > begun + 2)

    with ExitStack() as stack:
        for _ in range(FOLLOWERS):
            stack.enter_context(drives.scene.core.follow(job, OWNER, on_message=heard))
        wait_until("lines of the log", lambda: len(late) >= FOLLOWERS * LINES, seconds=PATIENCE)
    return late


def _first(drives: DriveScene) -> None:
    """The first call of somebody for whom no program runs yet."""
    site, stage = drives.scene.site, drives.scene.stage
    http, asked = drives.listing("dav")
    cold: list[float] = []
    warm: list[float] = []
    for _ in range(stage.sizes.rounds + 2):
        runner = next(each for each in site.processes if b"runner" in Path(f"/proc/{each.pid}/cmdline").read_bytes())
        site.end(runner)
        (site.folder / "runner.sock").unlink(missing_ok=True)
        site.run_runner()
        cold += http.post([asked]).took
        warm += http.post([asked] * 5).took
    stage.add(row("files-first", "a person's first call, which starts a program", "ms", cold, warm, "later ones"))
