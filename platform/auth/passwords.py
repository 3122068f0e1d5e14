"""The rules of a new password: long enough, and not one that is guessed first."""

from zxcvbn import zxcvbn
from zxcvbn.matching import RANKED_DICTIONARIES

from ..kernel.settings import AuthSettings
from .errors import WeakPassword

_COMMON = RANKED_DICTIONARIES["passwords"]
# What a patient attacker tries against a login that lets ten guesses through in a quarter of an hour.
_GUESSES = 10**6
# The estimate takes a time that grows faster than the password; what is longer is judged by its beginning.
_JUDGED = 72


def check_password(password: str, settings: AuthSettings, *, about: tuple[str, ...] = ()) -> None:
    """Hold a new password against the rules.

    Args:
        password: The password.
        settings: Holds the least length.
        about: Words that an attacker knows, such as the account's email and name.

    Raises:
        WeakPassword: If it breaks one; the message and ``details.rule`` name it.
    """
    if len(password) < settings.min_password_length:
        raise WeakPassword(
            "min_length", f"The password is too short: use at least {settings.min_password_length} characters."
        )
    if len(set(password)) < 4:
        raise WeakPassword("different_characters", "The password is too simple: use at least 4 different characters.")
    if password.casefold() in _COMMON:
        raise WeakPassword("common", "The password is on the list of common passwords: choose another.")
    if zxcvbn(password[:_JUDGED], user_inputs=list(about), max_length=_JUDGED)["guesses"] < _GUESSES:
        raise WeakPassword(
            "guessable",
            "The password is made of common passwords, repeats, rows of keys or your own name: use several words.",
        )
