# SPDX-License-Identifier: BSD-2-Clause
"""What the processes use, once a second, as a table (CSV) and for judge.py."""

import csv
import re
import threading
from pathlib import Path

from harness import proc

COLUMNS = ["t", "fault", "operator", "load1", "redis_bytes", "smtp_n", "smtp_p50_ms",
           "smtp_p99_ms", "milter_n", "milter_p50_ms", "milter_p99_ms", "noop_p50_ms",
           "accepted", "refused"]
OF_A_NODE = ["workers", "rss_kb", "private_kb", "fds", "threads", "master_private_kb",
             "master_fds", "each"]      # each: PID:private:fds:threads of all processes


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def usage(pid):
    """{"rss", "private" (kB), "fds", "threads"}, or None if it is gone. private: what no
    other process shares with it; the zone, which all share, is of a fixed size."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        fds = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    def field(name):
        found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
        return int(found[1]) if found else None
    values = {"rss": field("VmRSS"), "private": field("RssAnon"), "fds": fds,
              "threads": field("Threads")}
    return None if None in values.values() else values      # a zombie has no memory


class Sampler(threading.Thread):
    """weirs: {"shaken": Weir, "calm": Weir}."""

    def __init__(self, books, stop, path, weirs, redis, actors):
        super().__init__(name="sampler", daemon=True)
        self.books, self.stop = books, stop
        self.weirs, self.redis, self.actors = weirs, redis, actors
        self.masters = {name: weir.master for name, weir in weirs.items()}
        self.processes = {}             # (node, pid): [(t, usage)]
        self.sums = {name: [] for name in weirs}        # [(t, usage of all)]
        self.redis_bytes = []
        self._seen = 0                  # of the books' replies
        self._counts = {}
        self._file = open(path, "w", newline="")
        self._table = csv.writer(self._file)
        self._table.writerow(COLUMNS + [f"{n}_{c}" for n in weirs for c in OF_A_NODE])

    def run(self):
        while not self.stop.wait(1.0):
            try:
                self._row()
            except Exception as error:
                self.books.find(f"sampler: {error!r}")
        self._file.close()

    def _memory_of_redis(self):
        """None while it does not answer."""
        try:
            text = self._other_link()
        except Exception:
            return None
        found = re.search(r"used_memory:(\d+)", text or "")
        return int(found[1]) if found else None

    def _other_link(self):
        """INFO on a connection of its own: the actors use the harness' one."""
        import socket
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(0.3)
            link.connect(self.redis.path)
            link.sendall(b"INFO memory\r\n")
            text = b""
            while b"used_memory:" not in text or not text.endswith(b"\r\n"):
                more = link.recv(65536)
                if not more or more.startswith(b"-"):
                    return ""
                text += more
            return text.decode()

    def _latencies(self):
        new = self.books.replies[self._seen:]
        self._seen += len(new)
        row = []
        for what in ("smtp", "milter"):
            values = [s * 1e3 for _, kind, s in new if kind == what]
            row += [len(values), percentile(values, .5), percentile(values, .99)]
        row.append(percentile([s * 1e3 for _, kind, s in new if kind == "noop"], .5))
        return row

    def _node(self, now, name, weir):
        pids = [weir.master, *weir.workers()]
        each = [(pid, found) for pid in pids for found in [usage(pid)] if found]
        for pid, found in each:
            self.processes.setdefault((name, pid), []).append((now, found))
        total = {k: sum(f[k] for _, f in each) for k in ("rss", "private", "fds", "threads")}
        self.sums[name].append((now, total))
        master = dict(each).get(weir.master, {})
        return [len(each) - 1, *total.values(), master.get("private"), master.get("fds"),
                ";".join(f"{pid}:{f['private']}:{f['fds']}:{f['threads']}" for pid, f in each)]

    def _more(self, total, name):
        now, before = total, self._counts.get(name, 0)
        self._counts[name] = now
        return now - before

    def _row(self):
        now, counts = self.books.now(), dict(self.books.counts)
        used = self._memory_of_redis()
        if used:
            self.redis_bytes.append((now, used))
        row = [f"{now:.1f}", *(a.now for a in self.actors),
               Path("/proc/loadavg").read_text().split()[0], used, *self._latencies(),
               self._more(len(self.books.accepted), "accepted"),
               self._more(sum(n for k, n in counts.items() if "421" in k), "refused")]
        for name, weir in self.weirs.items():
            row += self._node(now, name, weir)
        self._table.writerow([f"{v:.3f}" if isinstance(v, float) else v for v in row])
        self._file.flush()
