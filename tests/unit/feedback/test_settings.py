"""Settings of the feedback service."""

from __future__ import annotations

import pytest

from services.core.errors import SettingsError
from services.feedback.settings import FeedbackSettings
from services.runtime.settings import load_settings, masked


def test_defaults_are_valid_and_say_where_calls_are_taken() -> None:
    settings = load_settings(FeedbackSettings)
    assert (settings.grpc.port, settings.claim_s) == (50054, 120)


def test_a_mask_fits_into_a_message() -> None:
    with pytest.raises(SettingsError, match="max_mask_bytes must be less than"):
        load_settings(FeedbackSettings, grpc={"max_message_bytes": 8_000_000})


def test_the_drain_ends_before_the_group_gives_up() -> None:
    with pytest.raises(SettingsError, match="drain_s must be shorter than"):
        load_settings(FeedbackSettings, drain_s=10, kafka={"max_poll_interval_ms": 10_000})


def test_the_database_s_password_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_INDEX__URL", "postgresql://me:hush@db/cases")
    settings = load_settings(FeedbackSettings)
    assert settings.index.url.get_secret_value().endswith("@db/cases")
    assert "hush" not in str(masked(settings))


def test_shifts_are_read_at_the_start() -> None:
    settings = load_settings(FeedbackSettings, statistics={"shifts": "day 07:00-16:00", "time_zone": "Europe/Berlin"})
    assert str(settings.statistics.plan) == "day 07:00-16:00"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shifts": "early 06:00"}, "shifts must be written like"),
        ({"time_zone": "Berlin"}, "IANA"),
        ({"keep_days": 5, "merge_after_days": 7}, "keep_days must be"),
    ],
)
def test_a_plan_of_shifts_that_is_none_ends_the_start(changes: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings(FeedbackSettings, statistics=changes)
