"""A file for a bug report has what helps, and nothing that is secret, whatever is planted where."""

import grp
import json
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.sandbox.site import toml
from tests.support.database import earlier_release
from tests.support.factories import new_job
from ucloud_slurm.cli import report as verb
from ucloud_slurm.cli import report_parts
from ucloud_slurm.cli.main import main
from ucloud_slurm.cli.report_parts import UNITS, Part
from ucloud_slurm.store.caches import MemoryInStore
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.outbox import Outbox
from ucloud_slurm.store.people import People, UserLink
from ucloud_slurm.store.sqlite import Store

ROOT = Path(__file__).parents[3]
REFRESH, PASSWORD = "refresh-Xq81zz", "hunter-22-pw"
PUBLIC = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAu1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gunVTLw7onLRnrq0"
ACCESS = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.c2lnbmF0dXJl"
OPAQUE = "kept-opaque-access-of-no-form"
PARAMETER, SCRIPT, ENVIRONMENT = "planted-parameter-value", "planted script of a job", "planted-environment-value"
USER, ACCOUNT, PROJECT, TITLE = "AdaLovelace#1815", "ada_l", "b1f3-project-of-ada", "Analytical Engine Notes"
PLANTED = (
    *(REFRESH, PASSWORD, PUBLIC, PUBLIC[20:60], ACCESS, "c2lnbmF0dXJl", PARAMETER, SCRIPT, ENVIRONMENT, USER, ACCOUNT, PROJECT),
    *(TITLE, "journal-token-9", "bearer-in-journal-123", "ada@example.org", "storage-pass-7", OPAQUE, "b64privatekeytext"),
    *(
        "comment-secret-in-toml",
        "whole-sentence-of-the-owner",
        "eve_of_the_group",
        "planted-job-name",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    ),
)
JOURNAL = f"""\
2026-11-30T07:00:00+0000 login ucloud-slurm[1]: token=journal-token-9 is not valid
2026-11-30T07:00:01+0000 login ucloud-slurm[1]: Authorization: Bearer bearer-in-journal-123 was refused
2026-11-30T07:00:02+0000 login ucloud-slurm[1]: {USER} is connected with {ACCOUNT}; mail to ada@example.org
2026-11-30T07:00:03+0000 login ucloud-slurm[1]: cached {ACCESS}, {OPAQUE} of {REFRESH} by http://proxy:{PASSWORD}@proxy:3128
2026-11-30T07:00:04+0000 login ucloud-slurm[1]: job 7: /home/{ACCOUNT}/ucloud-jobs/7 of {PROJECT} ({TITLE})
-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASC
b64privatekeytext
-----END PRIVATE KEY-----
2026-11-30T07:00:05+0000 login ucloud-slurm[1]: eve_of_the_group is in wheel
2026-11-30T07:00:05+0000 login ucloud-slurm[1]: the last line is here
"""
SLURM = """\
Configuration data as of 2026-11-30T07:00:00
AccountingStorageHost   = db.example.org
AccountingStoragePass   = storage-pass-7
SLURM_VERSION           = 25.11.2
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site with something secret in every place; its configuration."""
    for module in ("cli.context", "cli.report", "users.service"):
        monkeypatch.setattr(f"ucloud_slurm.{module}.refuse_root", lambda: None)
    monkeypatch.setenv("PLANTED", ENVIRONMENT)
    monkeypatch.chdir(tmp_path)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("journalctl", JOURNAL), ("systemctl", "Id=ucloud-slurm.service\nActiveState=active\n")):
        _program(commands / name, text)
    _program(commands / "scontrol", SLURM)
    group = grp.struct_group(("ucloud-users", "x", 7999, ["eve_of_the_group"]))
    monkeypatch.setattr(grp, "getgrnam", lambda _name: group)
    monkeypatch.setattr(report_parts, "FOLDERS", f"{commands}:/usr/bin:/bin")
    (tmp_path / "token").write_text(REFRESH)
    (tmp_path / "key").write_text(PUBLIC)
    (tmp_path / "proxy").write_text(f"proxyuser:{PASSWORD}")
    folder = tmp_path / "jobs" / "7"
    folder.mkdir(parents=True)
    (folder / "job.sh").write_text(f"#!/bin/sh\necho {SCRIPT}\n")
    tables = {
        "provider": {"id": "example", "url": "http://127.0.0.1:1"},
        "database": {"path": str(tmp_path / "test.db")},
        "slurm": {"commands": str(commands)},
        "jobs": {"folder": str(tmp_path / "jobs")},
        "users": {"mapping": "table", "runner": str(tmp_path / "runner.sock")},
        "ucloud": {
            "url": "http://127.0.0.1:1",
            "refresh_token_file": str(tmp_path / "token"),
            "public_key_file": str(tmp_path / "key"),
            "proxy": "http://127.0.0.1:3",
            "proxy_credentials_file": str(tmp_path / "proxy"),
        },
        "products": [{"id": "p", "category": "c", "partition": "cpu", "options": ["--nice=100"]}],
        "outside": [{"account": "a", "product": "p", "category": "c", "created_by": USER, "project": PROJECT}],
    }
    path = tmp_path / "config.toml"
    path.write_text("# comment-secret-in-toml\n" + toml(tables))
    with closing(Store(tmp_path / "test.db")) as store:
        body = json.dumps({"specification": {"parameters": {"x": PARAMETER}, "script": SCRIPT}})
        people = {"owner": USER, "local_user": ACCOUNT, "project": PROJECT}
        Jobs(store).accept(
            [new_job("7", name="planted-job-name", body=body, accepted_at=1.0, **people), new_job("8", **people)]
        )
        store.change("update jobs set reason = 'whole-sentence-of-the-owner', secret = 'planted-nonce'")
        Outbox(store).enqueue("7", "update", {"update": {"status": PARAMETER}}, 1.0)
        MemoryInStore(store).keep("access", ACCESS)
        MemoryInStore(store).keep("another", OPAQUE)
        People(store).add([UserLink(USER, ACCOUNT, 7001, 1.0, "root")])
        store.change("insert into ucloud_projects values (?, ?, '[]', 1)", [PROJECT, TITLE])
    return path


