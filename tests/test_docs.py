"""The documentation says what the code does."""

import re
from pathlib import Path

import pytest

from raymill.kernel.errors import ErrorType
from raymill.kernel.settings import environment_names

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "docs" / "reference" / "settings.md"


def settings_table() -> str:
    """Return the table that settings.md must hold."""
    rows = [f"| `{name}` | {text} |" for name, text in environment_names().items()]
    return "\n".join(["| variable | meaning |", "|---|---|", *rows])


def test_every_setting_is_described() -> None:
    assert all(environment_names().values())


def test_the_settings_page_is_up_to_date() -> None:
    assert settings_table() in SETTINGS.read_text(), "run: python tests/test_docs.py"


@pytest.mark.parametrize("type_", list(ErrorType))
def test_every_error_type_has_its_line(type_: ErrorType) -> None:
    assert f"| `{type_}` |" in (ROOT / "docs" / "reference" / "errors.md").read_text()


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("room", sorted(path.name for path in (ROOT / "platform").iterdir() if path.is_dir()))
def test_every_room_is_in_the_house_page(room: str) -> None:
    if room != "__pycache__":
        assert f"`platform/{room}/`" in (ROOT / "docs" / "concepts" / "house.md").read_text()


if __name__ == "__main__":
    SETTINGS.write_text(
        "# Settings\n\nRead from the environment, then from the JSON file that `RAYMILL_CONFIG_FILE` names (else\n"
        f"`config.json` in `RAYMILL_HOME`), then these defaults. Secrets belong in the file.\n\n{settings_table()}\n"
    )
