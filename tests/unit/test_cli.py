"""The sightline command: it explains itself, and says in one line what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from services.cli import SERVICES
from services.local.linefile import write_line_file
from services.local.process import free_port

SIGHTLINE = Path(sys.executable).with_name("sightline")


def sightline(*arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> tuple[int, str, str]:
    import os

    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    done = subprocess.run(
        [str(SIGHTLINE), *arguments],
        capture_output=True,
        text=True,
        env={**clean, "COLUMNS": "200", **(env or {})},
        timeout=60,
        check=False,
        cwd=cwd,
    )
    return done.returncode, done.stdout, done.stderr


def test_help_lists_every_service_and_what_is_done_by_hand() -> None:
    code, out, _ = sightline("--help")
    assert code == 0
    for name in (
        "ingest",
        "detector",
        "explainer",
        "feedback",
        "serving",
        "dashboard",
        "run",
        "rank",
        "smoke",
        "plc-sim",
        "topics",
        "models",
        "reviews",
        "index",
        "settings",
        "version",
    ):
        assert f" {name} " in out


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['sightline', '--help']\n"
        "from services.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'kafka', 'minio', 'cv2', 'fastapi', 'tritonclient', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert sightline("version")[:2] == (0, f"{version('sightline')}\n")


def test_a_wrong_setting_is_named_with_its_rule_and_value(tmp_path: Path) -> None:
    code, _, err = sightline("topics", "list", env={"SIGHTLINE_KAFKA__REQUEST_TIMEOUT_MS": "10"}, cwd=tmp_path)
    assert code == 2
    assert "SIGHTLINE_KAFKA__REQUEST_TIMEOUT_MS: Input should be greater than or equal to 1000, got '10'" in err
    assert "Traceback" not in err


def test_a_broker_that_is_away_is_one_clear_message_and_exit_code_1(tmp_path: Path) -> None:
    env = {
        "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "SIGHTLINE_KAFKA__REQUEST_TIMEOUT_MS": "1000",
    }
    code, _, err = sightline("topics", "list", env=env, cwd=tmp_path)
    assert code == 1
    assert err.startswith("sightline: broker must answer in time")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("settings", "nothing"), f"the service must be one of {', '.join(SERVICES)}, got 'nothing'"),
        (("models", "promote", "0"), "Input should be greater than or equal to 1"),
        (("smoke", "--source", "/nowhere"), "does not exist"),
        (("smoke", "--frames", "0"), "Input should be greater than or equal to 1"),
        (("plc-sim", "--protocol", "s7"), "is not one of"),
        (("plc-sim", "--reference", "3"), "--reference must be GOOD,BAD, got '3'"),
        (("plc-sim", "--stop-heartbeat", "9:-1"), "--stop-heartbeat must be EVERY:SECONDS, got '9:-1'"),
        (("plc-sim", "--stop-heartbeat", "9:0"), "stop_heartbeat_ms must be > 0, got 0"),
        (("plc-sim", "--prefix", "p" * 17), "prefix must have 1 to 16 characters"),
        (("plc-sim", "--address", "here"), "address must be host:port, got 'here'"),
        (("models", "add", "/nowhere"), "does not exist"),
        (("fit", "--detector", "knn", "--data", "/nowhere", "--out", "v"), "which does not exist"),
        (("fit", "--detector", "knn", "--data", "line", "--out", "v"), "needs --since"),
        (("fit", "--data", ".", "--out", "v"), "one of --detector and --network must be named, got none"),
        (("fit", "--detector", "knn", "--network", "resnet18", "--data", ".", "--out", "v"), "one of --detector and"),
        (("fit", "--network", "resnet", "--data", ".", "--out", "v"), "--network must be one of"),
        (("fit", "--network", "resnet18", "--data", "line", "--out", "v"), "takes a labelled folder"),
        (("fit", "--network", "resnet18", "--data", ".", "--escapes", "2", "--out", "v"), "target must lie in"),
        (("rank", "--data", "."), "either --version, or --detector with --good"),
        (("rank", "--data", ".", "--detector", "knn"), "either --version, or --detector with --good"),
    ],
)
def test_a_wrong_argument_is_refused_with_exit_code_2(arguments: tuple[str, ...], expected: str) -> None:
    code, _, err = sightline(*arguments)
    assert code == 2
    assert expected in err


def test_the_settings_of_a_service_are_listed_with_bounds_and_defaults() -> None:
    code, out, _ = sightline("settings", "detector", "--markdown")
    assert code == 0
    assert "| `SIGHTLINE_BATCH__MAX_FRAMES` | whole number, ≥ 1, ≤ 256 | `16` |" in out


def test_secrets_have_no_shown_default() -> None:
    _, out, _ = sightline("settings", "detector", "--markdown")
    row = next(line for line in out.splitlines() if "OBJECT_STORE__SECRET_KEY" in line)
    assert row.split("|")[3].strip() == ""


def test_a_data_folder_that_is_something_else_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = sightline("run", "--fresh", "--data", str(tmp_path))
    assert code == 1
    assert "--fresh removes only a line's own data folder" in err
    assert (tmp_path / "thesis.txt").exists()


def test_a_data_folder_serves_one_line_at_a_time(tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, _, err = sightline("run", "--data", str(tmp_path))
    assert code == 1
    assert "a data folder serves one line at a time" in err


def test_scrape_config_prints_what_prometheus_reads_of_the_line_that_runs(tmp_path: Path) -> None:
    code, _, err = sightline("scrape-config", "--data", str(tmp_path))
    assert code == 1
    assert "start one with: sightline run" in err
    write_line_file(tmp_path, {}, {"detector": "http://127.0.0.1:9101", "page": "http://127.0.0.1:8080"})
    code, out, err = sightline("scrape-config", "--data", str(tmp_path), "--interval-s", "2")
    assert code == 0, err
    config = yaml.safe_load(out)
    assert [job["job_name"] for job in config["scrape_configs"]] == ["sightline-detector"]
    assert config["global"]["scrape_interval"] == "2s"


def test_migrate_makes_both_databases_and_says_what_it_did(tmp_path: Path) -> None:
    env = {
        "SIGHTLINE_INDEX__URL": f"sqlite:///{tmp_path}/index/cases.db",
        "SIGHTLINE_ACCOUNTS__URL": f"sqlite:///{tmp_path}/accounts/accounts.db",
    }
    code, out, err = sightline("migrate", env=env, cwd=tmp_path)
    assert code == 0, err
    assert len([line for line in out.splitlines() if "brought from nothing to" in line]) == 2
    code, out, err = sightline("migrate", env=env, cwd=tmp_path)
    assert code == 0, err
    assert len([line for line in out.splitlines() if "already" in line]) == 2


def test_topics_that_could_never_be_written_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    env = {"SIGHTLINE_TOPICS__REPLICATION_FACTOR": "1", "SIGHTLINE_TOPICS__MIN_INSYNC_REPLICAS": "2"}
    code, _, err = sightline("topics", "apply", env=env, cwd=tmp_path)
    assert code == 2
    assert "min_insync_replicas must be at most topics.replication_factor, got 2 of 1" in err


def test_topics_apply_says_what_it_waits_for(tmp_path: Path) -> None:
    env = {
        "SIGHTLINE_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "SIGHTLINE_KAFKA__REQUEST_TIMEOUT_MS": "1000",
        "SIGHTLINE_TOPICS__WAIT_S": "0.1",
    }
    code, _, err = sightline("topics", "apply", env=env, cwd=tmp_path)
    assert code == 1
    assert "waiting for Kafka: broker must answer in time" in err
