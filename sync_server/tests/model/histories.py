"""Random histories of users and devices, and the property that every one of them must keep."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sync_protocol.names import strip_conflict
from sync_protocol.types import ChangesPage, CommitAnswer, CommitRequest, NodeEntry

from .disk import ROOT
from .rules_client import Client, Flaws, Lost, Server

NAMES = ("a", "b", "c.txt", "d")


class Line:
    """A device's connection: loses requests and answers, and delivers old requests once more."""

    def __init__(self, server: Server, choose: random.Random) -> None:
        self.server, self.choose = server, choose
        self.loss = 0.25
        self.sent: list[CommitRequest] = []

    @property
    def name(self) -> str:
        return self.server.name

    def changes(self, cursor: str | None, limit: int) -> ChangesPage:
        self._lose()
        return self.server.changes(cursor, limit)

    def put_blob(self, data: bytes) -> None:
        self._lose()
        self.server.put_blob(data)

    def get_blob(self, name: str) -> bytes:
        self._lose()
        return self.server.get_blob(name)

    def commit(self, request: CommitRequest) -> CommitAnswer:
        self._lose()
        self.sent.append(request)
        answer = self.server.commit(request)
        if self.choose.random() < self.loss / 2:
            self.server.commit(self.choose.choice(self.sent))
        self._lose()
        return answer

    def _lose(self) -> None:
        if self.choose.random() < self.loss:
            raise Lost


@dataclass
class World:
    """Devices, and what their users did: every content is written once, so that it can be told apart for ever."""

    clients: Sequence[Client]
    written: dict[bytes, str] = field(default_factory=dict)
    # Replaced or deleted by a user who had it on the disk.
    gone_knowingly: set[bytes] = field(default_factory=set)
    story: list[str] = field(default_factory=list)

    def write(self, client: Client, choose: random.Random) -> None:
        """Save a file: in place, or beside and renamed over it as many programs do."""
        disk = client.disk
        value = f"{client.name}{len(self.written)}".encode()
        parent, name = choose.choice(disk.folders()), choose.choice(NAMES)
        found = disk.lookup(parent, name)
        if found is not None and disk.inodes[found].folder:
            return
        self.written[value] = client.name
        if found is None:
            found = disk.create(parent, name, False, value)
        else:
            self.gone_knowingly.add(disk.inodes[found].data)
            if choose.random() < 0.3:
                disk.remove(found)
                found = disk.create(parent, name, False, value)
            disk.inodes[found].data = value
        self.story.append(f"{client.name} writes {value.decode()} to {disk.path(found)}")

    def edit(self, client: Client, choose: random.Random) -> None:
        """Save a file that is there, wherever it is."""
        files = client.disk.files()
        if not files:
            return
        found = choose.choice(files)
        value = f"{client.name}{len(self.written)}".encode()
        self.written[value] = client.name
        self.gone_knowingly.add(client.disk.inodes[found].data)
        client.disk.inodes[found].data = value
        self.story.append(f"{client.name} edits {client.disk.path(found)} to {value.decode()}")

    def make_folder(self, client: Client, choose: random.Random) -> None:
        parent, name = choose.choice(client.disk.folders()), choose.choice(NAMES)
        if client.disk.lookup(parent, name) is None and len(client.disk.ancestors(parent)) < 5:
            client.disk.create(parent, name, True)
            self.story.append(f"{client.name} makes folder {name} in {client.disk.path(parent)!r}")

    def delete(self, client: Client, choose: random.Random) -> None:
        disk = client.disk
        things = [number for number in disk.inodes if number != ROOT]
        if not things:
            return
        found = choose.choice(things)
        self.gone_knowingly |= {disk.inodes[one].data for one in disk.inside(found) if not disk.inodes[one].folder}
        self.story.append(f"{client.name} deletes {disk.path(found)}")
        disk.remove(found)

    def rename(self, client: Client, choose: random.Random) -> None:
        """Also into another folder, and over a file that is there."""
        disk = client.disk
        things = [number for number in disk.inodes if number != ROOT]
        if not things:
            return
        moved, parent, name = choose.choice(things), choose.choice(disk.folders()), choose.choice(NAMES)
        if moved in disk.ancestors(parent):
            return
        taken = disk.lookup(parent, name)
        if taken == moved:
            return
        if taken is not None:
            if disk.inodes[taken].folder or disk.inodes[moved].folder:
                return
            self.gone_knowingly.add(disk.inodes[taken].data)
            disk.remove(taken)
        self.story.append(f"{client.name} renames {disk.path(moved)} to {name} in {disk.path(parent)!r}")
        disk.move(moved, parent, name)

    def exchange(self, client: Client, choose: random.Random) -> None:
        """Two things change names: no order of single renames can say that."""
        disk = client.disk
        things = [number for number in disk.inodes if number != ROOT]
        if len(things) < 2:
            return
        one, two = choose.sample(things, 2)
        if one in disk.ancestors(two) or two in disk.ancestors(one):
            return
        first, second = disk.inodes[one], disk.inodes[two]
        self.story.append(f"{client.name} exchanges {disk.path(one)} and {disk.path(two)}")
        first.parent, second.parent = second.parent, first.parent
        first.name, second.name = second.name, first.name

    def settle(self, before_each: Callable[[Client], None] = lambda client: None) -> None:
        """Everybody online, nobody types: until nothing happens any more."""
        quiet = 0
        for _ in range(400):
            busy = False
            for client in self.clients:
                before_each(client)
                try:
                    busy |= client.pull()
                    busy |= client.apply()
                    busy |= client.push(1, self.story.append)
                except Lost:
                    busy = True
            quiet = 0 if busy else quiet + 1
            if quiet == 2:
                return
        raise AssertionError("the devices never come to rest\n" + self.told())

    def check(self, server: dict[str, bytes | None], versions: Callable[[str], list[str]]) -> None:
        """Compare every device with the server; `versions` of a node lists its contents, the newest first."""
        for client in self.clients:
            assert client.disk.tree() == server, f"{client.name} differs from the server\n{self.told()}"
        living = {content for content in server.values() if content is not None}
        lost = set(self.written) - living - self.gone_knowingly
        assert not lost, f"lost: {sorted(lost)}\n{self.told()}"
        acknowledged: dict[str, dict[int, str]] = {}
        for client in self.clients:
            for node, contents in client.acknowledged.items():
                acknowledged.setdefault(node, {}).update(contents)
        for node, contents in acknowledged.items():
            expected = [content for _, content in sorted(contents.items(), reverse=True)][:6]
            assert versions(node) == expected, f"versions of {node} are not the last six\n{self.told()}"
        for path in server:
            name = path.rpartition("/")[2]
            assert ".sync-conflict-" not in strip_conflict(name), f"a copy of a copy: {path}\n{self.told()}"

    def told(self) -> str:
        return "\n".join(self.story)


