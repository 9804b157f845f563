# SPDX-License-Identifier: BSD-2-Clause
"""Tables of the results, in markdown. Figures are medians over the rounds; a ratio is made of two
figures of one round, and stands as the median of the rounds with the least and the greatest."""

import re
import statistics
import subprocess
import tempfile
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]
NAMES = {"null": "null milter", "weir": "weir, Redis", "zone": "weir, zone",
         "flood": "weir, Redis", "flood-zone": "weir, zone", "million": "weir, Redis",
         "million-zone": "weir, zone", "null-421": "null milter that says 421",
         "null-inet": "null milter", "weir-inet": "weir, Redis",
         "weir-tcp": "weir, Redis over TCP", "weir-0.5ms": "weir, Redis 0.5 ms away",
         "weir-2ms": "weir, Redis 2 ms away", "rspamd": "rspamd"}


def label(name):
    """null-4 -> null milter, 4 workers; weir-event -> weir, Redis, event."""
    words = name.split("-")
    digits = [w for w in words if w.isdigit() and w != "421"]
    base = "-".join(w for w in words if w != "event" and w not in digits)
    text = NAMES.get(base, base)
    if base in NAMES and "weir" in text:
        text += ", event" if "event" in words else ", libmilter"
    return text


def median(values):
    return statistics.median(values) if values else float("nan")


class Cells:
    """The cells of one case: by system and column, each a dict of rounds."""

    def __init__(self, result, case):
        self.systems, self.columns, self.cells = [], [], {}
        for c in result["cells"]:
            if c["case"] != case:
                continue
            column, system = tuple(c["what"].values()), c["system"]
            if "workers" in c["what"]:          # null-4 -> null: the column says it
                system = re.sub(r"-\d+$", "", system)
            if system not in self.systems:
                self.systems.append(system)
            if column not in self.columns:
                self.columns.append(column)
            self.cells.setdefault((system, column), {})[c["round"]] = c

    def get(self, system, column, figure):
        """The median of a figure; None where it was not measured."""
        rounds = self.cells.get((system, column))
        return median([figure(c) for c in rounds.values()]) if rounds else None

    def ratio(self, system, base, column, figure, base_column=None):
        """(median, least, greatest) of the rounds that have both."""
        mine = self.cells.get((system, column), {})
        other = self.cells.get((base, base_column or column), {})
        found = [figure(mine[n]) / figure(other[n]) for n in mine
                 if n in other and figure(other[n])]
        return (median(found), min(found), max(found)) if found else None


def rate(c):
    return c["rate"]


def cpu(c):
    """Of milter and Redis."""
    return c["cpu_us"] + c.get("redis_us", 0)


def say(x, digits=0):
    return "" if x is None else f"{x:,.{digits}f}"


def say_ratio(r, digits=2):
    return "" if r is None else f"{r[0]:.{digits}f} ({r[1]:.{digits}f} to {r[2]:.{digits}f})"


