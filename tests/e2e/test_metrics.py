# SPDX-License-Identifier: BSD-2-Clause
"""Metrics: the figures are right, survive workers and reloads, are read by a real Prometheus; and
nothing that comes in over HTTP is felt by mail."""

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

import rawmilter
from harness import proc
from harness.ctl import Ctl
from harness.watch import MONITORING, Page, Prometheus, promtool
from harness.weir import PATIENT, find_program
from rawmilter import RawMilter

LIMITS = """
limit connections { rate = "5/1h" burst = 5 }
limit recipients { count = recipients per = address rate = "2/1h" burst = 2 }
limit sessions { enabled = false }
limit watched { count = connections per = address rate = "1/1h" burst = 1 action = log }
"""


@pytest.fixture
def watched(weir):
    """watched(conf, **options): (a weir-milter with metrics, their Page)"""
    def new(conf=LIMITS, address=None, **options):
        page = Page(address or f"127.0.0.1:{proc.free_port()}")
        return weir(f'metrics = "{page.address}"\n{conf}', **PATIENT, **options), page.ready()
    return new


def connects(spec, address, times):
    """How many of so many connections of a client were let in."""
    admitted = 0
    for _ in range(times):
        with RawMilter(spec) as session:
            admitted += session.open(address).code == rawmilter.CONTINUE
    return admitted


def observer(weir):
    """The pid of the process that serves."""
    line, = [pid for pid in proc.children(weir.master) if not holds(pid, weir.socket[5:])]
    return line


def holds(pid, path):
    """Whether a process has a descriptor of that listening unix socket."""
    inodes = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()
              if line.endswith(" " + path)}
    return bool(inodes & sockets_of(pid))


def sockets_of(pid):
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(fd))
        except OSError:
            continue
        if match:
            found.add(match[1])
    return found


# The figures.

def test_figures(watched, store):
    """Each decision is counted as what it was."""
    weir, page = watched(redis=store)
    assert connects(weir.socket, "192.0.2.1", 8) == 5
    with RawMilter(weir.socket) as session:
        session.open("192.0.2.2")
        session.helo()
        session.mail()
        for n in range(3):
            session.rcpt(f"u{n}@example.test")
    count = "weir_decisions_total"
    proc.wait_for(lambda: page.value(count) == 12, what="12 decisions")
    assert page.value(count, action="accept", reason="ok", limit="", stage="connect") == 6
    assert page.value(count, action="refuse", reason="rate", limit="connections",
                      stage="connect") == 3
    assert page.value(count, action="accept", stage="rcpt") == 2
    assert page.value(count, action="refuse", limit="recipients", stage="rcpt") == 1
    assert page.value("weir_shadow_hits_total", limit="watched", stage="connect") == 7
    assert page.value("weir_workers_ready") == page.value("weir_workers") == 2
    assert page.value("weir_answers_total", source="store") == 12
    assert page.value("weir_zone_size_bytes") == 32 << 20
    asked = page.value("weir_redis_round_trip_seconds_count")
    assert asked >= 12 if store else asked == 0
    if store:
        assert page.value("weir_redis_round_trip_seconds_bucket", le="+Inf") >= asked
        assert 0 < page.value("weir_redis_round_trip_seconds_sum") < asked
        assert page.value("weir_redis_breaker_open") == 0


def test_sessions_and_generation(watched, redis):
    weir, page = watched("limit connections { enabled = false }", redis=redis)
    with RawMilter(weir.socket) as session:
        session.open("192.0.2.1")
        assert page.value("weir_sessions_open") == 1
    proc.wait_for(lambda: page.value("weir_sessions_open") == 0)
    changed = Ctl(redis.url)("limit", "set", "messages", "rate=7/1h")
    assert changed.status == 0, changed
    proc.wait_for(lambda: page.value("weir_generation_oldest") == 1, 15, "the generation")
    assert page.value("weir_generation_newest") == 1
    # the limit that Redis has made is there before it first fires
    proc.wait_for(lambda: [1 for name, labels, _ in page.samples()
                           if labels.get("limit") == "messages"], 15, "the new limit")


