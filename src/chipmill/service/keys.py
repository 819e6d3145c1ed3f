"""Keys of runs, derived from the master, so that a leaked one frees no other run's data."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def run_key(master: bytes, run: str) -> bytes:
    """Derive a run's webhook key, 32 bytes, by HKDF-SHA256 (RFC 5869).

    The same master and run always give the same key: nothing has to be stored.
    """
    info = b"chipmill run " + run.encode()
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(master)
