# SPDX-License-Identifier: BSD-2-Clause
"""What a soak must not have done, from what was measured.

Growth is judged over the last two thirds of the time, when all has been touched once that
ever will be. It has to show in two ways, so that neither a single peak nor a slow wave is
taken for a leak: in the Theil-Sen slope (the median of the slopes between all pairs of
points), and between the medians of the first and the last quarter.
"""

import statistics

POINTS = 240            # medians of so many slices: enough, and pairs stay few
SHORT = 600.0           # seconds; a run below that still warms up


def slices(series, count):
    """[(t, v)] -> at most count of them, each the median of its slice of time."""
    if len(series) <= count:
        return list(series)
    begin, end = series[0][0], series[-1][0]
    width = (end - begin) / count or 1
    parts = {}
    for t, value in series:
        parts.setdefault(min(int((t - begin) / width), count - 1), []).append((t, value))
    return [(statistics.median(t for t, _ in part), statistics.median(v for _, v in part))
            for _, part in sorted(parts.items())]


def theil_sen(series):
    """The slope a second."""
    slopes = [(v2 - v1) / (t2 - t1) for i, (t1, v1) in enumerate(series)
              for t2, v2 in series[i + 1:] if t2 > t1]
    return statistics.median(slopes) if slopes else 0.0


class Growth:
    """How much [(t, v)] grew from `since` on."""

    def __init__(self, series, since):
        series = slices([p for p in series if p[0] >= since], POINTS)
        self.enough = len(series) >= 8
        self.by = self.quarters = self.level = 0.0
        if self.enough:
            quarter = len(series) // 4
            self.level = statistics.median(v for _, v in series)
            self.by = theil_sen(series) * (series[-1][0] - series[0][0])
            self.quarters = statistics.median(v for _, v in series[-quarter:]) - \
                statistics.median(v for _, v in series[:quarter])

    def above(self, share, slack):
        """Whether both say it grew by more than share of its level and slack."""
        bar = share * self.level + slack
        # the middles of the quarters are three quarters of the time apart
        return self.enough and self.by > bar and self.quarters > 0.7 * bar

    def __str__(self):
        return f"{self.level:.4g}, grew by {self.by:.3g} (quarters: {self.quarters:.3g})"


def memory(sampler, seconds):
    """(findings, report): private memory, descriptors and threads of all processes that
    were there for long, and of each node."""
    findings, report = [], []
    # kB; in a run of minutes each thread of the pool is still to have its first work
    slack = 256 if seconds >= SHORT else 4096
    # of the sums, where workers come and go
    for (name, pid), samples in sampler.processes.items():
        if samples[-1][0] - samples[0][0] < 0.6 * seconds:
            continue
        role = "master" if pid == sampler.masters[name] else "worker"
        for what, share, extra in (("private", .05, slack), ("fds", .1, 6), ("threads", .1, 3)):
            growth = Growth([(t, u[what]) for t, u in samples], seconds / 3)
            report.append(f"{name} {role} {pid} {what}: {growth}")
            if growth.above(share, extra):
                findings.append(f"growth: {report[-1]}")
    for name, samples in sampler.sums.items():
        for what, share, extra in (("private", .2, 4 * slack), ("fds", .2, 16),
                                   ("threads", .2, 8)):
            growth = Growth([(t, u[what]) for t, u in samples], seconds / 3)
            report.append(f"{name} in all {what}: {growth}")
            if growth.above(share, extra):
                findings.append(f"growth: {report[-1]}")
    return findings, report