def test_redis_gone(watched, new_redis):
    redis = new_redis()
    weir, page = watched(redis=redis)
    redis.stop()
    connects(weir.socket, "192.0.2.1", 4)
    proc.wait_for(lambda: page.value("weir_redis_breaker_open") == 1)
    assert page.value("weir_redis_breaker_openings_total") == 1
    assert "without redis" in page.get("/readyz").text
    assert page.value("weir_answers_total", source="zone") >= 3
    redis.start()
    proc.wait_for(lambda: page.value("weir_redis_breaker_open") == 0)


def test_greylist_funnel(watched, redis):
    weir, page = watched('limit connections { enabled = false }\n'
                         'greylist { enabled = true delay = "1s" window = "1h" }', redis=redis)

    def one():
        with RawMilter(weir.socket) as session:
            session.open("192.0.2.1")
            session.helo()
            session.mail()
            return session.rcpt().code

    assert one() == rawmilter.REPLY and one() == rawmilter.REPLY
    proc.wait_for(lambda: one() == rawmilter.CONTINUE)
    assert one() == rawmilter.CONTINUE
    states = {state: page.value("weir_greylist_total", state=state)
              for state in ("new", "early", "passed", "known")}
    assert states["new"] == 1 and states["early"] >= 1
    assert states["passed"] == 1 and states["known"] == 1


# They survive.

def test_worker_dies_and_reload(watched, redis):
    weir, page = watched(redis=redis)
    connects(weir.socket, "192.0.2.1", 8)
    before = page.value("weir_decisions_total")
    started = page.value("weir_start_time_seconds")
    worker = next(pid for pid in weir.workers() if holds(pid, weir.socket[5:]))
    os.kill(worker, signal.SIGKILL)
    proc.wait_for(lambda: page.value("weir_worker_failures_total") == 1)
    page.ready()
    mark = weir.mark()
    weir.reload()
    weir.wait_log("reloaded weir", since=mark)
    page.ready()
    assert page.value("weir_decisions_total") == before == 8
    assert page.value("weir_worker_failures_total") == 1
    assert page.value("weir_start_time_seconds") == started
    assert page.value("weir_config_load_time_seconds") > started


def test_no_gap_in_reloads(watched):
    """While the configuration is loaded again and again every request is answered."""
    weir, page = watched()
    failed, done, stop = [], [], threading.Event()

    def ask():
        while not stop.is_set():
            try:
                done.append(page.get("/healthz").status)
            except OSError as error:
                failed.append(error)
    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        mark = weir.mark()
        weir.reload()
        weir.wait_log("reloaded weir", since=mark)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed and set(done) == {200} and len(done) > 50


def test_reload_moves_it(watched):
    """Another address, and then none: the old one is free at once."""
    weir, page = watched()
    path = proc.make_run_directory("metrics") / "metrics.sock"
    moved = Page(f"unix:{path}")
    for conf, there, gone in ((f'metrics = "{moved.address}"', moved, page), ("", None, moved)):
        mark = weir.mark()
        weir.write_conf(conf)
        weir.reload()
        weir.wait_log("reloaded weir", since=mark)
        if there:
            there.ready()
            assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(OSError):
            proc.wait_for(lambda: gone.get("/healthz").status != 200)
    proc.wait_for(lambda: not path.exists())
    assert len(weir.workers()) == 2


def test_its_process_dies(watched):
    """Workers do not notice, and another takes its place."""
    weir, page = watched()
    workers = set(weir.workers())
    pid = observer(weir)
    os.kill(pid, signal.SIGKILL)
    weir.wait_log("metrics: the process was killed by signal 9")
    assert connects(weir.socket, "192.0.2.1", 1) == 1
    page.get("/healthz", timeout=8)
    assert workers - {pid} <= set(weir.workers())
    assert page.value("weir_decisions_total") == 1


def test_stop_frees_both_sockets(watched):
    weir, page = watched()
    assert weir.stop() < 3
    port = int(page.address.rpartition(":")[2])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        proc.wait_for(lambda: not proc.listening(port))
        probe.bind(("127.0.0.1", port))