def _program(path: Path, text: str) -> None:
    (path.parent / f"{path.name}.txt").write_text(text)
    path.write_text(f"#!/bin/sh\nexec cat {path}.txt\n")
    path.chmod(0o755)


def make(path: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["--config", str(path), "report", *words])


@pytest.fixture
def unpacked(site: Path) -> Callable[[], dict[str, str]]:
    """Makes a report; returns its files."""

    def made() -> dict[str, str]:
        done = make(site, "--out", "report.tar.gz")
        assert done.exit_code == 0, done.output
        found = {}
        with tarfile.open("report.tar.gz") as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                found[member.name.partition("/")[2]] = file.read().decode()
        return found

    return made


def test_nothing_that_is_secret_is_in_any_file_of_a_report(unpacked: Callable[[], dict[str, str]]) -> None:
    found = unpacked()
    assert [(name, planted) for name, text in found.items() for planted in (*PLANTED, "planted-nonce") if planted in text] == []


def test_what_helps_is_there(unpacked: Callable[[], dict[str, str]], site: Path) -> None:
    found = unpacked()
    assert "LEFT OUT" not in found["MANIFEST"]
    assert set(found) == {"MANIFEST"} | {
        line.split()[0] for line in found["MANIFEST"].splitlines() if ".txt " in line or ".json " in line
    }
    assert json.loads(found["config.json"])["users"]["mapping"] == "table"
    assert json.loads(found["config.json"])["ucloud"]["refresh_token_file"] == str(site.parent / "token")
    assert "ucloud.refresh_token_file: " + str(site.parent / "token") in found["files.txt"]
    assert json.loads(found["status.json"])["figures"]["waiting"] == 1
    assert "failed   ucloud" in found["check.txt"]
    assert next(each for each in json.loads(found["tables.json"]) if each["name"] == "jobs")["rows"] == 2
    assert [each["kind"] for each in json.loads(found["outbox.json"])] == ["update"]
    assert "the last line is here" in found["journal.txt"]
    assert "SLURM_VERSION           = 25.11.2" in found["slurm.txt"]
    assert "SQLite 3." in found["versions.txt"]


def test_the_same_person_has_the_same_other_name_everywhere(unpacked: Callable[[], dict[str, str]]) -> None:
    found = unpacked()
    (job, other) = json.loads(found["jobs.json"])
    names = (job["owner"], job["local_user"], job["project"])
    assert names == (other["owner"], other["local_user"], other["project"]) == ("user-1", "account-1", "project-1")
    assert "user-1 is connected with account-1; mail to [e-mail]" in found["journal.txt"]
    assert "/home/account-1/ucloud-jobs/7 of project-1" in found["journal.txt"]
    assert json.loads(found["config.json"])["outside"][0]["created_by"] == "user-1"


