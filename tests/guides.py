"""The guides as tests read them: their blocks of commands, code and settings."""

import re
from pathlib import Path

_GUIDES = Path(__file__).parents[1] / "docs" / "guides"


def guide(name: str) -> str:
    """Return the text of a guide, named by its file without the ending."""
    return (_GUIDES / f"{name}.md").read_text()


def blocks(name: str, language: str = "bash") -> list[str]:
    """Return a guide's blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", guide(name), re.DOTALL)


def block(name: str, words: str = "", language: str = "bash") -> str:
    """Return the one block of a guide that holds these words."""
    found = [text for text in blocks(name, language) if words in text]
    assert len(found) == 1, f"{len(found)} {language} blocks of {name} hold {words!r}"
    return found[0]
