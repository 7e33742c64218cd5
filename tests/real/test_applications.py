"""Applications on the real cluster: in an image, with modules, on two nodes, with files, and with a warning."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import site_opener
from tests.sandbox import packages
from tests.sandbox.cluster import Cluster
from tests.sandbox.installation import Installation
from tests.support.factories import application, job_data, parameter, var, word
from tests.support.real import Real
from ucloud_slurm.provider.modules import list_modules

PLAIN = {
    "category": "example-compute",
    "partition": "cpu",
    "cpus": 1,
    "memory_gb": 0.5,
    "gpus": 0,
    "unit": "CREDITS_PER_MINUTE",
}
DATA = parameter("data", "input_file")
MINUTE = {"hours": 0, "minutes": 1, "seconds": 0}
# It waits for the signal; there is nothing to wait for without one.
SAVES = application(word("sh"), word("-c"), word("trap 'echo saved; exit 7' USR1; while :; do sleep 0.1; done"))
# Slurm needs half a minute; they are started first and looked at last.
WARNED = {"9608": "warned", "9609": "warned-and-ended"}


def make_image(folder: Path, sees: Path) -> None:
    """A small image: busybox, and the files and empty folders that Charliecloud binds to."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", str(sees).lstrip("/")):
        (folder / name).mkdir(parents=True)
    for name in ("passwd", "group", "hosts", "resolv.conf"):
        (folder / "etc" / name).touch()
    (folder / "etc" / "image").write_text("the image\n")
    shutil.copy("/bin/busybox", folder / "bin" / "busybox")
    for name in ("sh", "cat", "printf"):
        (folder / "bin" / name).symlink_to("busybox")


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Path:
    """What the applications need, where jobs can read it."""
    packages.install(packages.missing(packages.APPLICATIONS), cluster.folder / "apt-get.log", print)
    place = cluster.folder / "applications"
    for name in ("images", "modules/acme", "data"):
        (place / name).mkdir(parents=True)
    make_image(place / "images" / "tools%busybox+1", cluster.folder)
    (place / "modules" / "acme" / "4").write_text("#%Module\nsetenv ACME_HOME /opt/acme-4\n")
    (place / "modules.sh").write_text(f". /usr/share/modules/init/bash\nmodule use {place}/modules\n")
    (place / "end.sh").write_text('echo "the end after $ucloud_status"\n')
    (place / "data" / "in put.txt").write_text("forty-two\n")
    (place / "data" / "out").symlink_to("/etc/passwd")
    return place


@pytest.fixture(scope="module")
def real(cluster: Cluster, installation: Installation, place: Path) -> Iterator[Real]:
    products = (
        {"id": "example-compute-1", **PLAIN},
        {"id": "warned", "signal": "USR1@1m", **PLAIN},
        {"id": "warned-and-ended", "signal": "USR1@1m", "epilogue": str(place / "end.sh"), **PLAIN},
    )
    tables: dict[str, dict[str, Any]] = {
        "containers": {"runtime": "charliecloud", "images": [str(place / "images")], "binds": [str(cluster.folder)]},
        "jobs": {"modules_init": str(place / "modules.sh")},
    }
    files = [{"ucloud": "/data", "local": str(place / "data")}]
    with site_opener(cluster, installation) as open_site:
        site, core = open_site(loop=1.0, products=products, tables=tables, files=files)
        real = Real(site, core, cluster)
        for number, product in WARNED.items():
            which = {"id": product, "category": "example-compute", "provider": "example"}
            assert real.create(job_data(number, app=SAVES, product=which, timeAllocation=MINUTE))[0] == 200
        yield real
    cluster.run("scancel", f"--user={cluster.service_user}")


def run(real: Real, job_id: str, app: dict[str, Any], **more: Any) -> None:
    assert real.create(job_data(job_id, app=app, **more))[0] == 200
    real.wait_for_end(job_id)