def latency(replies, seconds, bound):
    """No reply later than bound; and neither the median nor the slow ones get slower, but
    for what the whole machine does: a NOOP, which no milter is asked about, shows that."""
    findings, report = [], []
    slow = [(t, what, s) for t, what, s in replies if s > bound]
    if slow:
        findings.append(f"stalls: {len(slow)} replies took longer than {bound} s, "
                        f"such as {slow[0]}")
    count = int(max(15, min(60, seconds / 3)))
    width = seconds / count

    def tendency(what, share):
        parts = [[] for _ in range(count + 1)]
        for t, kind, s in replies:
            if kind == what:
                parts[min(int(t / width), count)].append(s * 1e3)
        series = [(i * width, sorted(part)[int(share * (len(part) - 1))])
                  for i, part in enumerate(parts) if part]
        return Growth(series, seconds / 3)

    for share, name in ((.5, "p50"), (.95, "p95")):
        noop = tendency("noop", share)
        machine = max(1.0, 1 + noop.by / noop.level) if noop.enough and noop.level else 1.0
        for what in ("smtp", "milter"):
            growth = tendency(what, share)
            values = sorted(s * 1e3 for _, kind, s in replies if kind == what)
            report.append(f"{what} {name} (ms): {growth}; longest "
                          f"{values[-1] if values else 0:.0f}; noop {noop}")
            if growth.above(0.5 * machine, 5 if name == "p50" else 60):
                findings.append(f"growth: {report[-1]}")
    return findings, report


QUIET_AFTER = 3.0       # seconds after a fault, in which Redis has to be in use again
LIKE_A_TIMEOUT = 0.045  # weir's own for Redis is 50 ms
STRETCH = 40            # seconds without a fault that are looked at together
MOST = 0.6              # of them may have such a reply, on a machine that is busy otherwise


def recovery(replies, events, seconds):
    """When no fault is in force, weir does not wait for Redis in vain, second after second. A
    busy machine has such a reply now and then, and others of all lengths."""
    faulty = set()
    for begin, end, _ in events:
        faulty.update(range(int(begin), int(end + QUIET_AFTER) + 1))
    bad = {int(t) for t, what, s in replies if what == "milter" and s > LIKE_A_TIMEOUT}
    quiet = [t for t in range(int(seconds)) if t not in faulty]
    worst, when = 0.0, 0
    for i in range(0, len(quiet) - STRETCH + 1, STRETCH // 2):
        share = sum(t in bad for t in quiet[i:i + STRETCH]) / STRETCH
        if share > worst:
            worst, when = share, quiet[i]
    line = (f"seconds with a reply of {LIKE_A_TIMEOUT * 1e3:.0f} ms or more while nothing is broken: "
            f"{sum(t in bad for t in quiet)} of {len(quiet)}, at worst {worst:.0%} of {STRETCH} "
            f"(from {when} s on)")
    return ([f"Redis is waited for in vain: {line}"] if worst > MOST else []), [line]


def delivery(accepted, sent):
    """Each recipient whose message got 250 was delivered, and once."""
    count = {}
    for recipient in sent:
        count[recipient] = count.get(recipient, 0) + 1
    lost = [r for r in accepted if r not in count]
    twice = [r for r in accepted if count.get(r, 0) > 1]
    findings = []
    if lost:
        findings.append(f"{len(lost)} of {len(accepted)} accepted messages were lost: {lost[:3]}")
    if twice:
        findings.append(f"{len(twice)} messages came twice: {twice[:3]}")
    return findings, [f"{len(accepted)} recipients accepted, {len(lost)} lost"]


# What no log of weir-milter may have in it; killed by 9: only as often as we did it.
CRASH = (r"Sanitizer|runtime error:|was killed by signal (?!9\b)|ended with status [^0]|"
         r"assertion|stack smashing|corrupted|no shared memory")


def crashes(logs, killed):
    """logs: {node: Weir}; killed: {node: how often its workers were}."""
    findings = []
    for name, weir in logs.items():
        bad = weir.log(CRASH)
        if bad:
            findings.append(f"{name}: {len(bad)} lines such as: {bad[0]}")
        deaths = len(weir.log("was killed by signal 9"))
        if deaths > killed.get(name, 0):
            findings.append(f"{name}: {deaths} workers died by signal 9, we killed "
                            f"{killed.get(name, 0)}")
    return findings, []


# Kinds of mail of which there has to have been some, or the run shows nothing.
NEEDED = ("polite", "stranger", "flood", "login", "abort", "replies 250", "replies 421")


def variety(counts, mtas):
    missing = [f"{mta} {what}" for mta in mtas for what in NEEDED if not counts.get(f"{mta} {what}")]
    missing += [what for what in ("milter whole", "milter part", "milter odd")
                if not counts.get(what)]
    return ([f"never happened: {', '.join(missing)}"] if missing else []), []
