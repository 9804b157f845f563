# SPDX-License-Identifier: BSD-2-Clause
"""The page to look at, in a real browser: what it shows is true, clicks tell why, nothing hostile
becomes HTML, and it stays quick with a hundred thousand clients.

WEIR_SCREENSHOTS names a directory for pictures of it, to be looked at."""

import json
import os
import re
import time
import urllib.parse
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

import load
import rawmilter
from harness import proc
from harness.watch import Page
from harness.weir import PATIENT
from rawmilter import RawMilter

LIMITS = """
limit connections { rate = "20/1h" burst = 20 }
limit messages { count = messages per = network rate = "100/1h" burst = 100 }
limit sessions { enabled = false }
greylist { enabled = true delay = "5m" }
"""
# What would run if it became HTML, from a name, an address and an HELO.
EVIL = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = str(proc.need(Path("/usr/bin/chromium")))
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
                     "--disable-component-update", "--dns-prefetch-disable",
                     f"--user-data-dir={proc.make_directory('chromium')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    driver.set_page_load_timeout(20)
    yield driver
    driver.quit()


class View:
    """The page in the browser."""

    def __init__(self, driver, page):
        self.driver = driver
        self.url = f"http://{page.address}/"
        driver.get("about:blank")       # the page of the test before asks no more
        driver.get_log("browser")
        driver.get_log("performance")

    def open(self, width=1200, height=900, dark=False):
        cdp = self.driver.execute_cdp_cmd
        cdp("Emulation.setDeviceMetricsOverride", {"width": width, "height": height,
            "deviceScaleFactor": 1, "mobile": width < 600})
        cdp("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
        self.driver.get(self.url)
        self.wait(lambda: self.text("fresh") == "live", "the first figures")
        return self

    def wait(self, question, what):
        return proc.wait_for(question, 10, what, every=0.05)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, name):
        return self.driver.find_element(By.ID, name).text

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def click(self, selector, text=None):
        def there():
            return [e for e in self.all(selector) if text is None or text in e.text]
        # a table that has just been drawn anew has new buttons
        for _ in range(5):
            try:
                self.wait(there, f"{selector} {text}")[0].click()
                return
            except webdriver.remote.errorhandler.StaleElementReferenceException:
                continue
        raise AssertionError(f"{selector} {text} does not hold still")

    def picture(self, name):
        directory = os.environ.get("WEIR_SCREENSHOTS")
        if directory:
            self.driver.save_screenshot(f"{directory}/{name}.png")

    def complaints(self):
        """What the browser held against it: errors of the script, and what the policy forbade. That
        a busy machine was slow to answer is not held against it."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if "net::ERR_" not in entry["message"]]

    def hosts(self):
        """Whom it has asked for anything."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = urllib.parse.urlsplit(message["params"]["request"]["url"])
                if url.scheme not in ("data", "chrome", "about"):    # the browser's own empty tab
                    found.add(url.netloc)
        return found


def visit(spec, address, name=None, recipients=1, helo="client.test"):
    with RawMilter(spec) as session:
        session.negotiate()
        reply = session.connect(address, name=name)
        if reply and reply.code != rawmilter.CONTINUE:
            return
        session.helo(helo)
        session.mail(f"<{helo}@client.test>")
        for n in range(recipients):
            session.rcpt(f"<u{n}{helo}@example.test>")


@pytest.fixture
def shown(weir, browser):
    def new(conf=LIMITS, **options):
        page = Page(f"127.0.0.1:{proc.free_port()}")
        started = weir(f'metrics = "{page.address}"\n{conf}', **PATIENT, **options)
        return started, page.ready(), View(browser, page)
    return new