def test_descriptors_are_apart(watched):
    """Workers hold nothing of the metrics, and their process nothing of the milter socket."""
    weir, page = watched()
    port = int(page.address.rpartition(":")[2])
    listener = next(line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()
                    if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A")
    pid = observer(weir)
    assert listener in sockets_of(weir.master) and listener in sockets_of(pid)
    # one that was started after it
    before = set(weir.workers())
    os.kill(min(before - {pid}), signal.SIGKILL)
    weir.wait_workers(3, without={min(before - {pid})})
    page.ready()
    for worker in set(weir.workers()) - {pid}:
        assert listener not in sockets_of(worker)


# Readiness.

def test_ready_and_healthy(watched):
    weir, page = watched()
    assert page.get("/readyz").text == "ready: 2 of 2 workers\n"
    weir.signal(signal.SIGUSR1)
    proc.wait_for(lambda: page.get("/readyz").status == 503)
    assert page.value("weir_maintenance") == 1
    assert page.get("/healthz").status == 200
    weir.signal(signal.SIGUSR2)
    proc.wait_for(lambda: page.get("/readyz").status == 200)


# Who may ask, and how much.

def test_addresses(watched):
    for address in (f"[::1]:{proc.free_port()}", f"localhost:{proc.free_port()}"):
        weir, page = watched(address=address)
        assert page.value("weir_workers") == 2
        weir.stop()


def check(conf):
    path = proc.make_directory("check") / "weir.conf"
    path.write_text(conf + "\n")
    run = subprocess.run([find_program("weir-milter"), "-n", "-c", path], text=True,
                         capture_output=True, timeout=10, check=False)
    return run.returncode, run.stdout + run.stderr


def test_not_for_the_world():
    for address in ("0.0.0.0:9117", "192.0.2.1:9117", "[::]:9117"):
        status, text = check(f'metrics = "{address}"')
        assert status == 1 and "metrics-anywhere" in text
        assert check(f'metrics = "{address}"\nmetrics-anywhere = true')[0] == 0
    for wrong in ("9117", "127.0.0.1", "127.0.0.1:0", "unix:metrics", "/run/metrics"):
        status, text = check(f'metrics = "{wrong}"')
        assert status == 1 and ":1: metrics: " in text, (wrong, text)
    assert check('metrics = "off"')[0] == 0


def test_foreign_names(watched):
    """A page that has its own name point here gets nothing (DNS rebinding)."""
    _, page = watched()
    for path in ("/metrics", "/", "/readyz"):
        assert page.get(path, Host="evil.example").status == 403
        assert page.get(path, Host="localhost:8080").status in (200, 404)


def test_nothing_but_reading(watched):
    _, page = watched()
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"):
        try:
            status = page.get("/metrics", method=method, body=b"x").status
        except OSError:
            continue
        assert status >= 400
    assert page.get("/metrics", method="HEAD").text == ""
    assert page.get("/metrics/../../etc/passwd").status == 404
    assert page.get("/" + "a" * 600).status in (400, 404)
    assert page.get("/metrics", X="y" * 20000).status >= 400
    for raw in (b"\0" * 5000, b"GET\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n", b"\r\n" * 100,
                b"GET http://[ HTTP/1.1\r\n\r\n", b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        host, _, port = page.address.partition(":")
        with socket.create_connection((host, int(port)), 2) as link:
            link.sendall(raw)
            link.shutdown(socket.SHUT_WR)
            link.settimeout(8)
            try:
                while link.recv(4096):
                    pass
            except ConnectionError:
                pass
    assert page.get("/healthz").status == 200


def test_crowd(watched):
    """A hundred connections that say nothing: mail goes on, and so does the next scrape, soon."""
    weir, page = watched("limit connections { enabled = false }")
    host, _, port = page.address.partition(":")
    pid = observer(weir)
    links = [socket.create_connection((host, int(port)), 2) for _ in range(100)]
    try:
        slowest = 0.0
        for _ in range(50):
            start = time.monotonic()
            assert connects(weir.socket, "192.0.2.1", 1) == 1
            slowest = max(slowest, time.monotonic() - start)
        assert slowest < 1
        # it does not spin either
        before = cpu(pid)
        time.sleep(1)
        assert cpu(pid) - before < 0.5
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) <= 80
        assert page.get("/healthz", timeout=20).status == 200
        assert observer(weir) == pid
    finally:
        for link in links:
            link.close()


def cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Those who read it.

def names_used(expression):
    """The series that a query is about."""
    expression = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\bweir[a-z0-9_:]*", expression))


def all_queries():
    """{where: expression} of the rules and of the dashboard."""
    found = {}
    rules = (MONITORING / "weir.rules.yml").read_text()
    for number, text in enumerate(re.split(r"\n\s*- (?=alert:|record:)", rules)[1:]):
        expr = re.search(r"expr: (?:>\n)?(.*?)(?=\n\s+(?:for|labels|annotations|#)|\Z)", text,
                         re.DOTALL)[1]
        found[f"rule {number}: {text.split()[1]}"] = expr
    board = json.loads((MONITORING / "grafana.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    found["annotation"] = board["annotations"]["list"][0]["expr"]
    return found


def test_prometheus(watched, redis):
    """It scrapes, the rules work, and each name that they and the dashboard use exists."""
    status, text = promtool("check", "rules", MONITORING / "weir.rules.yml")
    assert status == 0, text
    weir, page = watched(LIMITS + """
        load { sessions = "1000 900" run-queue = "1000 900" psi-cpu = "99% 98%"
               redis-latency = "100ms 50ms" neighbours = majority }""", redis=redis)
    connects(weir.socket, "192.0.2.1", 8)
    assert promtool("check", "metrics", text=page.get("/metrics").text) == (0, "")
    with Prometheus(page.address) as prometheus:
        prometheus.wait('up{job="weir"}', 1)
        prometheus.wait('sum(weir_decisions_total{action="refuse",limit="connections"})', 3)
        prometheus.wait("sum(weir_workers_ready)", 2)
        proc.wait_for(lambda: all(rule["health"] != "unknown"
                                  for group in prometheus.api("rules")["groups"]
                                  for rule in group["rules"]), 20)
        for group in prometheus.api("rules")["groups"]:
            for rule in group["rules"]:
                assert rule["health"] == "ok", rule
        there = set(prometheus.api("label/__name__/values"))
        recorded = set(re.findall(r"record: (\S+)", (MONITORING / "weir.rules.yml").read_text()))
        queries = all_queries()
        assert len(queries) > 30
        for where, expression in queries.items():
            used = names_used(expression)
            assert used or "up{" in expression, where
            assert used <= there | recorded, (where, used - there - recorded)
            expression = (expression.replace("$__rate_interval", "1m")
                          .replace("$instance", ".*"))
            prometheus.query(expression)
        # what is scraped is OpenMetrics, and the targets agree
        target, = prometheus.api("targets")["activeTargets"]
        assert target["health"] == "up" and target["lastError"] == ""
        assert prometheus.query('scrape_samples_scraped{job="weir"}')[0][1] < 300


def test_bounded_labels(watched, redis):
    """Many clients, senders and names make no series more."""
    weir, page = watched(redis=redis)
    connects(weir.socket, "192.0.2.1", 8)
    proc.wait_for(lambda: "weir_generation_oldest" in [s[0] for s in page.samples()], 15,
                  "the limits in Redis")
    before = {(name, *sorted(labels.items())) for name, labels, _ in page.samples()}
    for n in range(150):
        with RawMilter(weir.socket) as session:
            session.negotiate()
            session.connect(f"10.0.{n % 250}.{n // 250}", name=f"h{n}.\"}}evil\n.example")
            session.helo(f"helo{n}")
            session.mail(f"s{n}@client.test")
            session.rcpt(f"u{n}@example.test")
    more = {(name, *sorted(labels.items())) for name, labels, _ in page.samples()} - before
    # a busy machine may have had one kind of decision that was not there before
    assert len(more) <= 3 and "evil" not in str(more) and "client.test" not in str(more), more


def test_weirctl(watched):
    weir, page = watched()
    connects(weir.socket, "192.0.2.1", 8)
    run = subprocess.run([find_program("weirctl"), "-c", weir.conf, "metrics"], text=True,
                         capture_output=True, timeout=5, check=True)
    mine, theirs = (re.findall(r"^weir_\w+(?:\{.*\})?", text, re.MULTILINE)
                    for text in (run.stdout, page.get("/metrics").text))
    assert mine == theirs and len(mine) > 30
    run = subprocess.run([find_program("weirctl"), "-j", "-c", weir.conf, "metrics"], text=True,
                         capture_output=True, timeout=5, check=True)
    found = [s for s in json.loads(run.stdout) if s["labels"].get("limit") == "connections"]
    assert found == [{"labels": {"action": "refuse", "reason": "rate", "limit": "connections",
                                 "stage": "connect"},
                      "name": "weir_decisions_total", "value": 3.0}]
    weir.stop()
    run = subprocess.run([find_program("weirctl"), "-c", weir.conf, "metrics"], text=True,
                         capture_output=True, timeout=5, check=False)
    assert run.returncode == 1 and "does not run" in run.stderr
    weir.write_conf(LIMITS)
    run = subprocess.run([find_program("weirctl"), "-c", weir.conf, "metrics"], text=True,
                         capture_output=True, timeout=5, check=False)
    assert run.returncode == 1 and "metrics are off" in run.stderr


# What makes each alert of etc/monitoring fire: series of the metrics, minute by minute.
FIRES = {
    "WeirDown": {'up{job="weir",instance="a"}': "0x30"},
    "WeirWorkersMissing": {'weir_workers{instance="a"}': "2x30", 'weir_workers_ready{instance="a"}':
                           "1x30"},
    "WeirWorkersDie": {'weir_worker_failures_total{instance="a"}': "0x9 1x20"},
    "WeirRedisGone": {'weir_redis_breaker_open{instance="a"}': "1x30"},
    "WeirRedisSlow": {'weir_redis_round_trip_seconds_bucket{instance="a",le="0.016384"}': "0x30",
                      'weir_redis_round_trip_seconds_bucket{instance="a",le="0.032768"}': "0+60x30",
                      'weir_redis_round_trip_seconds_bucket{instance="a",le="+Inf"}': "0+60x30"},
    "WeirLimitsOld": {'weir_generation_newest{instance="a"}': "8x30",
                      'weir_generation_oldest{instance="a"}': "7x30"},
    "WeirHostBusy": {'weir_load_level{instance="a"}': "1x30"},
    "WeirRefusesMuch": {
        'weir_decisions_total{instance="a",action="accept",reason="ok",limit="",stage="connect"}':
            "0+60x30",
        'weir_decisions_total{instance="a",action="refuse",reason="rate",limit="x",stage="connect"}':
            "0+120x30"},
    "WeirZoneTooSmall": {'weir_zone_evictions_total{instance="a"}': "0+600x60"},
    "WeirMaintenanceForgotten": {'weir_maintenance{instance="a"}': "1x30"},
    "WeirObserves": {'weir_mode_observe{instance="a"}': "1x30"},
}


@pytest.mark.parametrize("quiet", [False, True], ids=["fires", "quiet"])
def test_alerts(quiet):
    """Each alert fires when it should, by the labels that the metrics really have; and where all
    is well none does."""
    rules = (MONITORING / "weir.rules.yml").read_text()
    assert set(re.findall(r"alert: (\w+)", rules)) == set(FIRES)
    directory = proc.make_directory("rules")
    # days of minutes would take promtool as many seconds
    (directory / "rules.yml").write_text(re.sub(r"for: (14d|4h)", "for: 20m", rules))
    tests = []
    for alert, series in FIRES.items():
        if quiet:
            series = {name: ("1x30" if name.startswith("up{") else
                             "2x30" if name.startswith("weir_workers") else
                             "0+600x30" if 'le="' in name or 'action="accept"' in name else "0x30")
                      for name in series}
        length = max(int(value.rpartition("x")[2]) for value in series.values())
        labels = re.search(rf"alert: {alert}\n.*?labels: {{severity: (\w+)}}", rules, re.DOTALL)[1]
        # as text, so that the fine print of annotations is not repeated here
        tests.append({"interval": "1m", "name": alert,
                      "input_series": [{"series": s, "values": v.replace("x", "+0x")
                                        if "+" not in v else v} for s, v in series.items()],
                      "promql_expr_test": [{
                          "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing",'
                                  f'severity="{labels}"}})',
                          "eval_time": f"{length}m",
                          "exp_samples": [] if quiet else [{"labels": "{}", "value": 1}]}]})
    (directory / "test.yml").write_text(json.dumps(
        {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}))
    status, text = promtool("test", "rules", directory / "test.yml")
    assert status == 0, text
