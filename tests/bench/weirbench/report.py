"""Tables of the results, in markdown: medians over the rounds; a ratio is made within each round,
and stands with the smallest and the largest of them."""

import statistics

NAMES = {"null": "null milter", "weir": "weir, Redis", "zone": "weir, zone",
         "flood": "weir, Redis", "flood-zone": "weir, zone", "million": "weir, Redis",
         "million-zone": "weir, zone", "null-421": "null milter, 421", "null-inet": "null milter",
         "weir-inet": "weir, Redis", "weir-tcp": "weir, Redis over TCP",
         "weir-0.5ms": "weir, Redis 0.5 ms away", "weir-2ms": "weir, Redis 2 ms away"}
TITLES = {
    "ordinary": "Ordinary sessions, one after the other",
    "redis": "Where Redis is",
    "paced": "1,000 sessions a second arrive, with pauses between the commands",
    "recipients": "50 recipients a message",
    "flood-one": "A flood from one client that is refused",
    "flood-million": "A flood from a million clients, each greylisted",
    "greylisting": "Greylisting: each message is a new triplet",
    "workers": "Workers",
    "inet": "The MTA's connections over TCP",
    "matrix": "Open sessions with pauses",
}


def label(name):
    """null-4 -> null milter, 4 workers; weir-event -> weir, Redis, event."""
    words = name.split("-")
    event = "event" in words
    digits = [w for w in words if w.isdigit() and w != "421"]
    base = "-".join(w for w in words if w != "event" and w not in digits)
    text = NAMES.get(base, base)
    if event:
        text += ", `engine = event`"
    if digits:
        text += f", {digits[0]} workers"
    return text


def of(result, case):
    return [c for c in result["cells"] if c["case"] == case]


def key(what):
    return tuple(sorted(what.items()))


def group(cells):
    """{(what, system): {round: cell}}"""
    found = {}
    for c in cells:
        found.setdefault((key(c["what"]), c["system"]), {})[c["round"]] = c
    return found


def median(values):
    return statistics.median(values) if values else float("nan")


def ratio(rounds, base, figure):
    """(median, least, most, rounds) of figure(this)/figure(base) within each round."""
    found = [figure(rounds[n]) / figure(base[n]) for n in rounds
             if n in base and figure(base[n]) > 0]
    return (median(found), min(found), max(found), len(found)) if found else None


def say_ratio(r):
    if r is None:
        return ""
    return f"{r[0]:.2f} ({r[1]:.2f}-{r[2]:.2f})"


def thousands(x):
    return f"{x:,.0f}"


def table(result, case):
    """One line a system and column."""
    cells = of(result, case)
    if not cells:
        return ""
    found = group(cells)
    lines = [f"### {TITLES[case]}", ""]
    lines += ["| | " + " | ".join(["", "sessions/s", "of the first row", "CPU us/session",
                                   "Redis us", "questions", "wait p50 ms", "p99 ms"]) + " |",
              "|---|---|--:|--:|--:|--:|--:|--:|--:|"]
    bases = {}
    for what, system in found:
        bases.setdefault(what, system)
    for (what, system), rounds in found.items():
        every = list(rounds.values())
        base = found[(what, bases[what])]
        shown = ", ".join(f"{v} {n}" if n not in ("think",) else f"{v} ms" for n, v in what)
        lines.append("| " + " | ".join([
            shown, label(system), thousands(median([c["rate"] for c in every])),
            say_ratio(ratio(rounds, base, lambda c: c["rate"])) if system != bases[what] else "1",
            thousands(median([c["cpu_us"] for c in every])),
            thousands(median([c["redis_us"] for c in every if "redis_us" in c]))
            if "redis_us" in every[0] else "",
            f"{median([c['asks'] for c in every]):.2f}" if "asks" in every[0] else "",
            f"{median([c['wait']['p50'] for c in every]):.2f}",
            f"{median([c['wait']['p99'] for c in every]):.2f}"]) + " |")
    return "\n".join(lines) + "\n"


def tables(result):
    return "\n".join(filter(None, (table(result, case) for case in TITLES)))