def test_shows_and_tells_why(shown, store):
    """Figures, the clients, why on click; light, dark and on a phone, and nothing asked elsewhere."""
    weir, page, view = shown(redis=store)
    for _ in range(30):
        visit(weir.socket, "198.51.100.7", "dsl7.pool.example")
    for n in range(12):
        visit(weir.socket, f"192.0.2.{n}", f"mx{n}.example.org")
    view.open()
    now = page.get("/api/now").json()
    assert sum(now["hour"]["limits"]["connections"]) == 10
    assert sum(now["hour"]["accepted"]) == 32 and sum(now["hour"]["held"]) == 32
    view.wait(lambda: view.text("node") == now["node"], "the node")
    assert "all well" in view.text("pills")
    assert re.search(r"Accepted\s*32\s*Greylisted\s*32\s*connections\s*10", view.text("legend"))
    assert len(view.all("#chart rect.column")) == 60
    # the columns are as high as what they stand for
    heights = [float(e.get_attribute("height")) for e in view.all("#chart rect:not(.column)")]
    assert len(heights) >= 3 and max(heights) > 20

    view.wait(lambda: "198.51.100.7" in view.text("top"), "the client")
    row = next(r for r in view.all("#top tbody tr") if "198.51.100.7" in r.text)
    cells = [c.text for c in row.find_elements(By.TAG_NAME, "td")]
    assert cells[0].split() == ["198.51.100.7", "dsl7.pool.example"]
    assert cells[1:5] == ["10", "20", "20", "connections"]
    view.click(".who", "198.51.100.7")
    view.wait(lambda: "next connection refused" in view.text("top"), "why")
    why = view.text("top")
    assert re.search(r"next connection refused with 421 by connections, fits again in \d+ (s|min)",
                     why)
    assert re.search(r"connections\s*(19\.\d|20) of 20\s*connections · 198.51.100.7", why)
    view.picture(f"why-{'redis' if store else 'zone'}")
    view.click(".who", "198.51.100.7")
    view.wait(lambda: "next connection" not in view.text("top"), "why is gone")

    view.click(".choice button", "Networks")
    view.click(".who", "198.51.100.0/24")
    view.wait(lambda: "Busiest in it: 198.51.100.7 (50)" in view.text("top"), "the network's why")
    limits = view.text("limits")
    assert re.search(r"connections\nconnections per address\s*20/1h burst 20 refuse 10", limits)
    view.wait(lambda: re.search(r"(19\.\d|20) of 20\n198.51.100.7", view.text("limits")),
              "the fullest")
    assert ("generation" in view.text("host")) == bool(store)
    if store:
        view.wait(lambda: now["node"] in view.text("nodes"), "the nodes")
    else:
        assert "stands alone" in view.text("nodes")

    # legend: without the accepted ones the axis is another
    before = view.all("#chart rect.c-accepted")
    view.click("#legend button", "Accepted")
    view.wait(lambda: not view.all("#chart rect.c-accepted"), "fewer columns")
    assert before

    colours = set()
    for name, width, dark in (("light", 1200, False), ("dark", 1200, True), ("phone", 390, False),
                              ("phone-dark", 390, True)):
        view.open(width=width, dark=dark)
        view.click(".who", "198.51.100.7")
        view.wait(lambda: "next connection" in view.text("top"), "why")
        view.picture(f"{name}-{'redis' if store else 'zone'}")
        colours.add(view.script("return getComputedStyle(document.body).backgroundColor"))
        assert view.script("return document.documentElement.scrollWidth") <= width, name
    assert len(colours) == 2
    assert view.complaints() == []
    assert view.hosts() == {page.address}


