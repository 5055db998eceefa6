"""Writes access.log: four days of an invented shop, as nginx logs them in its combined format.

    python make_access_log.py > access.log

It writes the same lines each time. All addresses are from the ranges reserved for documentation. Two lines
can't be parsed, as in real logs: one was cut off when the disk was full, and one is a client's TLS handshake.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

START = datetime(2025, 10, 6, tzinfo=UTC)
DAYS = 4
VISITS = 640
SITE = "https://shop.example.com"

# The relative number of visits in each hour of the day.
BUSY = [2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 11, 13, 12, 10, 10, 11, 13, 16, 18, 19, 16, 10, 5]

# During this time, most requests that need the database failed.
OUTAGE = (START + timedelta(days=2, hours=18, minutes=41), START + timedelta(days=2, hours=19, minutes=26))

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0"
SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6"
BROWSERS = [
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Safari/537.36",
    f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Mobile Safari/537.36",
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) {SAFARI} Mobile/15E148 Safari/604.1",
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {SAFARI} Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
]
CRAWLERS = [
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
]
REFERERS = [
    "-",
    "-",
    "https://www.google.com/",
    "https://duckduckgo.com/",
    "https://news.example.org/gardens",
]

PRODUCTS = [
    f"/products/{name}"
    for name in (
        "watering-can",
        "garden-fork",
        "bulbs-mixed-50",
        "pruning-shears",
        "seed-tray",
        "gloves-m",
        "gloves-l",
        "wheelbarrow",
        "rain-gauge",
        "bird-feeder",
        "compost-bin",
        "hose-25m",
        "rake",
        "terracotta-20cm",
    )
]
PAGES = [
    "/",
    "/products",
    "/products?page=2",
    "/about",
    "/blog/planting-calendar",
    "/search?q=bulbs",
    *PRODUCTS,
]
ASSETS = ["/static/app.8f3c1e.css", "/static/app.41d0b7.js", "/static/logo.svg", "/favicon.ico"]
PROBES = ["/wp-login.php", "/.env", "/.git/config", "/admin/", "/phpmyadmin/index.php", "/cgi-bin/luci"]
MOVED = {"/shop": "/products", "/products/": "/products", "/blog": "/blog/planting-calendar"}

CUT_OFF = b'198.51.100.23 - - [08/Oct/2025:18:44:07 +0000] "GET /products/terracot'
HANDSHAKE = bytes.fromhex("160301020601 01fc03039cd1e57fb2c8af10ee 130213031301c02cc030 ff01")


@dataclass(frozen=True)
class Client:
    address: str
    agent: str


@dataclass(frozen=True)
class Request:
    at: datetime
    client: Client
    request: str
    status: int
    size: int
    referer: str = "-"

    def line(self) -> bytes:
        at = self.at.strftime("%d/%b/%Y:%H:%M:%S %z")
        return (
            f'{self.client.address} - - [{at}] "{self.request}" {self.status} {self.size} '
            f'"{self.referer}" "{self.client.agent}"'
        ).encode()


class Shop:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.sizes = {path: random.randint(900, 48_000) for path in [*PAGES, *ASSETS]}

    def log(self) -> list[bytes]:
        requests = [*self.monitoring(), *self.crawling(), *self.probing(), *self.noise()]
        for _ in range(VISITS):
            requests += self.visit()
        lines = [request.line() for request in sorted(requests, key=lambda request: request.at)]
        lines.insert(len(lines) // 3, HANDSHAKE)
        after = next(index for index, line in enumerate(lines) if b"08/Oct/2025:18:44:" in line)
        lines.insert(after, CUT_OFF)
        return lines

    def visit(self) -> Iterator[Request]:
        """Some pages, one after the other, each with the assets that a browser fetches for it."""
        at, client = self.moment(), Client(self.address(), self.random.choice(BROWSERS))
        referer, seen = self.random.choice(REFERERS), set[str]()
        for _ in range(self.random.choice([1, 1, 2, 3, 4, 6])):
            if self.random.random() < 0.03:
                old, new = self.random.choice(list(MOVED.items()))
                yield Request(at, client, f"GET {old} HTTP/1.1", 301, 169, referer)
                page = new
            else:
                page = self.random.choice(PAGES)
            status = self.status(at)
            yield Request(at, client, f"GET {page} HTTP/1.1", status, self.size(page, status), referer)
            referer = SITE + page
            for asset in self.random.sample(ASSETS, self.random.choice([0, 1, 2])):
                status = 304 if asset in seen or self.random.random() < 0.2 else 200
                seen.add(asset)
                later = at + timedelta(seconds=self.random.choice([0, 0, 1]))
                yield Request(
                    later, client, f"GET {asset} HTTP/1.1", status, self.size(asset, status), referer
                )
            if page in PRODUCTS and self.random.random() < 0.25:
                at += timedelta(seconds=self.random.randint(4, 90))
                status = self.status(at, good=self.random.choice([200, 200, 200, 201, 422]))
                yield Request(at, client, "POST /api/cart HTTP/1.1", status, self.size("", status), referer)
            at += timedelta(seconds=self.random.randint(5, 180))

    def monitoring(self) -> Iterator[Request]:
        """A health check, four times an hour."""
        client = Client("2001:db8:0:5::9", "curl/8.5.0")
        for quarter in range(DAYS * 24 * 4):
            at = START + timedelta(minutes=15 * quarter, seconds=3)
            status = self.status(at)
            yield Request(at, client, "GET /healthz HTTP/1.1", status, 2 if status == 200 else 197)

    def crawling(self) -> Iterator[Request]:
        """Search engines, which also ask for a page that is gone."""
        for number, agent in enumerate(CRAWLERS):
            client = Client(f"192.0.2.{201 + number}", agent)
            for _ in range(110):
                at, page = (
                    self.moment(),
                    self.random.choice([*PAGES, *PRODUCTS, "/robots.txt", "/products/spade"]),
                )
                status = 404 if page == "/products/spade" else self.status(at)
                yield Request(at, client, f"GET {page} HTTP/1.1", status, self.size(page, status))

    def probing(self) -> Iterator[Request]:
        """Thirty scans for known weaknesses."""
        for _ in range(30):
            at, client = (
                self.moment(),
                Client(self.address(), self.random.choice(["-", "Mozilla/5.0 zgrab/0.x"])),
            )
            for path in self.random.sample(PROBES, self.random.randint(2, len(PROBES))):
                status = 403 if path in ("/.env", "/.git/config", "/admin/") else 404
                yield Request(at, client, f"GET {path} HTTP/1.1", status, 153)
                at += timedelta(seconds=1)

    def noise(self) -> Iterator[Request]:
        """Lines that are not requests: a handshake as nginx logs it, and a connection that sent nothing."""
        for request, status in [(r"\x16\x03\x01\x00\xEE\x01\x00\x00\xEA\x03\x03", 400), ("-", 408)] * 6:
            yield Request(self.moment(), Client(self.address(), "-"), request, status, 0)
        odd = Client(self.address(), r"\x22quoted\x22 agent \xE2\x9C\xBF")
        yield Request(self.moment(), odd, "GET / HTTP/1.0", 200, self.sizes["/"])

    def status(self, at: datetime, good: int = 200) -> int:
        if OUTAGE[0] <= at <= OUTAGE[1] and self.random.random() < 0.8:
            return self.random.choice([500, 502, 503, 503, 503, 504])
        return 500 if self.random.random() < 0.003 else good

    def size(self, path: str, status: int) -> int:
        if status == 304:
            return 0
        return self.sizes.get(path, 64) if status == 200 else 153 + status % 100

    def moment(self) -> datetime:
        hour = self.random.choices(range(24), weights=BUSY)[0]
        return START + timedelta(
            days=self.random.randrange(DAYS), hours=hour, seconds=self.random.randrange(3600)
        )

    def address(self) -> str:
        if self.random.random() < 0.2:
            return f"2001:db8:{self.random.randrange(1, 0xFFFF):x}:{self.random.randrange(1, 0xFF):x}::1"
        return f"{self.random.choice(['192.0.2', '198.51.100', '203.0.113'])}.{self.random.randint(1, 200)}"


if __name__ == "__main__":
    sys.stdout.buffer.write(b"\n".join(Shop(Random(2025)).log()) + b"\n")  # noqa: S311
