# SPDX-License-Identifier: GPL-3.0-or-later
"""Uploads that survive an interruption: what arrived is kept in blobs of 4 MiB and one part file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sync_protocol.types import MAX_BLOB, NodeEntry, UploadRequest, UploadState
from sync_server.store.blobs import disk_error, fsync_folder
from sync_server.store.interface import Busy, Identity, NotFound, Reader, Stale, TooLarge, UploadRow
from sync_server.store.rows import now_ms
from sync_server.tree import files, pages
from sync_server.tree.entries import parse_node
from sync_server.tree.rules import Rules

if TYPE_CHECKING:
    from sync_server.tree.service import Tree

_DAY = 24 * 3600 * 1000
_active: set[str] = set()


async def begin(tree: Tree, who: Identity, request: UploadRequest) -> UploadState:
    """See Tree.begin_upload."""
    names = files.names_of(request.path)
    await tree.store.read(lambda rows: _check(rows, who, names, request.base))
    tree.store.check_space(request.size)
    tree.store.check_quota(who.account_id, request.size)
    row = UploadRow(
        secrets.token_hex(12),
        who.account_id,
        who.device_id,
        request.path,
        request.size,
        request.mtime,
        request.executable,
        request.base,
        (),
        0,
        0,
        now_ms(),
        None,
    )
    await tree.store.write(lambda rows: rows.set_upload(row))
    # Of nothing, all has arrived.
    return _state(tree, row, None) if row.size else await state(tree, who, row.id)


def _expected(base: int | None) -> files.Expect:
    return files.Expect(absent=True) if base is None else files.ANYTHING


def _check(rows: Reader, who: Identity, names: tuple[str, ...], base: int | None) -> None:
    """What would be refused at the end is refused at the beginning."""
    node = files.check(rows, who.account_id, names, _expected(base), parents=False)
    if node is not None and base is not None and base < node.content_rev:
        raise Stale("The file is another one by now.", pages.full_entry(rows, node))


def _part(tree: Tree, upload: str) -> Path:
    return tree.store.part_file(upload)


async def _row(tree: Tree, who: Identity, upload: str) -> tuple[UploadRow, NodeEntry | None]:
    def job(rows: Reader) -> tuple[UploadRow, NodeEntry | None]:
        row = rows.upload(who.account_id, upload)
        if row is None:
            raise NotFound("There is no such upload.")
        done = None
        if row.node is not None:
            node = rows.node(who.account_id, row.node)
            done = None if node is None else pages.full_entry(rows, node)
        return row, done

    return await tree.store.read(job)


def _state(tree: Tree, row: UploadRow, done: NodeEntry | None) -> UploadState:
    offset = row.size if row.node is not None else row.offset + row.part
    return UploadState(row.id, offset, row.size, row.touched + tree.settings.upload_days * _DAY, done)


async def state(tree: Tree, who: Identity, upload: str) -> UploadState:
    """See Tree.upload_state."""
    row, done = await _row(tree, who, upload)
    if row.node is not None or row.offset + row.part < row.size:
        return _state(tree, row, done)
    # All has arrived, and the file is not there: it was refused, or the server was stopped right before. To say so is
    # to say “done”, so the end is tried again.
    return await (await resume(tree, who, upload, row.size)).finish()


async def cancel(tree: Tree, who: Identity, upload: str) -> None:
    """See Tree.cancel_upload."""
    row, _ = await _row(tree, who, upload)
    if row.id in _active:
        raise Busy("Somebody is sending to this upload.")
    await tree.store.write(lambda rows: rows.remove_upload(who.account_id, row.id))
    _part(tree, row.id).unlink(missing_ok=True)


async def forget(tree: Tree, before: int) -> None:
    """Drop uploads nobody went on with."""
    for row in await tree.store.write(lambda rows: rows.expired_uploads(before)):
        if row.id in _active:
            continue
        await tree.store.write(lambda rows, old=row: rows.remove_upload(old.account, old.id))  # type: ignore[misc]
        _part(tree, row.id).unlink(missing_ok=True)


async def resume(tree: Tree, who: Identity, upload: str, offset: int) -> ResumedUpload:
    """See Tree.resume_upload."""
    row, done = await _row(tree, who, upload)
    if row.id in _active:
        raise Busy("Somebody is sending to this upload.")
    there = _state(tree, row, done).offset
    if offset != there:
        raise Stale(f"The server has {there} bytes: go on there.")
    others = await tree.store.read(lambda rows: rows.parts_of_uploads(who.account_id, row.id))
    return ResumedUpload(tree, who, row, done, others)


class ResumedUpload:
    """One request's worth of a resumable upload. Call finish also when the request breaks off: what arrived stays."""

    def __init__(self, tree: Tree, who: Identity, row: UploadRow, done: NodeEntry | None, others: int) -> None:
        self._tree = tree
        self._who = who
        self._row = row
        self._done = done
        self._others = others
        self._path = _part(tree, row.id)
        self._file: int | None = None
        _active.add(row.id)

    @property
    def offset(self) -> int:
        """Bytes the server has."""
        return _state(self._tree, self._row, self._done).offset

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; raises TooLarge beyond the size announced, NoSpace, QuotaExceeded."""
        if self.offset + len(data) > self._row.size:
            raise TooLarge(f"The upload was announced with {self._row.size} bytes.")
        left = memoryview(data)
        self._tree.store.check_space(len(data))
        # Part files are in no account's count: many of them would be a way around it.
        self._tree.store.check_quota(self._who.account_id, self._others + self._row.part + len(data))
        while left:
            room = min(MAX_BLOB - self._row.part, len(left))
            self._append(left[:room])
            left = left[room:]
            if self._row.part == MAX_BLOB:
                await self._cut()

    def _append(self, data: memoryview) -> None:
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                # What is behind the last acknowledged byte may be anything after a power cut.
                os.ftruncate(self._file, self._row.part)
                os.lseek(self._file, 0, os.SEEK_END)
            while data:
                written = os.write(self._file, data)
                self._row.part += written
                data = data[written:]
        except OSError as error:
            raise disk_error(error, "the upload") from error

    async def _cut(self) -> None:
        """Make what the part file has a blob."""
        self._close()
        blob = self._tree.store.upload_blob(self._who.account_id)
        try:
            with self._path.open("rb") as part:
                while piece := part.read(256 * 1024):
                    blob.write(piece)
            size = blob.size
            name = await blob.finish()
        finally:
            blob.abort()
        self._row.blobs = (*self._row.blobs, name)
        self._row.offset += size
        self._row.part = 0
        await self._save()
        self._path.unlink(missing_ok=True)

    async def _save(self) -> None:
        self._row.touched = now_ms()
        row = replace(self._row)
        await self._tree.store.write(lambda rows: rows.set_upload(row))

    async def finish(self) -> UploadState:
        """End the request; with the last byte the file is there. Raises Stale when its base is old by now."""
        try:
            if self._row.node is None and self.offset == self._row.size:
                if self._row.part:
                    await self._cut()
                await self._commit()
            elif self._file is not None:
                await asyncio.to_thread(self._sync)
                self._close()
                await self._save()
        finally:
            self.abort()
        return _state(self._tree, self._row, self._done)

    def _sync(self) -> None:
        try:
            if self._file is not None:
                os.fsync(self._file)
                fsync_folder(self._path.parent)
        except OSError as error:
            raise disk_error(error, "the upload") from error

    async def _commit(self) -> None:
        row = replace(self._row)

        def job(rules: Rules) -> NodeEntry:
            names = files.names_of(row.path)
            result = files.put(
                rules, names, list(row.blobs), row.size, row.mtime, row.executable, _expected(row.base), base=row.base
            )
            row.node = parse_node(result.entry.id)
            rules.rows.set_upload(row)
            return result.entry

        self._done = await self._tree.apply(self._who, job)
        self._row = row

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def abort(self) -> None:
        """End the request and let go of it; harmless after finish."""
        with contextlib.suppress(OSError):
            self._close()
        _active.discard(self._row.id)
