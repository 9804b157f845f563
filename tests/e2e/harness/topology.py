# SPDX-License-Identifier: BSD-2-Clause
"""A Redis Cluster and Sentinels on loopback, of real redis-servers.

    c = Cluster(); c.start(); c.url; c.cmd("HGETALL", key); c.kill_primary_of(key)
    s = Sentinels(); s.start(); s.url; s.master().kill()
"""

from . import proc
from .redis import Redis, RedisError

SLOTS = 16384
NODE_TIMEOUT = 1000         # ms: a primary is failed after about this


def slot_of(key):
    """As Redis has it: CRC16 of what stands in the first braces."""
    start = key.find("{")
    end = key.find("}", start + 1)
    if start >= 0 and end > start + 1:
        key = key[start + 1:end]
    crc = 0
    for byte in key.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xffff
    return crc % SLOTS


class Cluster:
    """Three primaries, and a replica for each if wanted."""

    def __init__(self, replicas=True, config=()):
        self.nodes = []
        self.replicas = replicas
        self.config = list(config)

    @property
    def places(self):
        """Not all of them: the others have to be learnt."""
        return ", ".join(f'"127.0.0.1:{n.port}"' for n in self.nodes[:2])

    @property
    def url(self):
        return "redis-cluster://" + ",".join(f"127.0.0.1:{n.port}" for n in self.nodes[:2])

    def start(self):
        for _ in range(6 if self.replicas else 3):
            node = Redis(config=["cluster-enabled yes", f"cluster-port {proc.free_port()}",
                                 "cluster-node-timeout 15000",
                                 "cluster-require-full-coverage no",
                                 "repl-diskless-sync-delay 0", *self.config])
            node.bus = int(node.config[1].split()[1])
            self.nodes.append(node.start())
        first = self.nodes[0]
        for i, node in enumerate(self.nodes):
            if i < 3:
                node.cmd("CLUSTER", "ADDSLOTSRANGE", SLOTS * i // 3, SLOTS * (i + 1) // 3 - 1)
            node.cmd("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            if node is not first:
                node.cmd("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus)
        proc.wait_for(lambda: self.agree(len(self.nodes)), 15, "the nodes know each other")
        for i, node in enumerate(self.nodes[3:]):
            proc.wait_for(lambda: self._replicate(node, self.nodes[i]), 10, "a replica")
        proc.wait_for(lambda: self.agree(len(self.nodes)), 15, "the cluster")
        proc.wait_for(self._synced, 15, "the replicas")
        for node in self.nodes:     # not before: a handshake may take longer, too
            node.cmd("CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT)
        return self

    def agree(self, known):
        for node in self.nodes:
            info = dict(line.split(":") for line in
                        node.cmd("CLUSTER", "INFO").split("\r\n") if ":" in line)
            if (info["cluster_state"] != "ok" or info["cluster_slots_ok"] != str(SLOTS)
                    or int(info["cluster_known_nodes"]) != known):
                return False
        return True

    @staticmethod
    def _replicate(node, primary):
        try:
            node.cmd("CLUSTER", "REPLICATE", primary.cmd("CLUSTER", "MYID"))
            return True
        except RedisError:
            return False

    def _synced(self):
        return all("master_link_status:up" in n.cmd("INFO", "replication")
                   for n in self.nodes[3:])

    def stop(self):
        for node in self.nodes:
            node.stop()

    def alive(self):
        return [n for n in self.nodes if n.process]

    def cmd(self, *words):
        """From whichever primary has the key."""
        for node in self.alive():
            try:
                return node.cmd(*words)
            except RedisError as error:
                if not str(error).startswith(("MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN")):
                    raise
            except OSError:
                pass
        return None

    def owner(self, slot):
        """The node that serves the slot, as a living one says."""
        for line in self.alive()[0].cmd("CLUSTER", "NODES").splitlines():
            words = line.split()
            if "master" not in words[2]:
                continue
            for text in words[8:]:
                first, _, last = text.partition("-")
                if not text.startswith("[") and int(first) <= slot <= int(last or first):
                    port = int(words[1].split("@")[0].split(":")[-1])
                    return next(n for n in self.nodes if n.port == port)
        return None

    def move(self, slot, target):
        """Moves a slot with its keys, as redis-cli --cluster reshard does."""
        source = self.owner(slot)
        if source is target:
            return
        ids = {n: n.cmd("CLUSTER", "MYID") for n in (source, target)}
        target.cmd("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.cmd("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        while True:
            keys = source.cmd("CLUSTER", "GETKEYSINSLOT", slot, 10)
            if not keys:
                break
            source.cmd("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source):
            node.cmd("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


class Sentinels:
    """A master, a replica, and three sentinels that watch over them."""

    DOWN_AFTER = 500        # ms

    def __init__(self):
        self.servers, self.sentinels = [], []

    @property
    def places(self):
        return ", ".join(f'"127.0.0.1:{s.port}"' for s in self.sentinels)

    @property
    def url(self):
        return ("redis-sentinel://" + ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels)
                + "/mymaster")

    def start(self):
        self.servers = [Redis(config=["repl-diskless-sync-delay 0"]).start()]
        first = self.servers[0]
        self.servers.append(Redis(config=["repl-diskless-sync-delay 0",
                                          f"replicaof 127.0.0.1 {first.port}"]).start())
        proc.wait_for(lambda: "master_link_status:up" in
                      self.servers[1].cmd("INFO", "replication"), 15, "the replica")
        for _ in range(3):
            self.sentinels.append(Sentinel(first.port).start())
        proc.wait_for(self._agree, 20, "the sentinels know each other")
        return self

    def _agree(self):
        for sentinel in self.sentinels:
            flat = sentinel.cmd("SENTINEL", "MASTER", "mymaster")
            master = dict(zip(flat[::2], flat[1::2]))
            if master["num-other-sentinels"] != "2" or master["num-slaves"] != "1":
                return False
        return True

    def master_port(self):
        """As the first living sentinel says."""
        for sentinel in self.sentinels:
            try:
                return int(sentinel.cmd("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")[1])
            except OSError:
                pass
        return None

    def master(self):
        port = self.master_port()
        return next(s for s in self.servers if s.port == port)

    def stop(self):
        for server in self.sentinels + self.servers:
            server.stop()


class Sentinel(Redis):
    """redis-server --sentinel."""

    def __init__(self, master_port):
        super().__init__(unix=False)
        self.master_port = master_port

    def start(self):
        conf = self.directory / "sentinel.conf"
        conf.write_text(f"""port {self.port}
bind 127.0.0.1
dir {self.directory}
logfile {self.directory}/redis.log
sentinel monitor mymaster 127.0.0.1 {self.master_port} 2
sentinel down-after-milliseconds mymaster {Sentinels.DOWN_AFTER}
sentinel failover-timeout mymaster 3000
""")
        self.process = proc.Process([proc.need(
            proc.ROOT / "redis/usr/bin/redis-server"), conf, "--sentinel"])
        proc.wait_for(self.answers, what="sentinel")
        return self