def test_an_image_runs_on_every_node_with_the_jobs_folder_its_environment_and_its_files(real: Real) -> None:
    tell = 'cat /etc/image "$1"; printf "%s\\n" "$GREETING" "$UCLOUD_RANK"; pwd > "$UCLOUD_JOB_FOLDER/in-$UCLOUD_RANK"'
    app = application(
        word("sh"),
        word("-c"),
        word(tell),
        word("sh"),
        var("data"),
        parameters=[DATA],
        backend="DOCKER",
        image="tools/busybox:1",
        environment={"GREETING": word("it's $me")},
    )
    data = {"type": "file", "path": "/data/in put.txt", "readOnly": False}
    run(real, "9601", app, parameters={"data": data}, replicas=2)
    for rank in ("0", "1"):
        said = real.output("9601", f"stdout-{rank}.log").splitlines()
        assert said == ["the image", "forty-two", "it's $me", rank], real.output("9601", f"stderr-{rank}.log")
        assert real.output("9601", f"in-{rank}").strip() == str(real.site.folder / "jobs" / "9601")


def test_an_image_that_is_not_there_is_named(real: Real) -> None:
    run(real, "9602", application(word("true"), backend="SINGULARITY", image="tools/nothing:1"))
    assert real.output("9602", "stderr-0.log") == "UCloud: there is no image tools/nothing:1 on this cluster.\n"


def test_a_module_is_loaded_before_the_application_starts(real: Real) -> None:
    run(real, "9603", application(word("printenv"), word("ACME_HOME"), modules=["acme/4"]))
    assert real.output("9603") == "/opt/acme-4\n"


def test_the_modules_of_a_host_are_those_that_its_jobs_can_load(place: Path) -> None:
    assert "acme/4" in list_modules(str(place / "modules.sh"), 60.0)


def test_a_module_that_is_not_there_ends_the_job_by_name(real: Real) -> None:
    run(real, "9604", application(word("echo"), word("started"), modules=["acme/5"]))
    assert real.output("9604") == ""
    assert "UCloud: the environment module acme/5 could not be loaded." in real.output("9604", "stderr-0.log")


def test_a_job_of_two_nodes_prints_two_names_and_may_start_steps_of_its_own(real: Real) -> None:
    tell = (
        'echo "$UCLOUD_RANK $SLURMD_NODENAME $GREETING"; [ "$UCLOUD_RANK" = 1 ] || { cat "$UCLOUD_HOSTFILE"; '
        "srun --nodes=2 --ntasks=2 printenv GREETING; }"
    )
    app = application(word("sh"), word("-c"), word(tell), environment={"GREETING": word("hello")})
    run(real, "9605", app, replicas=2)
    (first, *hosts, own, other), (second,) = (real.output("9605", f"stdout-{rank}.log").splitlines() for rank in (0, 1))
    names = [line.split()[1] for line in (first, second)]
    assert [first, second] == [f"0 {names[0]} hello", f"1 {names[1]} hello"]
    assert hosts == names
    assert len(set(names)) == 2
    assert (own, other) == ("hello", "hello")


def test_a_file_is_read_where_it_is_and_a_link_out_of_its_folder_is_not_followed(real: Real, place: Path) -> None:
    app = application(word("cat"), var("data"), parameters=[DATA])
    paths = {"9606": "/data/in put.txt", "9607": "/data/out"}
    for number, path in paths.items():
        assert real.create(job_data(number, app=app, parameters={"data": {"type": "file", "path": path}}))[0] == 200
    for number in paths:
        real.wait_for_end(number)
    assert real.output("9606") == "forty-two\n"
    assert real.output("9607") == ""
    said = f"UCloud: The parameter 'data': {place}/data/out leads out of {place}/data.\n"
    assert real.output("9607", "stderr-0.log") == said


def test_a_signal_before_the_end_reaches_the_application_and_not_its_shell(real: Real) -> None:
    for number in WARNED:
        real.wait_for_end(number)
    assert real.output("9608") == "saved\n"
    assert real.output("9609") == "saved\nthe end after 7\n"
