"""The README, in pieces."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def marked(example: str) -> str:
    """What stands between the marks of an example."""
    text = (EXAMPLES / example).read_text(encoding="utf-8")
    _, _, rest = text.partition("# README\n")
    inside, end, _ = rest.partition("# END")
    assert end, f"{example} has no marks"
    return textwrap.dedent(inside.rstrip(" ")).rstrip() + "\n"


def without_comment(example: str) -> str:
    """A shell example without its first line, which says what it is."""
    _, _, rest = (EXAMPLES / example).read_text(encoding="utf-8").partition("\n")
    return rest
