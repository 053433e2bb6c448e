# Plays a scenario on real machines: the workload inside of the guests, the faults through the driver,
# and an audit of all trees in the end. It is given NODES and SCENARIO, and uses nothing of the driver
# but what ci/nix/driver.pyi lists: the same file runs under the NixOS test driver and under ci/vm.
import os
import re
import tempfile
import time

ROOT = "/srv/files"
STATE = "/var/lib/chainsync"
FILE = "/etc/chainsync-test/scenario.toml"
# In memory: what is lost with the power must not be what the share needs, nor be synced with it.
PLACE = "/run/chainsync-test"
RECORD = PLACE + "/record"
SAVED = "/var/lib/chainsync-saved"
# What is mounted as the share where a scenario unmounts it.
DATA = "/var/lib/chainsync-data"
# Guests may be emulated: everything takes its time there.
SLOWER = 6
CONVERGED_WITHIN = 60.0
UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
WORKLOAD = ["storm", "write", "overwrite", "delete", "rename", "mkdir", "symlink", "chmod", "churn"]


def seconds(text):
    """A span as scenarios write it, as "1m 30s" or "1500ms"."""
    return sum(float(n) * UNITS[unit] for n, unit in re.findall(r"([0-9.]+)\s*([a-z]+)", text))


def method(key):
    """Of the event with this key."""
    return "do_" + key.replace("-", "_")


def address(name):
    return f"192.168.1.{sorted(NODES).index(name) + 1}"