def test_the_file_is_for_this_account_only_and_replaces_none(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(site, "--out", "r.tar.gz").exit_code == 0
    assert Path("r.tar.gz").stat().st_mode & 0o777 == 0o600
    before = Path("r.tar.gz").read_bytes()
    monkeypatch.setattr(verb, "collect", lambda *_: pytest.fail("this takes up to three minutes"))
    again = make(site, "--out", "r.tar.gz")
    assert again.exit_code == 1
    assert again.stderr.splitlines()[-1].startswith("ucloud-slurm: r.tar.gz cannot be written (File exists); name another")
    assert Path("r.tar.gz").read_bytes() == before


def test_a_report_goes_to_standard_output_and_is_named_by_its_time_otherwise(site: Path) -> None:
    assert make(site, "--out", "-").stdout_bytes.startswith(b"\x1f\x8b")
    assert make(site).exit_code == 0
    assert len(list(Path().glob("ucloud-slurm-report-*T*Z.tar.gz"))) == 1


def test_a_part_that_cannot_be_had_is_a_line_of_the_manifest(site: Path, unpacked: Callable[[], dict[str, str]]) -> None:
    (site.parent / "bin" / "scontrol").unlink()
    (site.parent / "bin" / "systemctl").write_text("#!/bin/sh\necho token=journal-token-9 >&2\nexit 3\n")
    found = unpacked()
    assert "slurm.txt      LEFT OUT: scontrol show config: " in found["MANIFEST"]
    assert "units.txt      LEFT OUT: systemctl show of the units: systemctl ended with 3: token=[secret]" in found["MANIFEST"]
    assert "journal-token-9" not in make(site, "--out", "-").stderr
    assert not {"slurm.txt", "units.txt"} & set(found)
    assert "scontrol cannot be run" in found["versions.txt"]


def test_a_part_that_hangs_or_fails_costs_only_itself_and_says_nothing_secret(
    site: Path, unpacked: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for_ever = threading.Event()

    def fails() -> str:
        raise RuntimeError(PARAMETER)

    parts = [
        Part("hangs.txt", "a part that hangs", for_ever.wait, seconds=0.05),
        Part("fails.txt", "a part that fails", fails),
        Part("long.txt", "a long part", lambda: "x" * 2 * verb.PART_CHARACTERS + "end"),
        Part("long.json", "long data", lambda: ["x" * 100] * (verb.PART_CHARACTERS // 50)),
        Part("last.txt", "the last part", lambda: "there"),
    ]
    monkeypatch.setattr(verb, "parts", lambda *_: parts)
    found = unpacked()
    for_ever.set()
    assert "hangs.txt      LEFT OUT: a part that hangs: no answer within 0 s" in found["MANIFEST"]
    assert "fails.txt      LEFT OUT: a part that fails: unexpected RuntimeError at " in found["MANIFEST"]
    assert len(found["long.txt"]) == verb.PART_CHARACTERS
    assert found["long.txt"].endswith("xend")
    assert "long.json      LEFT OUT: long data: it has " in found["MANIFEST"]
    assert found["last.txt"] == "there"
    assert PARAMETER not in found["MANIFEST"]


def test_a_configuration_that_cannot_be_used_leaves_out_what_needs_it(
    site: Path, unpacked: Callable[[], dict[str, str]]
) -> None:
    site.write_text(site.read_text() + "\n[nonsense]\npassword = 'planted-parameter-value'\n")
    found = unpacked()
    assert "config.json    LEFT OUT: " in found["MANIFEST"]
    assert "nonsense is not a key that exists" in found["check.txt"]
    assert "NO NAMES ARE REPLACED: the configuration cannot be used" in found["MANIFEST"]
    assert "Python 3." in found["versions.txt"]
    assert not [name for name, text in found.items() if PARAMETER in text]


def test_a_database_of_an_older_release_is_not_migrated_by_a_report(
    site: Path, unpacked: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    database = site.parent / "test.db"
    database.unlink()
    with earlier_release(monkeypatch, 15):
        Store(database).close()
    before = database.read_bytes()
    found = unpacked()
    assert "is of an older release" in found["MANIFEST"]
    assert "check.txt      LEFT OUT: ucloud-slurm check: it would make or migrate" in found["MANIFEST"]
    assert database.read_bytes() == before


def test_a_report_asks_for_all_units_and_for_none_of_their_environments() -> None:
    there = {each.name for each in (ROOT / "systemd").iterdir() if each.suffix in (".service", ".socket", ".timer")}
    assert set(UNITS) == there
    assert not {"Environment", "ExecStart"} & set(report_parts.PROPERTIES.split(","))


def test_a_database_that_hangs_costs_the_names_and_not_the_report(
    unpacked: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for_ever = threading.Event()
    monkeypatch.setattr(verb, "WHOLE_SECONDS", 0.3)
    monkeypatch.setattr("ucloud_slurm.store.summary.names", lambda _store: for_ever.wait() or [])
    monkeypatch.setattr(verb, "parts", lambda *_: [Part("last.txt", "the last part", lambda: f"there, {REFRESH}")])
    found = unpacked()
    for_ever.set()
    assert "NO NAMES ARE REPLACED: no answer within 0 s" in found["MANIFEST"]
    assert found["last.txt"].startswith("there, ")
    assert REFRESH not in found["last.txt"]
