"""Which proxy stands between this machine and an address, by the variables that others read too."""

from urllib.request import getproxies, proxy_bypass

import httpx


def proxy_of(url: httpx.URL) -> str | None:
    """Give the proxy of an address; None: it is reached directly.

    `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not, say it.
    """
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    host = url.host.rstrip(".")
    if not proxy or _bypassed(host, url.port, proxies):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def said_proxy(proxy: str) -> str:
    """Name a proxy in a message, without what it may have of a password."""
    return proxy.rpartition("@")[2].rpartition("://")[2].strip("/")


def _bypassed(host: str, port: int | None, proxies: dict[str, str]) -> bool:
    place = host if port is None or ":" in host else f"{host}:{port}"
    return bool(proxy_bypass(place, proxies))
