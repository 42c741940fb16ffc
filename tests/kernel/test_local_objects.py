"""What only the local folder must do: order, other processes, crashes, a full disk."""

import asyncio
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.objects import ObjectsUnavailable, PreconditionFailed
from kernel.objects.local import LocalObjects

SEGMENT = st.sampled_from(["a", "b", "a-", "a.", "a=", "aa"])
NAMES = st.lists(st.lists(SEGMENT, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8, unique=True)


@settings(max_examples=40, deadline=None)
@given(stored=NAMES, prefix=st.sampled_from(["", "a", "a/", "a/a", "a-", "aa/b"]))
async def test_list_is_by_name(tmp_path_factory: pytest.TempPathFactory, stored: list[str], prefix: str) -> None:
    objects = LocalObjects(tmp_path_factory.mktemp("objects"))
    for name in stored:
        await objects.put(name, b"x")
    found = [listed.name async for listed in objects.list(prefix)]
    assert found == sorted(name for name in stored if name.startswith(prefix))


def _increment(folder: str, times: int) -> None:
    async def increment() -> None:
        objects = LocalObjects(Path(folder))
        for _ in range(times):
            while True:
                etag = (await objects.head("counter")).etag
                value = int(await objects.get("counter"))
                try:
                    await objects.put("counter", b"%d" % (value + 1), if_etag=etag)
                except PreconditionFailed:
                    continue
                break

    asyncio.run(increment())


@pytest.mark.slow
async def test_conditional_puts_of_processes_lose_none(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    await objects.put("counter", b"0")
    spawn = multiprocessing.get_context("spawn")
    children = [spawn.Process(target=_increment, args=(str(tmp_path), 15)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        await asyncio.to_thread(child.join)
    assert [child.exitcode for child in children] == [0, 0]
    assert await objects.get("counter") == b"30"


async def test_what_was_half_written_is_no_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = LocalObjects(tmp_path)
    await objects.put("a/b", b"old")

    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ObjectsUnavailable, match="No space left"):
        await objects.put("a/b", b"new")
    with pytest.raises(ObjectsUnavailable):
        await objects.put("c", b"new")
    monkeypatch.undo()
    assert await objects.get("a/b") == b"old"
    assert [found.name async for found in objects.list("")] == ["a/b"]
    assert list((tmp_path / "~writing").iterdir()) == []


async def test_a_changed_file_has_another_etag_though_it_was_cached(tmp_path: Path) -> None:
    objects, other = LocalObjects(tmp_path), LocalObjects(tmp_path)
    await objects.put("a", b"1")
    first = (await objects.head("a")).etag
    await other.put("a", b"2")
    assert (await objects.head("a")).etag != first
