"""What cookies carry: secrets, of which only hashes are kept."""

import hashlib
from http.cookies import CookieError, SimpleCookie


def value(header: str, name: str) -> str | None:
    """A cookie of a request's Cookie header, if it is there."""
    try:
        cookies = SimpleCookie(header)
    except CookieError:
        return None
    return cookies[name].value if name in cookies else None


def digest(secret: str) -> str:
    """What is stored of a secret. It is long and random, so that a plain hash cannot be guessed back."""
    return hashlib.sha256(secret.encode()).hexdigest()
