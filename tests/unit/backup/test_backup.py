"""A backup is made, cut off, gone on with, damaged and brought back, on ports in memory and SQLite."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.adapters.accounts import Accounts
from services.adapters.accounts_schema import ACCOUNTS, AUDIT, SESSIONS, USERS
from services.adapters.backuparchive import Archive, BackupDamagedError
from services.adapters.caseindex_database import Database
from services.adapters.codec import decode_alias_state, encode_alias_state
from services.adapters.memory import MemoryBroker, MemoryObjectStore, MemoryRecordWriter, MemoryTopicReader
from services.adapters.modelregistry import ModelRegistry
from services.adapters.ports import TopicReader
from services.adapters.tablecopy import TableCopy
from services.backup.content import MARKER, RECORD, TOPICS, Amounts
from services.backup.restore import Target, check, restore
from services.backup.save import save
from services.core.access import Role
from services.core.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from services.core.topics import LINE_EVENTS, MODELS
from services.core.types import AliasState
from tests.support.accounts import PASSWORD, make_accounts

NOW_NS = 4_000_000_000_000_000_000
HOUR_NS = 3_600_000_000_000

OBJECTS = {
    "training/runs/default/1.json": b'{"run": 1}',
    "record/reviews/20260101/a/b.json": b'{"review": 1}',
    "record/cases/20260101/a.json": b'{"case": 1}',
    "record/masks/aa/aa.png": b"mask",
    "record/images/bb/bb.jpg": b"picture",
    "record/images/cc/cc.jpg": b"picture",
    "models/default/1/model.json": b"{}",
}


class Site:
    """A store, a broker and a database of accounts."""

    def __init__(self, folder: Path, name: str) -> None:
        self.store = MemoryObjectStore()
        self.broker = MemoryBroker(partitions=1)
        for topic in TOPICS:
            self.broker.create_topic(topic, 1)
        self.url = f"sqlite:///{folder / name / 'accounts.db'}"
        self.accounts: Accounts = make_accounts(url=self.url)
        self.tables = TableCopy(Database(self.url, ACCOUNTS), (USERS, AUDIT), (SESSIONS,))

    def reader(self, topic: str) -> TopicReader:
        return MemoryTopicReader(self.broker, [topic])

    def target(self) -> Target:
        return Target(
            self.store,
            "sightline",
            {topic: lambda topic=topic: self.reader(topic) for topic in TOPICS},  # type: ignore[misc]
            MemoryRecordWriter(self.broker),
            {"accounts": self.tables},
        )

    def save(self, archive: Archive, now_ns: int = NOW_NS) -> Amounts:
        return save(
            archive,
            self.store,
            RECORD,
            {topic: self.reader(topic) for topic in TOPICS},
            {"accounts": self.tables},
            bucket="sightline",
            release="0.1.0",
            threads=1,
            clock_ns=lambda: now_ns,
        )

    def alias(self) -> AliasState:
        registry = ModelRegistry(self.reader(MODELS))
        registry.read_all()
        return registry.state("default")

    def objects(self) -> dict[str, bytes]:
        return {stat.key: self.store.get(stat.key) for stat in self.store.list("")}


def publish(site: Site, state: AliasState) -> None:
    site.broker.append(MODELS, key=state.alias.encode(), value=encode_alias_state(state), timestamp_ms=1_000)


@pytest.fixture
def plant(tmp_path: Path) -> Site:
    site = Site(tmp_path, "plant")
    for key, data in OBJECTS.items():
        site.store.put(key, data)
    site.store.put("frames/l/c/1.jpg", b"expires")
    site.store.put("training/leases/default/000000000001.json", b"held")
    publish(site, AliasState("default", 1, 0, candidate_versions=(1,)))
    publish(site, AliasState("default", 2, 1))
    site.broker.append(LINE_EVENTS, key=b"line-1", value=b"told", headers=[("h", b"\xff")], timestamp_ms=77)
    site.accounts.add("Ada", Role.ADMIN, PASSWORD)
    assert site.accounts.sign_in("Ada", PASSWORD) is not None
    return site


@pytest.fixture
def empty(tmp_path: Path) -> Site:
    return Site(tmp_path, "empty")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "backups")


def failing_after(calls: int, call: Callable[..., object]) -> Callable[..., object]:
    left = iter(range(calls))

    def limited(*arguments: object, **named: object) -> object:
        if next(left, None) is None:
            raise InterruptedError("the power went")
        return call(*arguments, **named)

    return limited


def test_what_was_saved_is_there_again_in_an_empty_plant(plant: Site, empty: Site, archive: Archive) -> None:
    saved = plant.save(archive)
    assert (saved.objects, saved.records, saved.gone) == (len(OBJECTS), 3, ())
    done = restore(archive, saved.name, empty.target())
    assert (done.objects, done.moved_objects, done.records) == (len(OBJECTS), len(OBJECTS), 3)
    assert empty.objects() == OBJECTS
    assert empty.alias() == plant.alias()
    [event] = empty.broker.records(LINE_EVENTS)
    assert (event.key, event.value, event.headers, event.timestamp_ms) == (b"line-1", b"told", (("h", b"\xff"),), 77)
    assert empty.accounts.sign_in("Ada", PASSWORD) is not None
    assert empty.accounts.entries() == plant.accounts.entries()


def test_sessions_do_not_come_back_to_life(plant: Site, empty: Site, archive: Archive) -> None:
    signed_in = plant.accounts.sign_in("Ada", PASSWORD)
    assert signed_in is not None
    restore(archive, plant.save(archive).name, empty.target())
    assert plant.accounts.session(signed_in[0]) is not None
    assert empty.accounts.session(signed_in[0]) is None


def test_equal_content_lies_in_the_folder_once(plant: Site, archive: Archive, tmp_path: Path) -> None:
    plant.save(archive)
    files = [each for each in (tmp_path / "backups" / "objects").rglob("*") if each.is_file()]
    assert len(files) == len(set(OBJECTS.values()))


def test_the_next_backup_reads_only_what_is_new(plant: Site, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.save(archive)
    plant.store.put("record/cases/20260101/new.json", b"new")
    read: list[str] = []
    get = plant.store.get
    monkeypatch.setattr(plant.store, "get", lambda key, **_: read.append(key) or get(key))
    again = plant.save(archive, NOW_NS + HOUR_NS)
    assert read == ["record/cases/20260101/new.json"]
    assert (again.objects, again.moved_objects, again.moved_bytes) == (len(OBJECTS) + 1, 1, 3)
    assert check(archive, again.name).objects == len(OBJECTS) + 1


def test_an_object_that_was_just_written_when_it_was_saved_is_read_again(plant: Site, archive: Archive) -> None:
    now_ns = max(stat.modified_ns for stat in plant.store.list("")) + 1_000_000_000
    plant.save(archive, now_ns)
    assert plant.save(archive, now_ns + HOUR_NS).moved_objects == len(OBJECTS)


def test_a_backup_that_was_cut_off_is_none_and_goes_on(
    plant: Site, empty: Site, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(plant.store, "get", failing_after(4, plant.store.get))
        with pytest.raises(InterruptedError):
            plant.save(archive)
    assert archive.names() == []
    with pytest.raises(NotFoundError, match="a whole backup must lie in"):
        archive.newest()
    done = plant.save(archive, NOW_NS + HOUR_NS)
    assert 0 < done.moved_objects < len(OBJECTS)
    restore(archive, done.name, empty.target())
    assert empty.objects() == OBJECTS


def test_a_restore_that_was_cut_off_goes_on(
    plant: Site, empty: Site, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant.save(archive).name
    with monkeypatch.context() as patch:
        patch.setattr(empty.store, "put", failing_after(4, empty.store.put))
        with pytest.raises(InterruptedError):
            restore(archive, name, empty.target(), threads=1)
    assert empty.store.exists(MARKER)
    done = restore(archive, name, empty.target())
    assert done.moved_objects == len(OBJECTS) - 3, "the marker and three objects were written before"
    assert empty.objects() == OBJECTS
    assert empty.alias() == plant.alias()


def test_a_restore_that_was_cut_off_after_its_last_row_doubles_nothing(
    plant: Site, empty: Site, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant.save(archive).name
    with monkeypatch.context() as patch:
        patch.setattr(empty.store, "delete", failing_after(0, empty.store.delete))
        with pytest.raises(InterruptedError):
            restore(archive, name, empty.target())
    done = restore(archive, name, empty.target())
    assert (done.moved_objects, done.records, done.rows) == (0, 0, 0)
    assert len(empty.broker.records(MODELS)) == 2
    assert [user.name for user in empty.accounts.users()] == ["Ada"]


def test_another_backup_is_refused_while_a_restore_is_not_done(
    plant: Site, empty: Site, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = plant.save(archive).name, plant.save(archive, NOW_NS + HOUR_NS).name
    with monkeypatch.context() as patch:
        patch.setattr(empty.store, "put", failing_after(2, empty.store.put))
        with pytest.raises(InterruptedError):
            restore(archive, first, empty.target(), threads=1)
    with pytest.raises(ConflictError, match=f"a restore of backup {first} was begun here"):
        restore(archive, second, empty.target())


@pytest.mark.parametrize(
    ("what", "where"),
    [
        (lambda site: site.store.put("record/cases/20250101/x.json", b"x"), "record/cases/"),
        (lambda site: publish(site, AliasState("other", 1, 0)), MODELS),
        (lambda site: site.accounts.add("Olga", Role.OPERATOR, PASSWORD), "tables of accounts"),
    ],
)
def test_what_is_not_empty_is_named_and_left_alone(
    plant: Site, empty: Site, archive: Archive, what: Callable[[Site], object], where: str
) -> None:
    name = plant.save(archive).name
    what(empty)
    before = empty.objects()
    with pytest.raises(ConflictError, match=f"must be empty, or --over be given, got something in {where}"):
        restore(archive, name, empty.target())
    assert empty.objects() == before


def test_over_what_is_there_the_backup_holds(plant: Site, archive: Archive) -> None:
    name = plant.save(archive).name
    plant.store.put("record/cases/20260101/a.json", b'{"case": 2}')
    plant.store.put("record/cases/20260102/later.json", b"later")
    publish(plant, AliasState("default", 3, 7, previous_version=1))
    plant.accounts.add("Olga", Role.OPERATOR, PASSWORD)
    restore(archive, name, plant.target(), over=True)
    assert plant.store.get("record/cases/20260101/a.json") == OBJECTS["record/cases/20260101/a.json"]
    assert plant.store.get("record/cases/20260102/later.json") == b"later", "other objects stay"
    state = plant.alias()
    assert (state.live_version, state.revision, state.note) == (1, 4, f"restored from backup {name}")
    assert [user.name for user in plant.accounts.users()] == ["Ada"]


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [damage, cut, Path.unlink])
@pytest.mark.parametrize(
    "file",
    [
        "backups/*/manifest.json",
        "backups/*/manifest.json.sha256",
        "backups/*/objects.jsonl",
        f"backups/*/topics/{MODELS}.jsonl",
        "backups/*/tables/accounts.jsonl",
        "objects/*/*",
    ],
)
def test_a_backup_that_was_harmed_is_refused_by_name_and_changes_nothing(
    plant: Site, empty: Site, archive: Archive, tmp_path: Path, file: str, harm: Callable[[Path], None]
) -> None:
    name = plant.save(archive).name
    path = next((tmp_path / "backups").glob(file))
    if path.name.endswith(".sha256") and harm is cut:
        path.write_bytes(b"")
    else:
        harm(path)
    with pytest.raises(BackupDamagedError) as caught:
        restore(archive, name, empty.target())
    assert path.name.removesuffix(".sha256") in str(caught.value)
    assert empty.objects() == {}
    assert empty.accounts.users() == ()


def test_a_format_of_a_later_release_is_refused(plant: Site, archive: Archive, tmp_path: Path) -> None:
    import hashlib

    name = plant.save(archive).name
    path = tmp_path / "backups" / "backups" / name / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    path.with_name("manifest.json.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(InvalidInputError, match="must have format 1, got 2"):
        archive.manifest(name)


def test_a_bucket_of_another_name_is_refused(plant: Site, empty: Site, archive: Archive) -> None:
    name = plant.save(archive).name
    with pytest.raises(InvalidInputError, match="must go to a bucket named sightline, got elsewhere"):
        restore(archive, name, replace(empty.target(), bucket="elsewhere"))
    assert empty.objects() == {}


def test_rows_of_another_schema_are_refused_with_what_to_do(empty: Site) -> None:
    with pytest.raises(InvalidInputError, match="restore with the release that made the backup, then upgrade"):
        empty.tables.load([("users", {"name": "Ada"})])
    assert empty.tables.count() == 0


def test_an_object_that_expires_meanwhile_is_told(
    plant: Site, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = plant.store.get

    def gone(key: str, *, max_bytes: int | None = None) -> bytes:
        if key.startswith("record/masks/"):
            raise NotFoundError("an object must lie at the key")
        return get(key, max_bytes=max_bytes)

    monkeypatch.setattr(plant.store, "get", gone)
    saved = plant.save(archive)
    assert saved.gone == ("record/masks/aa/aa.png",)
    assert check(archive, saved.name).objects == len(OBJECTS) - 1


def test_a_store_that_stays_away_ends_a_backup_that_goes_on_later(
    plant: Site, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.backup.save.time.sleep", lambda _s: None)
    plant.store.unavailable = True
    with pytest.raises(UnavailableError):
        plant.save(archive)
    plant.store.unavailable = False
    assert plant.save(archive).objects == len(OBJECTS)


def test_what_names_something_is_read_before_what_it_names() -> None:
    order = [*TOPICS, *RECORD]
    for names, named in [
        (MODELS, "models/"),
        ("training/", "record/reviews/"),
        ("training/", "models/"),
        ("record/reviews/", "record/cases/"),
        ("record/reviews/", "record/masks/"),
        ("record/cases/", "record/images/"),
        ("record/cases/", "models/"),
    ]:
        assert order.index(names) < order.index(named), f"{names} names {named}"


def test_the_aliases_that_were_saved_can_be_read(plant: Site, archive: Archive) -> None:
    import base64

    name = plant.save(archive).name
    lines = list(archive.lines(name, archive.manifest(name).topics[MODELS]))
    assert decode_alias_state(base64.b64decode(lines[-1]["value"])) == AliasState("default", 2, 1)