def test_hostile_names_are_inert(shown, redis):
    """Names, HELO and senders of clients, and nodes and limits in Redis, that look like HTML."""
    weir, page, view = shown(redis=redis)
    for n in range(25):
        visit(weir.socket, "203.0.113.66", f"{EVIL}{n % 2}", helo=EVIL.replace(" ", ""))
    redis.cmd("HSET", f"weir:node:{EVIL[:60]}", "version", EVIL, "sessions", EVIL, "mode", EVIL)
    seconds = int(redis.cmd("TIME")[0])
    redis.cmd("ZADD", "weir:nodes", str(seconds * 1000), EVIL[:60])
    redis.cmd("HSET", "weir:limits", EVIL, "rate=1/1m", "connections", f'reply="421 4.7.0 {EVIL}"')
    redis.cmd("SET", "weir:generation", EVIL[:20])
    view.open()
    view.wait(lambda: "203.0.113.66" in view.text("top"), "the client")
    view.click(".who", "203.0.113.66")
    view.wait(lambda: "next connection" in view.text("top"), "why")
    # it is there, as text
    view.wait(lambda: "<img" in view.text("nodes"), "the node")
    assert "<img" in view.text("top")
    time.sleep(0.3)
    assert view.script("return window.pwned") is None
    assert view.all("img, iframe, object, embed, link, base, form") == []
    assert len(view.all("script")) == 1
    assert view.complaints() == []
    for path in ("/api/now", "/api/top", "/api/why?client=203.0.113.66&name=" + "%3Cscript%3E"):
        reply = page.get(path)
        assert reply.headers["Content-Type"].startswith("application/json")
        reply.json()
        assert all(32 <= ord(c) < 127 for c in reply.text)


