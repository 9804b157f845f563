# SPDX-License-Identifier: BSD-2-Clause
"""What weir-milter shows over HTTP, and a real Prometheus that reads it.

    page = Page("127.0.0.1:9117"); page.get("/readyz").status
    page.value("weir_decisions_total", action="refuse")
    with Prometheus(page.address) as p: p.query('up{job="weir"}')
"""

import http.client
import json
import re
import socket
import subprocess
import time
import urllib.parse

from . import proc

TOOLS = proc.ROOT / "prometheus/usr/bin"
MONITORING = proc.SOURCE / "etc/monitoring"


class Reply:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.text = body.decode()

    def json(self):
        return json.loads(self.text)

    def __repr__(self):
        return f"<{self.status}\n{self.text}>"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Page:
    """address: as `metrics =` has it."""

    def __init__(self, address):
        self.address = address

    def get(self, path, timeout=5.0, method="GET", body=None, **headers):
        if self.address.startswith("unix:"):
            link = UnixConnection(self.address[5:], timeout)
        else:
            host, _, port = self.address.rpartition(":")
            link = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)
        try:
            link.request(method, path, body=body,
                         headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = link.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            link.close()

    def ready(self, timeout=5.0):
        """Waits until all workers serve."""
        def serves():
            try:
                return re.fullmatch(r"ready: (\d+) of \1 workers.*\n",
                                    self.get("/readyz").text)
            except OSError:
                return False
        proc.wait_for(serves, timeout, f"weir-milter at {self.address}")
        return self

    def samples(self):
        """[(name, {label: value}, number)]"""
        found = []
        for line in self.get("/metrics").text.splitlines():
            if line.startswith("#"):
                continue
            name, labels, value = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line).groups()
            found.append((name, dict(re.findall(r'(\w+)="([^"]*)"', labels or "")),
                          float(value)))
        return found

    def value(self, name, **labels):
        """The sum of all samples of that name with at least these labels."""
        return sum(value for found, has, value in self.samples()
                   if found == name and labels.items() <= has.items())


def promtool(*args, text=None):
    """(exit status, all that it says)"""
    run = subprocess.run([proc.need(TOOLS / "promtool"), *map(str, args)], input=text,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                         timeout=20, check=False)
    return run.returncode, run.stdout


class Prometheus:
    """A private one that scrapes address each half second by etc/monitoring's rules."""

    def __init__(self, address):
        self.directory = proc.make_directory("prometheus")
        self.port = proc.free_port()
        text = (MONITORING / "prometheus.yml").read_text()
        text = text.replace("127.0.0.1:9117", address).replace(
            "scrape_interval: 15s", "scrape_interval: 500ms\n  evaluation_interval: 500ms")
        (self.directory / "prometheus.yml").write_text(text)
        (self.directory / "weir.rules.yml").write_text(
            (MONITORING / "weir.rules.yml").read_text())
        self.process = None

    def __enter__(self):
        self.process = proc.Process(
            [proc.need(TOOLS / "prometheus"), f"--config.file={self.directory}/prometheus.yml",
             f"--storage.tsdb.path={self.directory}/data",
             f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-lifecycle",
             "--log.level=error"])
        return self

    def __exit__(self, *_):
        self.process.stop()

    def api(self, path, **arguments):
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        link.request("GET", f"/api/v1/{path}?" + urllib.parse.urlencode(arguments))
        answer = json.loads(link.getresponse().read())
        link.close()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        """[(labels, number)]"""
        return [(r["metric"], float(r["value"][1]))
                for r in self.api("query", query=expression)["result"]]

    def wait(self, expression, number, timeout=15.0):
        end = time.monotonic() + timeout
        found = None
        while time.monotonic() < end:
            try:
                found = self.query(expression)
                if [value for _, value in found] == [number]:
                    return found[0]
            except (OSError, ValueError):
                pass
            time.sleep(0.1)
        raise AssertionError(f"{expression} is {found} and not {number}")