def pivot(cells, heads, text, systems=None):
    """One line a system, one column a column; text(system, column)."""
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
    for system in systems or cells.systems:
        row = [text(system, column) or "" for column in cells.columns]
        if any(row):
            lines.append(f"| {label(system)} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def rates(cells, heads, base=None):
    """Sessions a second, and in brackets the ratio to the base."""
    def text(system, column):
        x = cells.get(system, column, rate)
        r = cells.ratio(system, base, column, rate) if base and system != base else None
        return x and say(x) + (f" ({r[0]:.2f})" if r else "")
    return pivot(cells, heads, text)


def costs(cells, heads):
    """Microseconds of processor time a session: the milter's + its Redis'."""
    def text(system, column):
        x = cells.get(system, column, lambda c: c["cpu_us"])
        y = cells.get(system, column, lambda c: c.get("redis_us", 0))
        return x and say(x) + (f" + {y:.0f}" if y else "")
    return pivot(cells, heads, text)


def waits(cells, heads, step=None):
    """Milliseconds: median / 99th percentile."""
    def part(c):
        return c["steps"].get(step, c["wait"]) if step else c["wait"]

    def text(system, column):
        x = cells.get(system, column, lambda c: part(c)["p50"])
        y = cells.get(system, column, lambda c: part(c)["p99"])
        return None if x is None else f"{say(x, 2 if x < 10 else 0)} / {say(y, 2 if y < 10 else 0)}"
    return pivot(cells, heads, text)


def section(title, *parts):
    return "\n\n".join([f"### {title}", *filter(None, parts)]) + "\n"


def ordinary(result):
    cells = Cells(result, "ordinary")
    heads = [f"{c[0]} open" for c in cells.columns]
    return section(
        "Ordinary sessions, one after the other, no pauses",
        "Sessions a second (and the ratio to the null milter):", rates(cells, heads, "null"),
        "Processor time of a session in microseconds, the milter's + its Redis':",
        costs(cells, heads),
        "What the MTA waits for in a session, milliseconds, median / p99:", waits(cells, heads))


def paced(result):
    cells = Cells(result, "paced")
    heads = [f"pauses of {c[0]} ms" for c in cells.columns]
    return section(
        "1,000 sessions a second arrive, with pauses between the commands",
        "300 and 3,000 are open then. Processor time of a session in microseconds:",
        costs(cells, heads), "Wait at RCPT, milliseconds, median / p99:",
        waits(cells, heads, "rcpt"))


def redis(result):
    cells = Cells(result, "redis")
    heads = [f"{c[0]} open" for c in cells.columns]

    def asks(system, column):
        x = cells.get(system, column, lambda c: c["rate"] * c["asks"])
        return x and say(x)
    return section("Where Redis is", "Sessions a second:", rates(cells, heads),
                   "Decisions by Redis a second:", pivot(cells, heads, asks),
                   "Wait in a session, milliseconds, median / p99:", waits(cells, heads))


def simple(case, title, head, base=None):
    def make(result):
        cells = Cells(result, case)
        heads = [head(c) for c in cells.columns]
        return section(title, "Sessions a second:", rates(cells, heads, base),
                       "Processor time of a session in microseconds:", costs(cells, heads))
    return make


def matrix(result):
    cells = Cells(result, "matrix")
    if not cells.columns:
        return ""
    heads = [f"{c[0]} open, {c[1]} ms" for c in cells.columns]
    return section("Open sessions with pauses",
                   "Where one ends the next begins. Processor time of a session in microseconds:",
                   costs(cells, heads), "Sessions a second:", rates(cells, heads))


def others(result):
    extra = result["extras"]
    lines = []
    if extra.get("postfix"):
        plain = extra["postfix"]["no milter"]
        for name, found in extra["postfix"].items():
            ratios = [x / y for x, y in zip(found, plain)]
            lines.append(f"| through Postfix, {label(name)} | {median(found):,.0f} messages/s | "
                         f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")
    for got in extra.get("postgrey") or []:
        lines.append(f"| postgrey, {'new' if got['new'] else 'seen'} triplets, {got['open']} "
                     f"connections | {got['rate']:,.0f} decisions/s | p50 {got['wait']['p50']:.1f} "
                     f"ms, p99 {got['wait']['p99']:.0f} ms |")
    for name, found in (extra.get("redis-memory") or {}).items():
        lines.append(f"| Redis, a client, {name} | {found:,.0f} bytes | |")
    for name, found in (extra.get("idle-memory") or {}).items():
        lines.append(f"| an open idle session, {label(name)} | {found:,.0f} bytes | |")
    for name, found in (extra.get("idle-cpu") or {}).items():
        lines.append(f"| idle, {label(name)} | {100 * found:.1f} % of a processor | |")
    if extra.get("round-trip"):
        ping = extra["round-trip"]
        lines.append(f"| bare round trip to Redis | p50 {1000 * ping['p50']:.0f} us, p99 "
                     f"{1000 * ping['p99']:.0f} us | |")
    return section("Others", "\n".join(["| | | |", "|---|--:|--:|", *lines])) if lines else ""


TABLES = (
    ordinary, paced, redis,
    simple("recipients", "50 recipients a message", lambda c: f"{c[0]} open", "null"),
    simple("flood-one", "A flood from one client that is refused", lambda c: f"{c[0]} open",
           "null-421"),
    simple("flood-million", "A flood from a million clients, each new and greylisted", lambda c:
           f"{c[0]} open"),
    simple("greylisting", "Greylisting: each message is a new triplet", lambda c: f"{c[0]} open"),
    simple("workers", "Workers: 1, 2, 4", lambda c: f"{c[0]}: " +
           ("64 open" if c[1] == 0 else "1,000/s with 500 ms"), "null"),
    simple("inet", "The MTA's connections over TCP", lambda c: f"{c[0]} open", "null-inet"),
    matrix, others)


# --- goals -----------------------------------------------------------------------------------------

def at(result, case, system, base, column, figure, base_column=None):
    return Cells(result, case).ratio(system, base, column, figure, base_column)


def decision(result, figure):
    """What one question to Redis adds, in bare round trips of the same round: the mean of the
    steps that ask, CONNECT and RCPT, less what the null milter takes for them."""
    cells, found = Cells(result, "ordinary"), []
    for system in ("weir", "weir-event"):
        mine, base = cells.cells.get((system, (1,)), {}), cells.cells.get(("null", (1,)), {})
        values = []
        for n in mine:
            if n in base and result["pings"].get(str(n)):
                added = sum(mine[n]["steps"][s][figure] - base[n]["steps"][s][figure]
                            for s in ("connect", "rcpt")) / 2
                values.append(added / result["pings"][str(n)][figure])
        if values:
            found.append((system, (median(values), min(values), max(values))))
    return found


def goals(result):
    """(what, measured, goal, reached) for each goal."""
    found = []

    def least(what, r, goal):
        if r:
            found.append((what, say_ratio(r), f"at least {goal}", r[0] >= goal))

    def most(what, r, goal):
        if r:
            found.append((what, say_ratio(r), f"at most {goal:.3g}", r[0] <= goal))
    for c in (16, 64, 256):
        least(f"libmilter, {c} open, to the null milter",
              at(result, "ordinary", "weir", "null", (c,), rate), 0.85)
    for c in (16, 64, 256):
        least(f"event, {c} open, to the null milter",
              at(result, "ordinary", "weir-event", "null", (c,), rate), 2.0 if c == 16 else 3.0)
    most("event, 1,000/s with pauses of 500 ms: processor time, to the null milter",
         at(result, "paced", "weir-event", "null", (500,), lambda c: c["cpu_us"]), 0.1)
    most("... p99 at RCPT", at(result, "paced", "weir-event", "null", (500,),
                               lambda c: c["steps"]["rcpt"]["p99"]), 0.5)
    for c in (16, 64, 256):
        least(f"event, {c} open, to rspamd",
              at(result, "ordinary", "weir-event", "rspamd", (c,), rate), 6)
    for think in (50, 500):
        most(f"event, paced, pauses of {think} ms: processor time, to rspamd",
             at(result, "paced", "weir-event", "rspamd", (think,), lambda c: c["cpu_us"]), 1 / 6)
    for figure, goal in (("p50", 1.3), ("p99", 2)):
        for system, r in decision(result, figure):
            most(f"{label(system)}: a decision adds, in bare round trips, {figure}", r, goal)
    for name in ("", "-event"):
        least(f"zone to Redis, 64 open{', event' if name else ', libmilter'}",
              at(result, "ordinary", f"zone{name}", f"weir{name}", (64,), rate), 1.3)
    for name, goal in (("", 0.9), ("-event", 2.0)):
        for c in (16, 64):
            least(f"refused clients, {c} open{', event' if name else ', libmilter'}",
                  at(result, "flood-one", f"flood{name}", "null-421", (c,), rate), goal)
    postfix = result["extras"].get("postfix") or {}
    for name in [n for n in postfix if n != "no milter"]:
        r = [x / y for x, y in zip(postfix[name], postfix["no milter"])]
        least(f"Postfix with {label(name)}, to Postfix alone", (median(r), min(r), max(r)), 0.97)
    cells = Cells(result, "redis")
    x = cells.get("weir-2ms-event", (256,), lambda c: c["rate"] * c["asks"])
    if x:
        found.append(("event, Redis 2 ms away, 256 open: decisions a second", say(x),
                      "at least 10,000", x >= 10000))
    for name, x in (result["extras"].get("redis-memory") or {}).items():
        if name.startswith("three"):
            found.append((f"Redis, bytes a client, {name}", say(x), "at most 256", x <= 256))
    x = (result["extras"].get("idle-memory") or {}).get("weir-event")
    if x:
        found.append(("event, bytes of an open idle session", say(x), "at most 2,048", x <= 2048))
    return found


def goal_table(result):
    lines = ["| goal | measured | wanted | |", "|---|--:|--:|---|"]
    lines += [f"| {what} | {got} | {want} | {'reached' if ok else 'not reached'} |"
              for what, got, want, ok in goals(result)]
    return section("Goals", "\n".join(lines))


def tables(result):
    m = result["machine"]
    rounds = 1 + max((c["round"] for c in result["cells"]), default=0)
    head = (f"{m['cores']} processors of {m['cpu']}, Linux {m['kernel']}, {m['when']}; "
            f"{rounds} rounds; load before {m['load']:.1f}, after {m['load-after']:.1f}.")
    if m["load"] > 1:
        head += (" **Preliminary: other programs were running**, so figures stand for little, and "
                 "only ratios far from 1 for something.")
    parts = [head + "\n", goal_table(result), *(t(result) for t in TABLES)]
    return "\n".join(p for p in parts if p and not p.endswith("|---|\n"))


def plot(result, svg):
    """performance.gp's tables, and what gnuplot makes of them."""
    with tempfile.TemporaryDirectory() as name:
        for case, what, figure in (("ordinary", "rate", rate), ("matrix", "cost", cpu)):
            cells = Cells(result, case)
            for system in cells.systems:
                lines = [f"{c[0]} {cells.get(system, c, figure)}\n" for c in cells.columns
                         if (len(c) == 1 or c[1] == 500) and cells.get(system, c, figure)]
                Path(name, f"{system}-{what}.dat").write_text("".join(lines))
        subprocess.run(["gnuplot", "-e", f"dir='{name}'; out='{svg}'", BENCH / "performance.gp"],
                       check=True, capture_output=True)


BEGIN, END = "<!-- scripts/bench: from here -->", "<!-- scripts/bench: to here -->"


def into_document(result, path):
    """Replaces what stands between the two marks."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{path}: no marks {BEGIN} and {END}")
    plot(result, path.with_suffix(".svg"))
    path.write_text(f"{before}{BEGIN}\n\n{tables(result)}\n{END}{after}")
