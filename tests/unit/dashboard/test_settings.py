from __future__ import annotations

import pytest

from services.core.errors import SettingsError
from services.dashboard.settings import DashboardSettings
from services.runtime.settings import load_settings


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_local_mode_takes_loopback(host: str) -> None:
    settings = load_settings(DashboardSettings, web={"host": host})
    assert host in settings.web.host_list


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.4", "plant.example"])
def test_local_mode_refuses_an_address_that_others_reach(host: str) -> None:
    with pytest.raises(SettingsError, match="loopback"):
        load_settings(DashboardSettings, web={"host": host})


def test_network_mode_takes_any_address_and_named_hosts() -> None:
    settings = load_settings(
        DashboardSettings, web={"mode": "network", "host": "0.0.0.0", "allowed_hosts": "wall.plant, 10.0.0.4"}
    )
    assert settings.web.host_list == ["wall.plant", "10.0.0.4"]
    assert load_settings(DashboardSettings, web={"mode": "network", "host": "0.0.0.0"}).web.host_list == ["*"]


def test_component_urls_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_COMPONENTS__URLS", '{"detector": "http://127.0.0.1:9102/readyz"}')
    assert load_settings(DashboardSettings).components.urls == {"detector": "http://127.0.0.1:9102/readyz"}


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "127.0.0.1:1", "http://"])
def test_component_urls_must_be_http(url: str) -> None:
    with pytest.raises(SettingsError, match=r"components\.urls\.detector must be an http"):
        load_settings(DashboardSettings, components={"urls": {"detector": url}})


@pytest.mark.parametrize("group", ["explainer", "feedback"])
@pytest.mark.parametrize("address", ["feedback", "feedback:", ":50051", "feedback:x"])
def test_an_address_must_have_a_host_and_a_port(group: str, address: str) -> None:
    assert load_settings(DashboardSettings, **{group: {"address": "host:50051"}})
    with pytest.raises(SettingsError, match=rf"{group}\.address must be host:port or empty"):
        load_settings(DashboardSettings, **{group: {"address": address}})
