# SPDX-License-Identifier: BSD-2-Clause
"""Fixtures of the end-to-end tests; the servers are in harness/.

redis, postfix, sendmail   one server a session; redis is emptied for each test.
                           Clients can log in, and mta.NAMES have names
mta                        both MTAs, one after the other
new_redis, new_postfix, new_sendmail   another one, set up otherwise, for a test
store                      redis, and then None: weir's own memory
weir(conf, ...)            starts weir-milter on the socket the MTAs know
sources                    addresses that no other test has come from
"""

import itertools
import signal

import pytest

from harness import proc
from harness.auth import Auth
from harness.mta import NAMES
from harness.postfix import Postfix
from harness.redis import Redis
from harness.sendmail import Sendmail
from harness.weir import Weir


def pytest_configure(config):
    """SIGTERM ends the run as ^C does: fixtures are torn down."""
    def interrupt(_number, _frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupt)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A skipped test is a failed one, and a failed one shows the logs."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed: {report.longrepr}"
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if name in ("weir", "mta", "postfix", "sendmail"):
                lines = value.log()[-60:]
                report.sections.append((f"{name}: the log's end", "\n".join(lines)))


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report(collector):
    outcome = yield
    report = outcome.get_result()
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as failed: {report.longrepr}"


@pytest.fixture(scope="session")
def milter_socket():
    """Where weir listens and both MTAs look for it, all session long."""
    return f"unix:{proc.make_run_directory('e2e')}/milter.sock"


def _make(factory):
    """A fixture's body: a function that starts servers until the test ends."""
    started = []

    def new(*args, **options):
        server = factory(*args, **options)
        started.append(server)
        return server.start()
    yield new
    for server in reversed(started):
        server.stop()


@pytest.fixture(scope="session")
def _redis():
    server = Redis()
    yield server
    server.stop()


@pytest.fixture
def redis(_redis):
    """The session's Redis, up and empty whatever the last test did to it."""
    if _redis.process is None or not _redis.process.alive():
        _redis.start()
    _redis.thaw()
    _redis.cmd("FLUSHALL")
    _redis.cmd("SCRIPT", "FLUSH")
    _redis.cmd("CONFIG", "RESETSTAT")
    return _redis


@pytest.fixture(scope="session")
def auth():
    with Auth() as both:
        yield both


@pytest.fixture(scope="session")
def postfix(milter_socket, auth):
    server = Postfix([milter_socket], names=NAMES, auth=auth)
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def sendmail(milter_socket, auth):
    server = Sendmail([milter_socket], names=NAMES, auth=auth)
    yield server.start()
    server.stop()


@pytest.fixture(params=["postfix", "sendmail"])
def mta(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["redis", "zone"])
def store(request):
    """The Redis of weir(redis=), or None: its own memory."""
    return request.getfixturevalue("redis") if request.param == "redis" else None


@pytest.fixture
def new_redis():
    yield from _make(Redis)


@pytest.fixture
def new_postfix():
    yield from _make(Postfix)


@pytest.fixture
def new_sendmail():
    yield from _make(Sendmail)


class _WeirFactory:
    """weir(conf, redis=..., ...) starts one; weir.log() is that of them all."""

    def __init__(self, socket, defaults):
        self._socket = socket
        self._defaults = defaults
        self._started = []

    def __call__(self, conf="", socket=None, start=True, **options):
        instance = Weir(conf, socket=socket or self._socket, **{**self._defaults, **options})
        self._started.append(instance)
        return instance.start() if start else instance

    def log(self):
        return [line for instance in self._started for line in instance.log()]

    def stop(self):
        """Stops all; when one fails to stop, still the others."""
        failed = None
        for instance in reversed(self._started):
            try:
                instance.stop()
            except AssertionError as error:
                failed = error
        if failed:
            raise failed


@pytest.fixture
def weir(milter_socket, request):
    """A module may have WEIR, a dictionary of options for all of its own."""
    factory = _WeirFactory(milter_socket, getattr(request.module, "WEIR", {}))
    yield factory
    factory.stop()


_numbers = itertools.count(1)


@pytest.fixture
def sources():
    """next(sources): an address below 127.0.0.0/8 in a /24 of its own."""
    return (f"127.{n // 250 % 250 + 1}.{n % 250}.9" for n in _numbers)
