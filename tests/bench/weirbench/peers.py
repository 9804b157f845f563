# SPDX-License-Identifier: BSD-2-Clause
"""The peers, from the unpacked Debian packages (scripts/deps bench), each with its committed
configuration in tests/bench/peers. milter-greylist is not in Debian 12, so it is not among them."""

import json
import os
import shutil
import subprocess

from .systems import BENCH, System, build, mload, proc

RSPAMD = proc.ROOT / "rspamd"
POSTGREY = proc.ROOT / "postgrey"


def installed(name):
    return (proc.ROOT / name / ".complete").exists()


class Rspamd(System):
    """peers/rspamd.conf, with two processes, on the Redis of the benchmark."""

    def __init__(self, name, redis):
        super().__init__(name)
        self.redis = redis

    def start(self):
        share = RSPAMD / "usr/share/rspamd"
        (self.directory / "none.lua").write_text(
            "require \"global_functions\" ()\nconfig[\"regexp\"] = {}\nrspamd_maps = {}\n")
        (self.directory / "plugins").mkdir()
        for name in ("ratelimit.lua", "greylist.lua"):
            shutil.copy(share / "plugins" / name, self.directory / "plugins")
        (self.directory / "tld").write_text("com\ntest\n")
        variables = {"BENCHDIR": self.directory, "REDIS": self.redis.path, "SHAREDIR": share,
                     "PLUGINSDIR": share / "plugins", "LUALIBDIR": share / "lualib",
                     "RULESDIR": share / "rules"}
        for name in ("DBDIR", "RUNDIR", "LOGDIR", "CONFDIR", "LOCAL_CONFDIR", "WWWDIR"):
            variables[name] = self.directory
        return self._run(
            [RSPAMD / "usr/bin/rspamd", "-f", "-i", "-c", BENCH / "peers/rspamd.conf",
             *(f"--var={name}={value}" for name, value in variables.items())],
            env={**os.environ, "LD_LIBRARY_PATH": str(RSPAMD / "usr/lib/rspamd")})

    def warm(self):
        """Its first sessions are slow."""
        mload(self, "-n", 200, "-d", 5)


class Postgrey(System):
    """Debian's default: its database on disk, in its own directory; here that is where temporary
    files are. It speaks the policy protocol, not the milter's."""

    def start(self):
        database = self.directory / "db"
        database.mkdir()
        shutil.chown(database, "nobody", "nogroup")
        shutil.chown(self.directory, "nobody")
        empty = self.directory / "whitelist"
        empty.write_text("")
        return self._run(
            ["perl", "-T", POSTGREY / "usr/sbin/postgrey", f"--unix={self.directory}/milter.sock",
             f"--dbdir={database}", "--user=nobody", "--group=nogroup", "--delay=300",
             f"--whitelist-clients={empty}", f"--whitelist-recipients={empty}"])


def policy(system, connections, seconds, triplets):
    """What policy_load says of it; triplets 0: each question is a new one."""
    done = subprocess.run(
        [build("tests/bench/policy_load"), "-c", str(connections), "-d", str(seconds), "-k",
         str(triplets), system.socket], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def installed_milters(redis):
    """name -> how to make it."""
    return {"rspamd": lambda name: Rspamd(name, redis)} if installed("rspamd") else {}

