"""What the form of an application shows of the cluster: a readme, and modules to choose from."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock, Open, Serve, World
from tests.sandbox.core import SimulatedCore
from tests.support.factories import application, jinja, parameter, word
from tests.support.model import Model
from ucloud_slurm.provider.modules import KIND
from ucloud_slurm.store.caches import Cache
from ucloud_slurm.system.process import run
from ucloud_slurm.worker.modules import EVERY_SECONDS
from ucloud_slurm.worker.run import run_once

pytestmark = pytest.mark.parametrize("era", ["today"], scope="session")
TREE = ["gcc/12.2.0", "gcc/13.1.0", "GROMACS/2021.5-foss", "dot"]
README = {"gromacs": "Use `-ntomp`.", "gromacs/2021.5": "Version *2021.5* has AVX2.", "fftw": "FFTW."}


@pytest.fixture
def init(tmp_path: Path) -> Path:
    """A file that defines ``module`` and says what there is, as both implementations do."""
    path = tmp_path / "modules.sh"
    path.write_text("module() { [ \"$*\" = '--terse avail' ] && cat <<'END' >&2\n/tree:\n" + "\n".join(TREE) + "\nEND\n}\n")
    return path


@pytest.fixture
def world(core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock, init: Path) -> World:
    settings = {"find_modules": True, "readme": README, "load": {"fftw": ["FFTW/3"]}}
    provider = open_provider(applications=settings, jobs={"modules_init": str(init)})
    return World(core, provider, model, clock, serve(provider))


def form(world: World, app: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parameters that the provider adds, by their kind."""
    world.core.catalogue.add_application(app)
    found = world.core.open_form((app["metadata"]["name"], "1.0"))
    assert len({each["type"] for each in found}) == len(found)
    return {each["type"]: each for each in found}


def offered(world: World, app: dict[str, Any]) -> list[str]:
    return [module["name"] for module in form(world, app).get("modules", {"supportedModules": []})["supportedModules"]]


def test_users_choose_from_the_modules_that_the_worker_has_found(world: World) -> None:
    app = application(word("true"))
    assert offered(world, app) == [], "no pass has been yet"
    world.work()
    assert offered(world, app) == ["dot", "gcc/12.2.0", "gcc/13.1.0", "GROMACS/2021.5-foss"]
    chosen = {"_injected_modules": {"type": "modules", "modules": ["gcc/13.1.0"]}}
    job = world.submit(application=(app["metadata"]["name"], "1.0"), parameters=chosen)
    assert "module load gcc/13.1.0 " in world.slurm(job).submission.script
    none = {"_injected_modules": {"type": "modules", "modules": []}}  # what the page sends where none was chosen
    other = world.submit(application=(app["metadata"]["name"], "1.0"), parameters=none)
    assert "module load" not in world.slurm(other).submission.script


def test_a_form_shows_the_readme_of_the_software_that_its_application_loads(world: World) -> None:
    world.work()
    found = form(world, application(word("x"), load=[("gromacs", "2021.5"), ("fftw", "3")]))
    assert found["readme"]["description"] == "Version *2021.5* has AVX2.\n\nFFTW."
    assert "modules" not in found, "all of it is here"
    other = form(world, application(word("x"), load=[("gromacs", "2021")]))
    assert other["readme"]["description"] == "Use `-ntomp`."
    assert form(world, application(word("true"))).keys() == {"modules"}


def test_software_that_is_not_here_is_named_and_modules_can_be_chosen_for_it(world: World) -> None:
    app = application(jinja("x"), load=[("gromacs", "2023"), ("fftw", "9")])
    assert form(world, app)["readme"]["description"] == "Use `-ntomp`.\n\nFFTW.", "what there is is not known yet"
    world.work()
    found = form(world, app)
    assert "no module for `gromacs/2023`. Choose" in found["readme"]["description"]
    assert found["modules"]["supportedModules"]


def test_a_version_is_found_among_the_modules_whatever_the_case_of_its_name(world: World) -> None:
    app = application(word("x"), load=[("gromacs", "2021.5")])
    world.core.catalogue.add_application(app)
    world.work()
    job = world.submit(application=(app["metadata"]["name"], "1.0"), parameters={})
    assert "module load GROMACS/2021.5-foss " in world.slurm(job).submission.script


IN_AN_IMAGE = application(word("x"), backend="DOCKER")
WITH_ITS_OWN = application(word("x"), parameters=[parameter("m", "modules", optional=True, defaultValue=[])])


@pytest.mark.parametrize("app", [IN_AN_IMAGE, WITH_ITS_OWN])
def test_images_and_applications_with_a_list_of_their_own_get_none(world: World, app: dict[str, Any]) -> None:
    world.work()
    assert offered(world, app) == []


def test_the_modules_are_listed_once_an_hour_and_stay_while_that_fails(world: World, init: Path) -> None:
    app = application(word("true"))
    world.work()
    init.write_text("module() { echo new/1 >&2; }\n")
    world.work(EVERY_SECONDS - 60)
    assert "gcc/12.2.0" in offered(world, app)
    world.work(61)
    assert offered(world, app) == ["new/1"]
    init.unlink()
    world.work(EVERY_SECONDS + 1)
    assert offered(world, app) == ["new/1"]


def test_a_tree_that_hangs_costs_a_pass_its_limit_once_an_hour_and_no_form_anything(
    world: World, init: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init.write_text("module() { sleep 1000; }\n")
    begun: list[float] = []

    def short(argv: Any, env: Any, within: float) -> Any:
        begun.append(within)
        return run(argv, env, 0.2)

    monkeypatch.setattr("ucloud_slurm.provider.modules.run", short)
    assert world.work().name == "DONE"
    assert begun == [10.0]
    world.work(60)
    assert offered(world, application(word("true"))) == []
    assert begun == [10.0], "neither the next pass nor a form asks for them"


def test_without_the_setting_what_was_found_before_is_not_shown(
    core: SimulatedCore, open_provider: Open, serve: Serve, model: Model, clock: Clock, init: Path
) -> None:
    run_once(open_provider(applications={"find_modules": True}, jobs={"modules_init": str(init)}))
    provider = open_provider(jobs={"modules_init": str(init)})
    world = World(core, provider, model, clock, serve(provider))
    assert Cache(provider.store, KIND).get("", clock()) is not None
    assert offered(world, application(word("true"))) == []
