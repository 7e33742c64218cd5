"""The rule about people: one file, or its default; the configuration only narrows it."""

import grp
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.system import accounts
from ucloud_slurm.system.accounts import FLOOR, PeopleRule, is_name, read_rule, root_group, wider


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A rule that is trusted, whoever runs the tests."""
    monkeypatch.setattr(accounts, "distrust", lambda *_: None)
    return tmp_path / "people.toml"


def test_without_a_file_the_default_counts_and_nothing_is_loaded_to_read_it(tmp_path: Path) -> None:
    assert read_rule(tmp_path / "none") == PeopleRule()
    code = (
        "import sys; from pathlib import Path; import ucloud_slurm.users.as_user; "
        "from ucloud_slurm.system.accounts import read_rule; read_rule(Path('/none/none')); print('tomllib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_file_says_names_floor_and_slurms_account(file: Path) -> None:
    file.write_text('names = "[a-z]+"\nuid_floor = 5000\nslurm_user = "svc-slurm"\n')
    assert read_rule(file) == PeopleRule(("[a-z]+",), 5000, "svc-slurm")
    file.write_text("uid_floor = 500\n")
    assert read_rule(file) == PeopleRule(uid_floor=500)
    file.write_text('refused_groups = ["docker", "DOM\\\\admins"]\nplugin_options = ["container-image"]\n')
    assert read_rule(file) == PeopleRule(refused_groups=("docker", r"DOM\admins"), plugin_options=("container-image",))
    file.write_text("refused_groups = []\n")
    assert read_rule(file).refused_groups == ()


def test_the_example_shows_the_defaults(file: Path) -> None:
    example = (Path(__file__).parents[3] / "etc" / "people.toml").read_text()
    file.write_text(re.sub(r"^#(?=\S|    )", "", example, flags=re.MULTILINE))
    assert all(f"\n{key} = " in file.read_text() for key in PeopleRule.KEYS)
    assert read_rule(file) == PeopleRule()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names = 1", "names: should be a regular expression"),
        ('names = "["', "names: should be a regular expression"),
        ("uid_floor = true", "uid_floor: should be a whole number above 0"),
        ("uid_floor = 0", "uid_floor: should be a whole number above 0"),
        ('uid_floor = "1000"', "uid_floor"),
        ("uid_floor = 1000.5", "uid_floor"),
        ("slurm_user = 64030", "slurm_user"),
        ('slurm_user = "64030"', "slurm_user"),
        ('slurm_user = ""', "slurm_user"),
        ('refused_groups = "docker"', "refused_groups: should be a list of names of groups"),
        ("refused_groups = [999]", "refused_groups"),
        ('refused_groups = ["999"]', "refused_groups"),
        ('plugin_options = "container-image"', "plugin_options: should be a list of whole names"),
        ('plugin_options = ["--container-image"]', "plugin_options"),
        ('plugin_options = ["ui"]', "plugin_options"),
        ('plugin_options = ["wrap"]', "plugin_options"),
        ("plugin_options = [1]", "plugin_options"),
        ("owner = 1", "owner is not a key"),
        ("[names]", "names"),
        ("a = [" * 5000, "people.toml"),
        ("\udcff", "people.toml"),
    ],
)
def test_a_file_that_says_something_else_is_one_sentence(file: Path, text: str, said: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(Misconfigured) as error:
        read_rule(file)
    (sentence,) = error.value.sentences
    assert sentence.startswith(f"{file}: ")
    assert said in sentence


def test_no_rule_makes_a_name_of_what_sudo_or_slurm_read_as_something_else() -> None:
    everything = PeopleRule((".*",))
    for text in (
        "",
        "1000",
        "-u",
        "+1000",
        "#1000",
        "%wheel",
        "a b",
        "a\tb",
        "a\nb",
        "a/b",
        "a,b",
        "a:b",
        "a=b",
        "..",
        "a\x00",
    ):
        assert not is_name(text)
        assert not everything.allows_name(text)
    assert everything.allows_name("é")


def test_the_configuration_only_narrows() -> None:
    rule = PeopleRule(("[a-z]+",), 5000)
    assert rule.narrowed(None, None) == rule
    narrow = rule.narrowed("a.*|B", 1000)
    assert narrow.uid_floor == 5000
    assert [narrow.allows_name(name) for name in ("ada", "bob", "B")] == [True, False, False]
    assert rule.narrowed(None, 6000).uid_floor == 6000


def test_a_wider_pattern_of_the_configuration_is_found_by_an_example() -> None:
    assert wider(PeopleRule(), "[a-z_][a-z0-9_-]{0,31}") is None
    assert wider(PeopleRule(("[a-z]+",)), "[a-z.]+") == "ada.l"
    assert wider(PeopleRule(), ".*") == "a b"


def test_slurms_files_may_belong_to_system_accounts_and_to_the_account_that_the_rule_names() -> None:
    assert PeopleRule().owns_slurm(0)
    assert PeopleRule().owns_slurm(FLOOR - 1)
    assert not PeopleRule(slurm_user="nobody-at-all").owns_slurm(64030)
    assert not PeopleRule(uid_floor=500, slurm_user="nobody-at-all").owns_slurm(700)


def test_who_can_become_root_through_a_group_is_known_by_its_name_and_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sources of groups can disagree: here wheel is 10 and 5010, and 998 is docker and physics."""
    numbers, names = {"wheel": 10, "docker": 998, "physics": 998}, {10: "wheel", 5010: "wheel", 998: "physics", 100: "users"}
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.struct_group((name, "x", numbers[name], [])))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group((names[gid], "x", gid, [])))
    accounts._group_ids.clear()
    assert [root_group({100, gid}, PeopleRule()) for gid in (10, 5010, 998, 100, 7)] == ["wheel", "wheel", "docker", None, None]
    assert root_group({100, 998}, PeopleRule(refused_groups=("wheel",))) is None, "a site may shorten the list"
    assert root_group({100, 0}, PeopleRule(refused_groups=())) == "root", "but for the group of root"
    accounts._group_ids.clear()
