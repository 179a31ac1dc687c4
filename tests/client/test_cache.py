"""The cache: a complete list until its time is over, or a miss; never a failure, never a wait, never stale."""

from __future__ import annotations

import dataclasses
import threading
import time
import zlib
from decimal import Decimal

import msgspec
import pytest
from pydantic import SecretStr

from pipeboard_resources.cache import CacheKey, CacheUsage, ResponseCache
from pipeboard_resources.embedded import redis_server
from pipeboard_resources.pipedrive.endpoint import Endpoint, Paging, field_metadata
from pipeboard_resources.pipedrive.errors import PipedriveError
from pipeboard_resources.shared_redis import SharedRedis
from tests.client.rubbish import ANSWERS, answering
from tests.fixtures.servers import temporary_state_dir

TTL = {"fields": 3600.0, "lists": 900.0}
KEY = CacheKey("lists", "account", "/v1/users", (("a", "1"), ("b", "2")))
RECORDS = [{"id": 1, "name": 'ü "\n😀', "value": Decimal("0.30000000000000004"), "big": 2**70, "none": None}]
USERS = Endpoint("users", "/v1/users", Paging.NONE, tokens=20, cache_group="lists", is_never_empty=True)
FIELDS = field_metadata("deal")


@pytest.fixture
def cache(shared, clock):
    return ResponseCache(shared, TTL, clock=clock)


def cached(url, clock, **options):
    return ResponseCache(SharedRedis(url, clock=clock, **options), TTL, clock=clock)


def listed(client, endpoint, **params):
    return [record for page in client.pages(endpoint, params=params) for record in page.records]


def test_a_list_comes_back_exactly(cache):
    cache.write(KEY, RECORDS)
    assert cache.read(KEY) == RECORDS
    assert type(cache.read(KEY)[0]["value"]) is Decimal
    assert cache.usage == CacheUsage(hits=2)


@pytest.mark.parametrize(
    "change",
    [{"group": "fields"}, {"account": "other"}, {"path": "/v1/stages"}, {"params": (("a", "1"),)}, {"params": ()}],
    ids=str,
)
def test_another_group_account_path_or_question_is_another_entry(cache, change):
    cache.write(KEY, RECORDS)
    assert cache.read(dataclasses.replace(KEY, **change)) is None


def test_an_entry_is_small_and_names_no_api_key(peaceful, client_for, cache, redis_client):
    client = client_for(peaceful, cache=cache)
    records = listed(client, FIELDS)
    (name,) = redis_client.keys("pipeboard:cache:*")
    stored = redis_client.get(name)
    assert len(stored) < len(msgspec.json.encode(records)) / 3
    for secret in (peaceful.api_key.encode(), peaceful.url.encode()):
        assert secret not in name and secret not in zlib.decompress(stored)


def test_another_key_of_the_same_account_sees_nothing_of_it(peaceful, client_for, cache):
    """A restricted user's list is shorter; handing it to an admin would lose rows in silence."""
    listed(client_for(peaceful, cache=cache, key=peaceful.restricted_key), USERS)
    listed(client_for(peaceful, cache=cache), USERS)
    assert len(peaceful.requests) == 2
    listed(client_for(peaceful, cache=cache), USERS)
    assert len(peaceful.requests) == 2


def test_an_entry_lives_as_long_as_its_group_says_and_no_longer(cache, clock, redis_client):
    cache.write(KEY, RECORDS)
    clock.advance(899)
    assert cache.read(KEY) == RECORDS
    clock.advance(1)
    assert cache.read(KEY) is None
    assert 890_000 < redis_client.pttl(KEY.text) <= 900_000


def test_a_redis_that_lost_the_expiry_serves_nothing_stale(cache, clock, redis_client):
    cache.write(KEY, RECORDS)
    redis_client.persist(KEY.text)
    clock.advance(901)
    assert cache.read(KEY) is None


def test_a_lifetime_that_was_shortened_holds_for_entries_of_before(cache, shared, clock):
    cache.write(KEY, RECORDS)
    clock.advance(61)
    assert ResponseCache(shared, {"lists": 60}, clock=clock).read(KEY) is None


@pytest.mark.parametrize("lifetimes", [{}, {"lists": 0}])
def test_a_group_without_a_lifetime_is_not_cached(lifetimes, shared, clock, redis_client):
    cache = ResponseCache(shared, lifetimes, clock=clock)
    cache.write(KEY, RECORDS)
    assert cache.read(KEY) is None
    assert redis_client.keys() == []


def test_one_group_of_one_account_is_forgotten(cache):
    fields, other = dataclasses.replace(KEY, group="fields"), dataclasses.replace(KEY, account="other")
    for key in (KEY, fields, other):
        cache.write(key, RECORDS)
    cache.forget("account", group="lists")
    assert [cache.read(key) is None for key in (KEY, fields, other)] == [True, False, False]
    cache.forget("account")
    assert [cache.read(key) is None for key in (fields, other)] == [True, False]


