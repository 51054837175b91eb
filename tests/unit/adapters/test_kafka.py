from __future__ import annotations

from pathlib import Path

import pytest
from kafka import errors
from kafka.record import util as record_checksums

from services.adapters.connection import KafkaConnection
from services.adapters.kafka import BrokerRefusedError, client_config, domain_error
from services.core.errors import ConflictError, InvalidInputError, SightlineError, UnavailableError
from services.runtime.settings import KafkaSettings, ObjectStoreSettings
from tests.support.certificates import loopback_certificate


def test_checksums_of_records_are_computed_in_c() -> None:
    # In Python a picture of 20 kB takes 6 ms, at each who writes or reads it.
    assert record_checksums.crc32c_c is not None, "kafka-python must find the package crc32c"
    assert record_checksums.calc_crc32c(memoryview(b"123456789")) == 0xE3069283


@pytest.mark.parametrize(
    ("error", "expected", "retriable"),
    [
        (errors.KafkaTimeoutError(), UnavailableError, True),
        (errors.KafkaConnectionError(), UnavailableError, True),
        (errors.NotEnoughReplicasError(), UnavailableError, True),
        (errors.UnknownProducerIdError(), UnavailableError, True),
        (OSError("reset"), UnavailableError, True),
        (errors.MessageSizeTooLargeError(), InvalidInputError, False),
        (errors.RecordListTooLargeError(), InvalidInputError, False),
        (errors.CommitFailedError(), ConflictError, False),
        (errors.IllegalGenerationError(), ConflictError, False),
        (errors.TopicAuthorizationFailedError(), BrokerRefusedError, False),
        (errors.SaslAuthenticationFailedError(), BrokerRefusedError, False),
    ],
)
def test_what_kafka_says_becomes_ours(error: Exception, expected: type[SightlineError], retriable: bool) -> None:
    ours = domain_error(error, "write to t")
    assert type(ours) is expected
    assert ours.retriable == retriable
    assert "write to t" in str(ours)


def test_security_settings_reach_the_client(tmp_path: Path) -> None:
    made = loopback_certificate(tmp_path)
    settings = KafkaSettings.model_validate(
        {
            "bootstrap_servers": "a:1, b:2",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": "line",
            "sasl_password": "hidden",
            "ssl_ca_file": made.certificate,
            "ssl_certificate_file": made.certificate,
            "ssl_key_file": made.key,
            "compression": "gzip",
        }
    )
    connection = settings.connection()
    assert connection.compression == "gzip"
    assert "hidden" not in repr(connection)
    config = client_config(connection)
    assert config["bootstrap_servers"] == ["a:1", "b:2"]
    assert {name: config[name] for name in config if name.startswith(("sasl", "ssl", "security"))} == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "line",
        "sasl_plain_password": "hidden",
        "ssl_cafile": str(made.certificate),
        "ssl_certfile": str(made.certificate),
        "ssl_keyfile": str(made.key),
    }


def test_plain_settings_name_no_security() -> None:
    config = client_config(KafkaConnection("a:1"))
    assert not [name for name in config if name.startswith(("sasl", "ssl"))]


def test_store_settings_keep_their_secrets_to_themselves() -> None:
    settings = ObjectStoreSettings.model_validate({"access_key": "known", "secret_key": "hidden"})
    connection = settings.connection()
    assert (connection.access_key, connection.secret_key) == ("known", "hidden")
    assert "hidden" not in repr(connection)
    assert Path(connection.bucket).name == "sightline"
