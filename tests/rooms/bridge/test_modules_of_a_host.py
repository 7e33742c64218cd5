"""The list of environment modules: what a host prints, in any amount, becomes names that jobs can load."""

from pathlib import Path

import pytest

from ucloud_slurm.bridge.script.modules import LARGEST_LIST_BYTES, MOST_LISTED, listed
from ucloud_slurm.provider.modules import ModulesUnavailableError, list_modules


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("/usr/share/modules/modulefiles:\ndot\nnull\n", ("dot", "null")),  # Environment Modules
        ("/m:\ngcc/12.2.0(default)\ngcc/11.1\n", ("gcc/11.1", "gcc/12.2.0")),
        ("/opt/Core:\ngcc/\ngcc/12.2.0\nOpenMPI/4 <L>\n/opt/gcc:\n", ("gcc/12.2.0", "OpenMPI/4")),  # Lmod
        ("bash: warning: setlocale\n$(id)\n-x\na b\n\n", ()),
        ("b/1\na/1\nb/1\n", ("a/1", "b/1")),
    ],
)
def test_names_are_told_from_everything_else_that_is_printed(output: str, expected: tuple[str, ...]) -> None:
    assert listed(output) == expected


def test_a_tree_of_many_modules_is_cut_where_a_form_would_be_slow() -> None:
    assert len(listed("\n".join(f"m/{number}" for number in range(MOST_LISTED + 5)))) == MOST_LISTED


def test_an_endless_list_is_cut(tmp_path: Path) -> None:
    init = tmp_path / "init"
    init.write_text("module() { yes a/1 >&2; }\n")
    assert list_modules(str(init), 30.0) == ("a/1",)
    assert LARGEST_LIST_BYTES <= 2**20


@pytest.mark.parametrize("text", [None, "true\n"])
def test_a_host_without_modules_is_named_and_lists_none(text: str | None, tmp_path: Path) -> None:
    init = tmp_path / "init"
    if text is not None:
        init.write_text(text)
    with pytest.raises(ModulesUnavailableError, match=r"no file defines the function module \(jobs.modules_init\)"):
        list_modules(str(init), 10.0)
