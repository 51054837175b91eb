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
    network = {"mode": "network", "host": "0.0.0.0"}
    sign_in = {"method": "local"}
    settings = load_settings(
        DashboardSettings, web={**network, "allowed_hosts": "wall.plant, 10.0.0.4"}, sign_in=sign_in
    )
    assert settings.web.host_list == ["wall.plant", "10.0.0.4"]
    assert load_settings(DashboardSettings, web=network, sign_in=sign_in).web.host_list == ["*"]


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


# ---- signing in

OIDC = {"issuer": "https://id.example", "client_id": "sightline", "roles": {"leads": "engineer"}}


def test_a_network_without_sign_in_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"sign_in\.method must be 'local' or 'oidc' while web\.mode is 'network'"):
        load_settings(DashboardSettings, web={"mode": "network", "host": "0.0.0.0"})


@pytest.mark.parametrize("missing", ["issuer", "client_id", "roles"])
def test_oidc_must_be_told_everything(missing: str) -> None:
    complete = {"method": "oidc", "public_url": "https://wall.plant", "oidc": OIDC}
    assert load_settings(DashboardSettings, sign_in=complete).sign_in.oidc.roles["leads"].value == "engineer"
    oidc = {name: value for name, value in OIDC.items() if name != missing}
    with pytest.raises(SettingsError, match=rf"needs sign_in\.oidc\.{missing}, got none"):
        load_settings(DashboardSettings, sign_in={**complete, "oidc": oidc})
    with pytest.raises(SettingsError, match=r"needs sign_in\.public_url, got none"):
        load_settings(DashboardSettings, sign_in={**complete, "public_url": ""})


@pytest.mark.parametrize(
    "url", ["http://wall.plant", "wall.plant", "ftp://wall.plant", "https://a:b@wall.plant", "https://"]
)
def test_what_others_could_read_on_the_way_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="must be an https URL"):
        load_settings(DashboardSettings, sign_in={"public_url": url})
    with pytest.raises(SettingsError, match="must be an https URL"):
        load_settings(DashboardSettings, sign_in={"oidc": {"issuer": url}})
    assert load_settings(DashboardSettings, sign_in={"public_url": "http://127.0.0.1:8080/"}).sign_in.public_url


def test_a_refused_setting_does_not_tell_a_secret() -> None:
    oidc = {"client_id": "x", "client_secret": "hunter2hunter2"}
    with pytest.raises(SettingsError) as refused:
        load_settings(DashboardSettings, web={"mode": "network"}, sign_in={"method": "oidc", "oidc": oidc})
    assert "hunter2" not in str(refused.value)
    sign_in = {"oidc": {"client_secret": "hunter2hunter2"}}
    with pytest.raises(SettingsError) as refused:
        load_settings(DashboardSettings, web={"mode": "network"}, sign_in=sign_in)
    assert "hunter2" not in str(refused.value)
