"""Keys that are derived from a secret, so that one that leaks opens nothing else."""

import base64

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def run_key(master: bytes, run: str) -> bytes:
    """Derive a run's webhook key, 32 bytes, by HKDF-SHA256 (RFC 5869).

    The same master and run always give the same key: nothing has to be stored.
    """
    return _derived(master, b"chipmill run " + run.encode())


def page_token(master: bytes) -> str:
    """Derive the token that signs people in on the status page, 43 characters."""
    key = _derived(master, b"chipmill page token")
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def page_key(token: bytes) -> bytes:
    """Derive the key that signs the cookies of those who signed in by a token."""
    return _derived(token, b"chipmill page cookies")


def _derived(secret: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)