class Run:
    def __init__(self):
        # By number in order of time, as chainsync-sim counts them.
        at = sorted(SCENARIO.get("at", []), key=lambda entry: seconds(entry["time"]))
        self.events = []
        for number, entry in enumerate(at):
            [(key, what)] = [(key, what) for key, what in entry.items() if key != "time"]
            self.events.append((seconds(entry["time"]), number, key, what))
            if isinstance(what, dict) and "back-after" in what:
                back = seconds(entry["time"]) + seconds(what["back-after"])
                self.events.append((back, -1, "start", {"node": what["node"]}))
        self.events.sort(key=lambda event: event[0])
        for _, _, key, what in self.events:
            if key not in WORKLOAD and not hasattr(self, method(key)):
                raise Exception(f"a virtual machine cannot do `{key}`")
            if isinstance(what, dict) and "before-operation" in what:
                raise Exception("only the simulation knows the number of an operation")
        # Machines without power, daemons that do not run.
        self.off = set()
        self.down = set()
        self.stopped = set()
        self.unmounted = set()
        # What was recorded on machines that lost their power since.
        self.records = {name: "" for name in NODES}
        self.happened = []
        self.began = 0.0

    # ------------------------------------------------------------ faults

    def do_crash(self, what):
        self.kill(what["node"], "KILL")
        self.down.add(what["node"])

    def do_power_loss(self, what):
        name = what["node"]
        self.keep_record(name)
        NODES[name].crash()
        self.off.add(name)
        self.down.add(name)
        self.stopped.discard(name)

    def do_start(self, what):
        name = what["node"]
        node = NODES[name]
        if name in self.off:
            node.start()
            self.off.discard(name)
            node.wait_for_unit("multi-user.target")
            self.prepare(name)
            self.write(name)
        if name in self.unmounted:
            # On an empty mount point a guard has to refuse; it is started when there is a share again.
            node.fail("systemctl start chainsync.service")
            return
        node.succeed("systemctl start chainsync.service")
        self.down.discard(name)

    def do_restart(self, what):
        NODES[what["node"]].succeed("systemctl restart chainsync.service")

    def do_stop(self, what):
        self.kill(what["node"], "STOP")
        self.stopped.add(what["node"])

    def do_continue(self, what):
        self.kill(what["node"], "CONT")
        self.stopped.discard(what["node"])

    def do_partition(self, what):
        [left, right] = what["between"]
        direction = what.get("direction", "both")
        for one in left + right:
            others = right if one in left else left
            if direction == "both" or (direction == "forward") == (one in right):
                self.deafen(one, others)

    def do_heal(self, _):
        for name in NODES:
            if name not in self.off:
                NODES[name].execute("nft delete table inet chainsync_test 2>&1")

    def do_unmount_root(self, what):
        NODES[what["node"]].succeed(f"umount --lazy {ROOT}")
        self.unmounted.add(what["node"])

    def do_mount_root(self, what):
        name = what["node"]
        NODES[name].succeed(f"mount --bind {DATA} {ROOT}")
        self.unmounted.discard(name)
        if name in self.down:
            self.do_start(what)

    def do_wipe_index(self, what):
        NODES[what["node"]].succeed(f"rm -rf {STATE}/files")

    def do_save_index(self, what):
        NODES[what["node"]].succeed(
            f"rm -rf {SAVED}; mkdir {SAVED}; cp -a {STATE}/files {SAVED}/state; cp -a {ROOT} {SAVED}/root"
        )

    def do_restore_index(self, what):
        NODES[what["node"]].succeed(f"rm -rf {STATE}/files; cp -a {SAVED}/state {STATE}/files")

    def do_restore_files(self, what):
        NODES[what["node"]].succeed(
            f"find {ROOT} -mindepth 1 -delete; cp -a {SAVED}/root/. {ROOT}/"
        )

    def do_flush(self, what):
        live = " --live" if what.get("live") else ""
        within = seconds(what["within"]) * SLOWER
        command = f"chainsync flush --timeout {within:.0f}s{live}"
        code, said = NODES[what["node"]].execute(f"{command} 2>&1", timeout=int(within) + 60)
        if "complete" in what and what["complete"] != (code == 0):
            raise Exception(f"{what['node']}: flush ended with {code}: {said}")

    # ------------------------------------------------------------ means

    def kill(self, name, signal):
        NODES[name].succeed(f"systemctl kill --kill-whom=main --signal={signal} chainsync.service")

    def deafen(self, name, sources):
        """What comes from the others is lost, and nobody is told. One command: a guest takes its time for each."""
        rules = "add table inet chainsync_test; "
        rules += "add chain inet chainsync_test input { type filter hook input priority -300; }; "
        for source in sources:
            rules += f"add rule inet chainsync_test input ip saddr {address(source)} drop; "
        NODES[name].succeed(f"nft '{rules}'")

    def keep_record(self, name):
        _, text = NODES[name].execute(f"cat {RECORD} 2>/dev/null", timeout=120)
        self.records[name] += text

    def prepare(self, name):
        """After each boot: a daemon that a scenario kills stays down until it is started."""
        drop_in = "/run/systemd/system/chainsync.service.d"
        NODES[name].succeed(
            f"install -d -o chainsync -g chainsync {PLACE}",
            f"mkdir -p {drop_in} && printf '[Service]\\nRestart=no\\n' > {drop_in}/test.conf",
            "systemctl daemon-reload",
        )

    def mount_share(self, name):
        """Makes the share a mount of its own, so that it can be unmounted."""
        NODES[name].succeed(
            "systemctl stop chainsync.service",
            f"mv {ROOT} {DATA} && mkdir {ROOT} && mount --bind {DATA} {ROOT}",
            "systemctl start chainsync.service",
        )

    def write(self, name):
        """What was due while the machine was off is done by nobody."""
        elapsed = max(0.0, time.time() - self.began)
        NODES[name].succeed(
            "systemd-run --quiet --unit=chainsync-test --uid=chainsync --gid=chainsync --property=UMask=0022"
            f" $(command -v chainsync-sim) host write {FILE}"
            f" --node {name} --root {ROOT} --record {RECORD} --elapsed {elapsed:.3f}s"
        )

    def writes(self, name):
        return NODES[name].execute("systemctl is-active --quiet chainsync-test.service")[0] == 0

    def wait_until(self, what, within, so):
        """How long it took."""
        began = time.monotonic()
        while not so():
            if time.monotonic() - began > within:
                raise Exception(f"not within {within:.0f} s: {what}")
            time.sleep(0.2)
        return time.monotonic() - began

    def complete(self):
        def flushed(name):
            return NODES[name].execute("chainsync flush --timeout 10s 2>&1", timeout=60)[0] == 0

        return all(flushed(name) for name in NODES)

    # ------------------------------------------------------------ the run

    def play(self):
        with subtest("the ring is up"):
            start_all()
            for name, node in NODES.items():
                node.wait_for_unit("chainsync.service")
                self.prepare(name)
            for name in sorted({what["node"] for _, _, key, what in self.events if key == "unmount-root"}):
                self.mount_share(name)
            self.wait_until("an idle ring is complete", 120.0, self.complete)

        with subtest("the scenario"):
            self.began = time.time()
            for name in NODES:
                self.write(name)
            for at, number, key, what in self.events:
                time.sleep(max(0.0, self.began + at - time.time()))
                if key in WORKLOAD:
                    continue
                log.info(f"{at:.3f} s: {key} {what}")
                getattr(self, method(key))(what)
                if number >= 0:
                    self.happened.append({"event": number, "at_ms": int(time.time() * 1000)})

        with subtest("everything is healed, and the trees agree"):
            self.do_heal(None)
            for name in sorted(self.stopped):
                self.do_continue({"node": name})
            for name in sorted(self.unmounted):
                self.do_mount_root({"node": name})
            for name in sorted(self.down):
                self.do_start({"node": name})
            for name in NODES:
                self.wait_until(f"{name} has written all", 300.0, lambda: not self.writes(name))
            expect = SCENARIO.get("expect", {})
            within = seconds(expect.get("converged-within", f"{CONVERGED_WITHIN}s")) * SLOWER
            took = self.wait_until("all members have everything", within, self.complete)
            log.info(f"converged {took:.1f} s after the last event")

        with subtest("the audit"):
            self.audit()

    def audit(self):
        with tempfile.TemporaryDirectory() as place:
            lines = [{"began_ms": int(self.began * 1000)}, *self.happened]
            self.note(place, "happened", "".join(json.dumps(line) + "\n" for line in lines))
            for name, node in NODES.items():
                self.keep_record(name)
                self.note(place, f"{name}.record", self.records[name])
                self.note(place, f"{name}.status", node.succeed("chainsync status --json"))
                tree = f"chainsync-sim host tree --root {ROOT} --state {STATE}"
                self.note(place, f"{name}.tree", node.succeed(tree, timeout=300))
            judge = NODES[min(NODES)]
            judge.succeed(f"mkdir -p {PLACE}/audit")
            for entry in os.listdir(place):
                judge.copy_from_host(f"{place}/{entry}", f"{PLACE}/audit/{entry}")
            code, said = judge.execute(f"chainsync-sim host audit {FILE} --from {PLACE}/audit 2>&1", timeout=300)
            log.info(said)
            if code != 0:
                raise Exception(said)

    def note(self, place, name, text):
        with open(f"{place}/{name}", "w") as file:
            file.write(text)


Run().play()