def test_a_list_that_breaks_half_way_is_never_stored(peaceful, client_for, cache, redis_client):
    peaceful.faults.add("status_500", FIELDS.path, page=2, times=None)
    client = client_for(peaceful, cache=cache, page_size=10)
    with pytest.raises(PipedriveError):
        listed(client, FIELDS)
    assert redis_client.keys("pipeboard:cache:*") == []
    peaceful.faults.clear()
    next(iter(client.pages(FIELDS)))  # whoever stops reading after a page has not seen the list either
    assert redis_client.keys("pipeboard:cache:*") == []


def test_concurrent_readers_all_get_the_whole_list(peaceful, client_for, cache):
    truth = listed(client_for(peaceful), FIELDS)
    client, got = client_for(peaceful, cache=cache, page_size=10), []
    threads = [threading.Thread(target=lambda: got.append(listed(client, FIELDS))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert got == [truth] * 8
    assert listed(client, FIELDS) == truth


@pytest.mark.parametrize(
    "bytes_",
    [
        b"",
        b"rubbish",
        zlib.compress(b"rubbish"),
        zlib.compress(b"\xff"),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b'["a",1e999999999999999999999,[]]'),
        zlib.compress(b'["a",1,[{"id":%b' % (b"[" * 100_000)),
        zlib.compress(b'["another key",9e9,[{"id":1}]]'),
        zlib.compress(msgspec.json.encode([KEY.text, 9e300, [{"id": 1}]])),
        zlib.compress(msgspec.json.encode([KEY.text, 1_790_000_900.0, [1, 2]])),
        zlib.compress(msgspec.json.encode([KEY.text, 1_790_000_900.0, None])),
        zlib.compress(msgspec.json.encode([KEY.text, 1_790_000_900.0])),
        zlib.compress(msgspec.json.encode({"version": 2, "records": [{"id": 1}]})),
        zlib.compress(msgspec.json.encode([KEY.text, 1_790_000_900.0, [{"id": 1}]]))[:-5],
    ],
    ids=lambda each: repr(each[:12]),
)
def test_an_entry_that_is_rubbish_or_of_another_layout_is_a_miss_and_makes_room(bytes_, cache, redis_client, caplog):
    for _ in range(2):
        redis_client.set(KEY.text, bytes_)
        assert cache.read(KEY) is None
    cache.write(KEY, RECORDS)
    assert cache.read(KEY) == RECORDS
    assert len(caplog.messages) <= 1


def test_an_entry_that_is_rubbish_is_told_once(cache, redis_client, caplog):
    for _ in range(3):
        redis_client.set(KEY.text, b"rubbish")
        assert cache.read(KEY) is None
    assert cache.usage.errors == 3
    assert len(caplog.messages) == 1


def test_a_key_of_another_kind_is_a_miss(cache, redis_client, caplog):
    redis_client.rpush(KEY.text, "a")
    assert cache.read(KEY) is None
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
def test_whatever_answers_in_redis_place_a_list_is_read_from_pipedrive(answer, peaceful, client_for, clock, caplog):
    with answering(answer) as url:
        client = client_for(peaceful, cache=cached(url, clock, pause_seconds=0))
        for _ in range(3):
            assert listed(client, USERS)
        client.forget(USERS)
    assert len(peaceful.requests) == 3
    assert len(caplog.messages) == len(set(caplog.messages))


def test_a_redis_that_does_not_listen_costs_one_warning(peaceful, client_for, clock, caplog):
    client = client_for(peaceful, cache=cached(SecretStr("redis://:hunter2@127.0.0.1:1/0"), clock))
    for _ in range(3):
        assert listed(client, USERS)
    (warning,) = caplog.messages
    assert "goes on without shared limits and cache" in warning and "hunter2" not in warning


def test_a_silent_redis_costs_a_quarter_of_a_second_and_one_warning(peaceful, client_for, clock, caplog):
    with answering(None) as url:
        cache = cached(url, clock)
        client = client_for(peaceful, cache=cache)
        started = time.monotonic()
        for _ in range(5):
            assert listed(client, USERS)
        seconds = time.monotonic() - started
    assert 0.2 < seconds < 0.6
    assert len(caplog.messages) == 1
    assert cache.usage.hits == 0


def test_a_redis_that_stops_midway_is_a_miss(peaceful, client_for, clock):
    with temporary_state_dir() as folder:
        with redis_server(folder) as server:
            shared = SharedRedis(SecretStr(server.url), clock=clock)
            client = client_for(peaceful, cache=ResponseCache(shared, TTL, clock=clock))
            listed(client, USERS)
        listed(client, USERS)
        assert (len(peaceful.requests), shared.errors) == (2, 1)
        shared.close()


def test_a_full_redis_is_a_miss(peaceful, client_for, clock, caplog):
    with temporary_state_dir() as folder, redis_server(folder) as server:
        shared = SharedRedis(SecretStr(server.url), clock=clock)
        shared.attempt(lambda redis: redis.config_set("maxmemory-policy", "noeviction"), None)
        shared.attempt(lambda redis: redis.config_set("maxmemory", 1), None)
        client = client_for(peaceful, cache=ResponseCache(shared, TTL, clock=clock), shared=shared)
        for _ in range(3):
            assert listed(client, USERS)
        shared.close()
    assert len(peaceful.requests) == 3
    assert len(caplog.messages) == 1