def live_through(
    lines: Sequence[Line],
    choose: random.Random,
    steps: int,
    flaws: Flaws,
    end_of_trouble: Callable[[], None] = lambda: None,
) -> World:
    """Let users and devices do `steps` random things, then come to rest; returns the world to be checked."""
    clients = [Client(line.name, line, flaws) for line in lines]
    world = World(clients)
    for _ in range(steps):
        client = choose.choice(clients)
        step = choose.choices(
            ["write", "edit", "folder", "delete", "rename", "exchange", "push", "pull", "apply"],
            [5, 4, 2, 2, 4, 1, 10, 8, 8],
        )[0]
        try:
            match step:
                case "write":
                    world.write(client, choose)
                case "edit":
                    world.edit(client, choose)
                case "folder":
                    world.make_folder(client, choose)
                case "delete":
                    world.delete(client, choose)
                case "rename":
                    world.rename(client, choose)
                case "exchange":
                    world.exchange(client, choose)
                case "push":
                    client.push(choose.randint(1, 3), world.story.append)
                case "pull":
                    client.pull(choose.randint(1, 5))
                    world.story.append(f"{client.name} pulled to {client.seen}")
                case _:
                    client.apply()
                    world.story.append(f"{client.name} applied")
        except Lost:
            world.story.append(f"{client.name} lost {step}")
    for line in lines:
        line.loss = 0.0
    end_of_trouble()
    world.settle()
    return world


def tree_of(entries: Mapping[str, NodeEntry], download: Callable[[str], bytes]) -> dict[str, bytes | None]:
    """Path -> content of what a snapshot listed; None for a folder."""
    found: dict[str, bytes | None] = {}
    for entry in entries.values():
        names, above = [entry.name], entry.parent
        while above is not None and above != "root":
            names.append(entries[above].name)
            above = entries[above].parent
        data = None if entry.kind == "folder" else b"".join(download(blob) for blob in entry.blobs or [])
        if entry.id != "root":
            found["/".join(reversed(names))] = data
    return found
