"""The set-up: a step is done once for its inputs, again when they change, and again when it was cut off."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("deploy_install", ROOT / "deploy" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and friends look their module up by name.
    monkeypatch.setitem(sys.modules, "deploy_install", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "LOG", tmp_path / "log" / "install.log")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_a_step_is_done_once_for_its_inputs(install: types.ModuleType, tmp_path: Path) -> None:
    done: list[str] = []
    for wanted in ("a", "a", "b", "b", "a"):
        install.step("page", install.Stamp(tmp_path / "made", "page", wanted), lambda now=wanted: done.append(now))
    assert done == ["a", "b", "a"]


def test_a_step_that_was_cut_off_is_done_again(install: types.ModuleType, tmp_path: Path) -> None:
    def cut_off() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        install.step("page", install.Stamp(tmp_path, "page", "a"), cut_off)
    done: list[int] = []
    install.step("page", install.Stamp(tmp_path, "page", "a"), lambda: done.append(1))
    assert done == [1]


def test_a_step_is_done_again_when_what_it_made_is_gone(install: types.ModuleType, tmp_path: Path) -> None:
    import shutil

    done: list[int] = []
    for _ in range(2):
        install.step("page", install.Stamp(tmp_path / "made", "page", "a"), lambda: done.append(1))
        shutil.rmtree(tmp_path / "made")
    assert done == [1, 1]


def test_the_digest_changes_with_each_input(install: types.ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "package.json"
    file.write_text("{}")
    first = install.digest("3.11", files=[file])
    assert install.digest("3.11", files=[file]) == first
    assert install.digest("3.12", files=[file]) != first
    assert install.digest("3.1", "1", files=[file]) != first
    file.write_text("{ }")
    assert install.digest("3.11", files=[file]) != first
    renamed = file.rename(tmp_path / "other.json")
    renamed.write_text("{}")
    assert install.digest("3.11", files=[renamed]) != first


def test_a_command_that_fails_shows_the_end_of_its_output(install: types.ModuleType) -> None:
    with pytest.raises(install.InstallError, match=r"(?s)packages failed .* ended with 4.*no such wheel"):
        install.run("packages", [sys.executable, "-c", "print('no such wheel'); exit(4)"])
    assert "no such wheel" in install.LOG.read_text()


def test_the_lock_names_what_the_set_up_asks_for(install: types.ModuleType) -> None:
    assert install.locked("torch").startswith("torch==")
    with pytest.raises(install.InstallError, match="must name left-pad"):
        install.locked("left-pad")


def test_the_lock_holds_exact_versions_and_nothing_of_one_machine() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 50
    for line in lines:
        name, _, version = line.partition("==")
        assert name
        assert version
        assert "+" not in version, f"{line} names a build that exists on one machine"
        assert not {"/", "@", ":"} & set(line), f"{line} names a place"


def test_no_fitting_python_is_told_with_what_to_do(tmp_path: Path) -> None:
    for tool in ("bash", "dirname", "uname", "cat"):
        found = subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / tool).symlink_to(found)
    (tmp_path / "deploy").mkdir()
    script = tmp_path / "deploy" / "install"
    script.write_bytes((ROOT / "deploy" / "install").read_bytes())
    script.chmod(0o755)
    done = subprocess.run(
        [str(tmp_path / "bash"), str(script)],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert "needs Python 3.11, 3.12 or 3.13 with its venv module, and none was found" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr


def test_a_python_without_its_venv_module_is_told_apart(tmp_path: Path) -> None:
    for tool in ("bash", "dirname", "uname"):
        found = subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / tool).symlink_to(found)
    fake = tmp_path / "python3"
    # Answers the question for its version, and fails the one for its modules.
    fake.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; *) echo 3.11 ;; esac\n')
    fake.chmod(0o755)
    (tmp_path / "deploy").mkdir()
    script = tmp_path / "deploy" / "install"
    script.write_bytes((ROOT / "deploy" / "install").read_bytes())
    done = subprocess.run(
        [str(tmp_path / "bash"), str(script)],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert "Python 3.11 is here, its venv module is not" in done.stderr
    assert "apt-get install python3-venv" in done.stderr


def test_prometheus_beside_the_tools_is_found_and_its_absence_ends_nothing(
    install: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "TOOLS", tmp_path)
    monkeypatch.setattr(install, "PROMETHEUS", tmp_path / "prometheus")
    monkeypatch.setattr(install, "PROMETHEUS_PROGRAMS", ("no-such-promtool",))
    monkeypatch.setattr(install, "install_rights", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    install.install_prometheus()
    assert "rules are not tested, and the checks say so" in capsys.readouterr().err
    program = tmp_path / "prometheus" / "usr" / "bin" / "no-such-promtool"
    program.parent.mkdir(parents=True)
    program.touch()
    assert install.prometheus_found()
    install.install_prometheus()
    assert capsys.readouterr().err == ""
