"""What the installation of packages asks of a package manager."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dozencloud.errors import Problem
from dozencloud.tasks.graph import Step

SECONDS = 1800.0
"""Within which an installation ends."""


@dataclass(frozen=True)
class Policy:
    """A file that keeps packages from starting or enabling their daemons while it is there."""

    path: Path
    text: str
    mode: int


@dataclass(frozen=True)
class Sign:
    """What a failed program says, and what that means to a person."""

    parts: tuple[str, ...]
    what: str
    mend: str


class PackageManager(ABC):
    """Installs, asks about and removes packages. Commands are lists of words, run as root."""

    programs: ClassVar[str]
    """For people: what is missing where this package manager is not there."""
    proxy: ClassVar[str]
    """Where its own proxy is set."""
    environment: ClassVar[Mapping[str, str]]
    """Added to the environment of its commands."""
    signs: ClassVar[tuple[Sign, ...]]
    """The usual causes of a failure; the first that fits is said."""

    @abstractmethod
    def missing(self, names: Sequence[str]) -> list[str]:
        """Those that are not installed, in the order given."""

    @abstractmethod
    def removable(self, names: Sequence[str]) -> list[str]:
        """Those that are there and that the system may lose."""

    @abstractmethod
    def offered(self, name: str) -> str:
        """What the package manager says of the version it would install; empty where unknown."""

    @abstractmethod
    def refresh(self) -> list[str]:
        """Command: read the lists of packages anew."""

    @abstractmethod
    def install(self, names: Sequence[str]) -> list[str]:
        """Command: install, without what is only recommended, and without a question."""

    @abstractmethod
    def remove(self, names: Sequence[str]) -> list[str]:
        """Command: remove, with their settings and what only they needed, without a question."""

    @abstractmethod
    def wait(self, step: Step) -> None:
        """Wait until no other program installs packages, if the commands do not wait themselves."""

    @abstractmethod
    def repair(self, step: Step, names: Sequence[str]) -> None:
        """Finish what an installation of `names` had begun when it was killed."""

    @abstractmethod
    def policy(self, units: Sequence[str]) -> Policy:
        """What keeps these units from being started or enabled by their packages."""

    @abstractmethod
    def to_install(self, *names: str) -> str:
        """What a person types, after sudo or as root."""

    @abstractmethod
    def to_remove(self, *names: str) -> str: ...

    @abstractmethod
    def to_reinstall(self, *names: str) -> str: ...

    @abstractmethod
    def to_configure(self) -> str:
        """What a person types where packages are unpacked and not set up."""

    @abstractmethod
    def to_fit(self) -> str:
        """What a person types where installed packages do not fit together."""

    def cause(self, problem: Problem) -> Problem:
        """The same in words, where the cause is a usual one."""
        text = problem.detail
        for sign in self.signs:
            if any(part in text for part in sign.parts):
                return Problem(sign.what, sign.mend, detail=text)
        return problem
