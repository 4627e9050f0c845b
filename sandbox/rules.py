"""What a problem tells the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class ScreenRules(Protocol):
    """What a problem allows its candidates."""

    @property
    def modules(self) -> Mapping[str, frozenset[str]]:
        """Importable module -> names that may be used of it; a dotted submodule is a module of its own."""

    @property
    def attributes(self) -> frozenset[str]:
        """Attributes and methods that may be used of any object."""

    @property
    def builtins(self) -> frozenset[str]: ...

    @property
    def provided(self) -> frozenset[str]:
        """Further global names that a candidate is given."""

    @property
    def template(self) -> str | None:
        """A program outside of whose EVOLVE-BLOCK markers nothing may be changed. Where there is one, size
        and syntax are all that is checked besides; None for problems with a language."""

    def __hash__(self) -> int:
        """By identity: what was screened is looked up by it."""

    @property
    def max_characters(self) -> int: ...

    @property
    def max_nodes(self) -> int: ...

    @property
    def max_depth(self) -> int: ...
