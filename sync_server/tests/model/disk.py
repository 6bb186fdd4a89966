"""A folder of a device, in memory: what a user sees and changes, with inodes that survive renames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

ROOT = 0


@dataclass
class Inode:
    parent: int
    name: str
    folder: bool
    data: bytes = b""


class Disk:
    def __init__(self) -> None:
        self.inodes: dict[int, Inode] = {ROOT: Inode(ROOT, "", True)}
        self._next = 1

    def children(self, folder: int) -> dict[str, int]:
        return {inode.name: number for number, inode in self.inodes.items() if number and inode.parent == folder}

    def lookup(self, folder: int, name: str) -> int | None:
        return self.children(folder).get(name)

    def create(self, parent: int, name: str, folder: bool, data: bytes = b"") -> int:
        assert self.lookup(parent, name) is None, f"{name} is there already"
        assert self.inodes[parent].folder
        number, self._next = self._next, self._next + 1
        self.inodes[number] = Inode(parent, name, folder, data)
        return number

    def inside(self, number: int) -> Iterator[int]:
        """Everything below, the deepest first, then `number` itself."""
        for child in list(self.children(number).values()):
            yield from self.inside(child)
        yield number

    def remove(self, number: int) -> None:
        for one in list(self.inside(number)):
            del self.inodes[one]

    def move(self, number: int, parent: int, name: str) -> None:
        taken = self.lookup(parent, name)
        assert taken in (None, number), f"{name} is there already"
        assert number not in self.ancestors(parent), "a folder cannot go into itself"
        self.inodes[number].parent, self.inodes[number].name = parent, name

    def ancestors(self, number: int) -> list[int]:
        found = [number]
        while number != ROOT:
            number = self.inodes[number].parent
            found.append(number)
        return found

    def path(self, number: int) -> str:
        names = []
        while number != ROOT:
            names.append(self.inodes[number].name)
            number = self.inodes[number].parent
        return "/".join(reversed(names))

    def tree(self) -> dict[str, bytes | None]:
        """Path -> content, None for a folder."""
        return {
            self.path(number): None if inode.folder else inode.data
            for number, inode in self.inodes.items()
            if number != ROOT
        }

    def files(self) -> list[int]:
        return sorted(number for number, inode in self.inodes.items() if not inode.folder)

    def folders(self) -> list[int]:
        return sorted(number for number, inode in self.inodes.items() if inode.folder)
