"""What stands before the server: the names it is called by, proxies, a path prefix, pages of other sites."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from mobilenext.errors import UsageError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

LOCAL = ("localhost", "127.0.0.1", "[::1]")
MOST_HOPS = 32  # forwarded addresses that are looked at, from the nearest on
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\]|\*")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_PORT = re.compile(r":[0-9]*$")
_FOR = re.compile(r'(?:^|[;,\s])for\s*=\s*("[^"]*"|[^;,\s]+)', re.IGNORECASE)


@dataclass(frozen=True)
class Front:
    """What is known of the way to the server.

    Args:
        hosts: names that are answered, in lower case without a port, ``*.example.org`` for all below it; None: all.
        proxies: networks whose forwarded addresses, names and prefixes are believed.
        prefix: the path under which a proxy shows the server, such as ``/models``; empty: the root.
        origins: of other sites' pages that may ask, such as ``https://app.example.org``; ``*``: all.
    """

    hosts: tuple[str, ...] | None = None
    proxies: tuple[Network, ...] = ()
    prefix: str = ""
    origins: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        *,
        hosts: Iterable[str] | None = None,
        proxies: Iterable[str] = (),
        prefix: str = "",
        origins: Iterable[str] = (),
    ) -> Front:
        """Return the record of what a user writes.

        Raises:
            UsageError: a name, an address, a path or an origin that is none.
        """
        return cls(
            None if hosts is None else tuple(map(_host_name, hosts)),
            tuple(map(_network, proxies)),
            _prefix(prefix),
            tuple(map(_origin, origins)),
        )

    def answers(self, host: str) -> bool:
        """Return whether a request to this host is answered; one without a name comes from no browser."""
        if self.hosts is None or not host or "*" in self.hosts:
            return True
        return any(host == name or (name.startswith("*.") and host.endswith(name[1:])) for name in self.hosts)

    def trusts(self, address: str) -> bool:
        """Return whether this is the address of a proxy that was named."""
        parsed = _address(address) if self.proxies else None
        return parsed is not None and any(parsed in network for network in self.proxies)

    def client(self, peer: str, headers: Headers) -> str:
        """Return the client's address: behind proxies the nearest forwarded one that is no proxy's, else the peer's."""
        if not self.trusts(peer):
            return peer
        nearest = peer
        for text in reversed(_forwarded(headers)[-MOST_HOPS:]):
            parsed = _address(text)
            if parsed is None:  # "unknown", or a name that a proxy hides an address behind: nothing beyond it is known
                return nearest
            nearest = str(parsed)
            if not self.trusts(nearest):
                return nearest
        return nearest

    def host(self, peer: str, headers: Headers) -> str:
        """Return the name and port that the client asked for: the Host header, or what a proxy says that it was."""
        forwarded = _values(headers, b"x-forwarded-host") if self.trusts(peer) else []
        values = forwarded[-1:] or _values(headers, b"host")[:1]
        return values[0].lower() if values else ""

    def is_own(self, origin: str, host: str) -> bool:
        """Return whether a page of this origin came from here, asked for as `host` (with its port)."""
        site = urlsplit(origin.lower())
        if site.scheme not in ("http", "https") or not site.netloc:
            return False
        if site.netloc == host:
            return True
        # A proxy that passes its own name for the server on says nothing of the one in the browser: but we were told.
        named = [name for name in self.hosts or () if name != "*" and name not in LOCAL]
        return bool(named) and Front(tuple(named)).answers(host_of(site.netloc))

    def is_allowed(self, origin: str) -> bool:
        """Return whether a page of another site may ask."""
        return "*" in self.origins or origin.lower() in self.origins

    def root_path(self, peer: str, headers: Headers) -> str:
        """Return the prefix of this request's paths in the browser: the named one, or the one that a proxy removed."""
        forwarded = _values(headers, b"x-forwarded-prefix") if not self.prefix and self.trusts(peer) else []
        prefix = forwarded[-1].rstrip("/") if forwarded else ""
        return prefix if _PREFIX.fullmatch(prefix) else self.prefix


def host_of(value: str) -> str:
    """Return the name in a Host header, in lower case, without port and final dot."""
    value = value.strip().lower()
    if value.startswith("["):
        return value.partition("]")[0] + "]"
    return value.partition(":")[0].rstrip(".")


def below(path: str, prefix: str) -> str:
    """Return a path below the root of the server, whether or not a proxy has taken the prefix away."""
    return path[len(prefix) :] if prefix and (path == prefix or path.startswith(prefix + "/")) else path


def _values(headers: Headers, name: bytes) -> list[str]:
    """Return the entries of all headers of a name, in order."""
    text = ",".join(value.decode("latin-1") for key, value in headers if key == name)
    return [value for part in text.split(",") if (value := part.strip())]


def _forwarded(headers: Headers) -> list[str]:
    """Return the addresses that proxies have passed on, the client's first: RFC 7239, or the older X-Forwarded-For."""
    text = ",".join(value.decode("latin-1") for key, value in headers if key == b"forwarded")
    if text:
        return [value.strip('"') for value in _FOR.findall(text)]
    return _values(headers, b"x-forwarded-for") or _values(headers, b"x-real-ip")[-1:]


def _address(text: str) -> Address | None:
    """Return an IP address with or without port, brackets and zone; an IPv4 address that is written as IPv6 is IPv4."""
    text = text.strip().partition("%")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = _PORT.sub("", text)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _host_name(text: str) -> str:
    name = text.strip().lower()
    bracketed = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
    if not _HOST.fullmatch(bracketed):
        raise UsageError(
            f"--allow-host {text!r} is no name; expected a name or an address without scheme, port and path, such as "
            "models.example.org, *.example.org or 192.0.2.7"
        )
    return bracketed


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise UsageError(
            f"--trusted-proxy {text!r} is no address; expected one, or a network, such as 127.0.0.1 or 10.0.0.0/8"
        ) from error


def _prefix(text: str) -> str:
    path = text.strip().rstrip("/")
    if path and not _PREFIX.fullmatch(path):
        raise UsageError(f"--root-path {text!r} is no path; expected one from the root, such as /models")
    return path


def _origin(text: str) -> str:
    origin = text.strip().lower().rstrip("/")
    site = urlsplit(origin)
    if origin != "*" and (site.scheme not in ("http", "https") or not site.netloc or site.path or site.query):
        raise UsageError(
            f"--allow-origin {text!r} is no origin; expected a scheme and a name, such as https://app.example.org, or *"
        )
    return origin