def test_policy(shown, redis):
    """Only what came with this answer runs: not what somebody puts into the page."""
    _, page, view = shown(redis=redis)
    replies = [page.get("/") for _ in range(2)]
    nonces = set()
    for reply in replies:
        policy = dict(part.strip().split(" ", 1)
                      for part in reply.headers["Content-Security-Policy"].split(";"))
        nonce, = set(re.findall(r"'nonce-([0-9a-f]{32})'", reply.text + str(policy)))
        nonces.add(nonce)
        assert policy == {"default-src": "'none'", "style-src": f"'nonce-{nonce}'",
                          "script-src": f"'nonce-{nonce}'", "connect-src": "'self'",
                          "base-uri": "'none'", "form-action": "'none'",
                          "frame-ancestors": "'none'"}
        assert len(re.findall(f'nonce="{nonce}"', reply.text)) == 2
        assert reply.headers["X-Frame-Options"] == "DENY"
        assert reply.headers["Cache-Control"] == "no-store"
    assert len(nonces) == 2
    # nothing from elsewhere, and nothing that has to be told to be inline
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|url\(|\son\w+=|style=""",
                         replies[0].text)
    for path in ("/metrics", "/api/now", "/healthz", "/nothing"):
        assert page.get(path).headers["Content-Security-Policy"].startswith("default-src 'none'")
    view.open()
    assert view.complaints() == []
    view.script("""const s = document.createElement('script'); s.textContent = 'window.pwned = 1';
        document.body.append(s); const i = document.createElement('img'); i.src = 'http://127.0.0.1:1/x';
        document.body.append(i);""")
    time.sleep(0.2)
    assert view.script("return window.pwned") is None
    assert len([c for c in view.complaints() if "Content Security Policy" in c]) == 2


def test_wrong_questions(shown, redis):
    _, page, _ = shown(redis=redis)
    for query in ("", "?client=", "?client=nonsense", "?client=192.0.2.7/24", "?client=%00",
                  "?client=" + "1" * 300, "?client=<script>", "?name=x"):
        reply = page.get("/api/why" + query)
        assert reply.status == 400 and "client=" in reply.json()["error"]
    assert page.get("/api/why?client=2001:db8::1").status == 200
    assert page.get("/api/why?client=192.0.2.0/24").json()["client"] == "192.0.2.0/24"
    assert page.get("/api/why?client=192.0.2.7&name=" + "x" * 400).status == 200
    assert page.get("/api/top?by=nonsense").json()["by"] == "refused"


def test_looking_changes_nothing(shown, redis):
    """Why and the search for the fullest charge nobody and write nothing."""
    weir, page, _ = shown(redis=redis)
    for _ in range(5):
        visit(weir.socket, "192.0.2.1", "mx.example.org")
    load.settle(weir)

    def counters():
        return {key: redis.cmd("HGETALL", key) for key in redis.cmd("KEYS", "weir:address:*")
                + redis.cmd("KEYS", "weir:network:*") + redis.cmd("KEYS", "weir:pool:*")}
    before, decisions = counters(), page.value("weir_decisions_total")
    for _ in range(20):
        page.get("/api/why?client=192.0.2.1&name=mx.example.org")
        page.get("/api/why?client=192.0.2.250")
        page.get("/api/now")
    assert before and counters() == before
    assert page.value("weir_decisions_total") == decisions


def test_redis_gone(shown, new_redis):
    """Nobody waits: neither mail nor the page."""
    redis = new_redis()
    weir, page, view = shown(redis=redis)
    visit(weir.socket, "192.0.2.1")
    redis.stop()
    for _ in range(5):
        visit(weir.socket, "192.0.2.1")
    view.open()
    view.wait(lambda: "without Redis" in view.text("pills"), "the pill")
    start = time.monotonic()
    why = page.get("/api/why?client=192.0.2.1").json()
    assert why["source"] == "zone" and why["answered"]
    assert time.monotonic() - start < 3


def test_reload_keeps_the_hour(shown, redis):
    weir, page, view = shown(redis=redis)
    for _ in range(25):
        visit(weir.socket, "198.51.100.7")
    view.open()
    mark = weir.mark()
    weir.reload()
    weir.wait_log("reloaded weir", since=mark)
    page.ready()
    hour = page.get("/api/now").json()["hour"]
    assert sum(hour["limits"]["connections"]) == 5 and sum(hour["accepted"]) == 20
    assert page.get("/api/top").json()["addresses"][0]["decisions"] == 45
    view.wait(lambda: view.text("fresh") == "live" and "198.51.100.7" in view.text("top"),
              "the page goes on")


@pytest.mark.parametrize("clients", [int(os.environ.get("WEIR_PAGE_CLIENTS", "6000"))])
def test_many_clients(shown, clients, capsys):
    """Size and time do not grow with them, and who floods is still found."""
    weir, page, view = shown("limit sessions { enabled = false }\n"
                             'limit connections { rate = "10/1h" burst = 10 }')
    batch = 500
    for first in range(0, clients, batch):
        sessions = load.negotiated([weir.socket], batch)
        packets = []
        for n in range(first, first + batch):
            # every twentieth comes from one of ten that flood
            address = (f"198.51.100.{n // 20 % 10}" if n % 20 == 0
                       else f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}")
            packets.append((rawmilter.CONNECT, load.connect_packet(address)))
        load.ask_all(sessions, packets)
        load.close_all(sessions, wait=False)
    sizes, times = {}, {}
    for path in ("/", "/metrics", "/api/now", "/api/top?by=all", "/api/top",
                 "/api/why?client=198.51.100.1"):
        took = []
        for _ in range(10):
            start = time.monotonic()
            reply = page.get(path)
            took.append(time.monotonic() - start)
        assert reply.status == 200
        sizes[path], times[path] = len(reply.text), sorted(took)[5] * 1000
    with capsys.disabled():
        print("".join(f"\n{path:32} {sizes[path]:7} bytes {times[path]:7.1f} ms" for path in sizes))
    assert max(sizes.values()) < 64 * 1024
    assert max(times.values()) < 200, times
    top = page.get("/api/top").json()["addresses"]
    heavy = clients // 200
    found = [e for e in top if e["who"].startswith("198.51.100.")]
    assert len(found) == 10 and all(e["decisions"] >= heavy for e in found)
    assert all(e["decisions"] - e["error"] <= heavy for e in found)
    start = time.monotonic()
    view.open()
    view.wait(lambda: view.all(".who"), "the clients")
    assert time.monotonic() - start < 5
