"""Patterns of addresses: `payments/**` is a stack and all in it, `*/retry/*` every retry."""

from __future__ import annotations

from fnmatch import fnmatchcase

ANYWHERE = "**"


def matches(pattern: str, path: str) -> bool:
    """Tell whether an address fits a pattern.

    Within a name `*` stands for any characters and `?` for one; `**` in place of a name stands for
    any number of names, also none. The empty address, "no place in particular", fits only `**`.
    """
    return _fits(pattern, path)[-1]


def reaches(pattern: str, path: str) -> bool:
    """Tell whether an address, or one that there could be below it, fits a pattern."""
    parts = pattern.split("/")
    starts = ("/".join(parts[:length]) for length in range(1, len(parts) + 1))
    return not path or any(matches(start, path) for start in starts)


def _fits(pattern: str, path: str) -> list[bool]:
    """Say for each length whether the pattern fits that many names of the address."""
    names = path.split("/") if path else []
    fits = [True] + [False] * len(names)
    for part in pattern.split("/"):
        if part == ANYWHERE:
            first = fits.index(True) if True in fits else len(fits)
            fits = [index >= first for index in range(len(fits))]
        else:
            # `fits` before and after one more part of the pattern: never exponential.
            taken = zip(fits, names, strict=False)
            fits = [False, *(before and fnmatchcase(name, part) for before, name in taken)]
    return fits


def below(*names: str | None) -> str:
    """Join the names of an address as far as they are given: the stack, then the policy."""
    known: list[str] = []
    for name in names:
        if not name:
            break
        known.append(name)
    return "/".join(known)
