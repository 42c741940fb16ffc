"""What every object store must do: run on memory, a local folder and an S3 server."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidInput
from kernel.objects import ObjectNotFound, ObjectStore, PreconditionFailed, check_name


async def names(objects: ObjectStore, prefix: str) -> list[str]:
    return sorted([stored.name async for stored in objects.list(prefix)])


async def test_what_was_put_is_got_whole(objects: ObjectStore) -> None:
    content = bytes(range(256)) * 300
    stored = await objects.put("reports/2026-01/org-a.json", content)
    assert await objects.get("reports/2026-01/org-a.json") == content
    found = await objects.head("reports/2026-01/org-a.json")
    assert (found.name, found.size_bytes, found.etag) == (stored.name, len(content), stored.etag)
    assert found.modified_at.tzinfo is not None
    assert abs((found.modified_at - stored.modified_at).total_seconds()) <= 2


async def test_an_empty_object_is_an_object(objects: ObjectStore) -> None:
    await objects.put("empty", b"")
    assert await objects.get("empty") == b""
    assert (await objects.head("empty")).size_bytes == 0


async def test_a_put_replaces_and_changes_the_etag(objects: ObjectStore) -> None:
    first = await objects.put("a", b"1")
    second = await objects.put("a", b"2")
    assert first.etag != second.etag
    assert await objects.get("a") == b"2"


async def test_an_absent_object_is_named(objects: ObjectStore) -> None:
    for call in (objects.get, objects.head):
        with pytest.raises(ObjectNotFound, match="nowhere/at-all"):
            await call("nowhere/at-all")
    await objects.delete("nowhere/at-all")


async def test_if_absent_lets_the_first_in(objects: ObjectStore) -> None:
    await objects.put("lock", b"mine", if_absent=True)
    with pytest.raises(PreconditionFailed, match="lock"):
        await objects.put("lock", b"yours", if_absent=True)
    assert await objects.get("lock") == b"mine"
    await objects.delete("lock")
    await objects.put("lock", b"yours", if_absent=True)


async def test_if_etag_lets_the_one_in_who_saw_the_last(objects: ObjectStore) -> None:
    first = await objects.put("state", b"1")
    await objects.put("state", b"2", if_etag=first.etag)
    with pytest.raises(PreconditionFailed):
        await objects.put("state", b"3", if_etag=first.etag)
    with pytest.raises((PreconditionFailed, ObjectNotFound)):
        await objects.put("never-written", b"3", if_etag=first.etag)
    assert await objects.get("state") == b"2"
    assert await names(objects, "never") == []


async def test_of_concurrent_conditional_puts_one_wins(objects: ObjectStore) -> None:
    async def attempt(number: int) -> bool:
        try:
            await objects.put("leader", b"%d" % number, if_absent=True)
        except PreconditionFailed:
            return False
        return True

    won = await asyncio.gather(*(attempt(number) for number in range(12)))
    assert won.count(True) == 1
    assert await objects.get("leader") == b"%d" % won.index(True)


async def test_concurrent_increments_by_etag_lose_none(objects: ObjectStore) -> None:
    await objects.put("counter", b"0")

    async def increment() -> None:
        while True:
            etag = (await objects.head("counter")).etag
            value = int(await objects.get("counter"))
            try:
                await objects.put("counter", b"%d" % (value + 1), if_etag=etag)
            except PreconditionFailed:
                continue
            return

    await asyncio.gather(*(increment() for _ in range(6)))
    assert await objects.get("counter") == b"6"


async def test_list_is_by_prefix(objects: ObjectStore) -> None:
    stored = ["a", "a-b", "a.b", "a/b", "a/b/c", "a/c", "a=b", "ab/c", "b/a"]
    for name in reversed(stored):
        await objects.put(name, name.encode())
    assert await names(objects, "") == sorted(stored)
    assert await names(objects, "a/") == ["a/b", "a/b/c", "a/c"]
    assert await names(objects, "a/b") == ["a/b", "a/b/c"]
    assert await names(objects, "ab") == ["ab/c"]
    assert await names(objects, "zz/nothing") == []
    listed = [found async for found in objects.list("a/c")]
    assert listed[0].etag == (await objects.head("a/c")).etag


async def test_a_deleted_object_is_gone_and_its_neighbours_stay(objects: ObjectStore) -> None:
    await objects.put("x/y", b"1")
    await objects.put("x/y/z", b"2")
    await objects.delete("x/y")
    assert await names(objects, "x") == ["x/y/z"]
    await objects.delete("x/y/z")
    assert await names(objects, "") == []


async def test_a_large_object_goes_in_parts_and_keeps_its_condition(objects: ObjectStore) -> None:
    content = bytes(range(251)) * 140_000  # 35 MB: three parts on S3
    stored = await objects.put("large", content, if_absent=True)
    assert stored.size_bytes == len(content)
    assert (await objects.get("large")) == content
    assert (await objects.head("large")).etag == stored.etag
    with pytest.raises(PreconditionFailed):
        await objects.put("large", content[:-1], if_absent=True)
    assert (await objects.head("large")).size_bytes == len(content)


async def test_a_name_that_is_no_name_is_refused(objects: ObjectStore) -> None:
    for name in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a b", "a\n", "ä", "~lock", "a" * 201]:
        with pytest.raises(InvalidInput):
            await objects.put(name, b"x")
        with pytest.raises(InvalidInput):
            await objects.get(name)
    assert await names(objects, "") == []


@given(st.text(max_size=40))
def test_a_name_stays_below_its_root_or_is_refused(name: str) -> None:
    try:
        check_name(name)
    except InvalidInput:
        return
    assert not name.startswith("/")
    assert ".." not in name.split("/")
    assert name.isascii()
    assert name.isprintable()
