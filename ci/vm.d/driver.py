"""Machines under QEMU, with the part of the NixOS test driver's API that ci/nix/driver.pyi lists."""

import base64
import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import time

BOOT_TIMEOUT = 300
# No guest can do anything about the network of this machine: their switch is a multicast group on
# loopback, with a port of its own for each run.
GROUP = "230.77.0.1"


class Log:
    def __init__(self):
        self.began = time.monotonic()

    def info(self, msg):
        print(f"[{time.monotonic() - self.began:8.2f}] {msg}", flush=True)


log = Log()


class Machine:
    def __init__(self, name, place, base, config, number, port):
        self.name = name
        self.place = place
        self.number = number
        self.port = port
        self.process = None
        self.shell = None
        self.greeted = False
        self.buffer = b""
        os.makedirs(place, exist_ok=True)
        self.disk = f"{place}/disk.qcow2"
        self.config = config
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base["image"], self.disk], check=True
        )
        self.base = base

    # ------------------------------------------------------------ power

    def start(self, allow_reboot=False):
        if self.process is not None:
            return
        log.info(f"{self.name}: power on")
        mac = f"52:54:00:77:00:{self.number:02x}"
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "640"]
        command += ["-display", "none", "-no-reboot", "-nodefaults", "-rtc", "base=utc"]
        command += ["-kernel", self.base["kernel"], "-initrd", self.base["initrd"]]
        command += ["-append", f"root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 chainsync.number={self.number}"]
        command += ["-drive", f"file={self.disk},if=virtio,format=qcow2,cache=writeback"]
        command += ["-drive", f"file={self.config},if=virtio,format=raw,readonly=on"]
        command += ["-netdev", f"socket,id=ring,mcast={GROUP}:{self.port},localaddr=127.0.0.1"]
        command += ["-device", f"virtio-net-pci,netdev=ring,id=ring0,mac={mac}"]
        command += ["-device", "virtio-serial", "-chardev", f"socket,id=shell,path={self.place}/shell,server=on,wait=off"]
        command += ["-device", "virtconsole,chardev=shell", "-device", "virtio-rng-pci"]
        command += ["-chardev", f"file,id=console,path={self.place}/console.log,append=on", "-serial", "chardev:console"]
        command += ["-qmp", f"unix:{self.place}/qmp,server=on,wait=off"]
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{self.place}/shell")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        # At once: what the guest says while nobody listens is lost.
        self.shell = self.open(f"{self.place}/shell")
        self.buffer = b""
        self.greeted = False

    def connect(self):
        if self.process is None:
            self.start()
        if self.greeted:
            return
        while b"Spawning backdoor root shell..." not in self.line(BOOT_TIMEOUT):
            pass
        self.greeted = True
        log.info(f"{self.name}: has a shell")

    def open(self, path):
        deadline = time.monotonic() + 30
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(path)
                return connection
            except OSError:
                connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def crash(self):
        """The power is gone, and the guest's memory with it."""
        log.info(f"{self.name}: power lost")
        self.process.kill()
        self.ended()

    def shutdown(self):
        if self.process is None:
            return
        log.info(f"{self.name}: shutdown")
        self.connect()
        self.shell.sendall(b"systemctl poweroff\n")
        self.process.wait(timeout=120)
        self.ended()

    def ended(self):
        self.process.wait()
        self.process = None
        if self.shell is not None:
            self.shell.close()
            self.shell = None

    def monitor(self, command, **arguments):
        connection = self.open(f"{self.place}/qmp")
        with connection, connection.makefile("rw") as stream:
            stream.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    if "error" in answer:
                        raise Exception(f"{self.name}: {command}: {answer['error']}")

    def block(self):
        self.monitor("set_link", name="ring0", up=False)

    def unblock(self):
        self.monitor("set_link", name="ring0", up=True)

    # ------------------------------------------------------------ commands

    def line(self, timeout):
        deadline = time.monotonic() + timeout
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self.name} says nothing")
            self.shell.settimeout(left)
            received = self.shell.recv(1 << 16)
            if not received:
                raise ConnectionError(f"{self.name} has gone")
            self.buffer += received
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def execute(self, command, check_return=True, check_output=True, timeout=900):
        self.connect()
        limit = f"timeout {timeout} " if timeout is not None else ""
        whole = f"{limit}bash -c {shlex.quote('set -euo pipefail; ' + command)}"
        if not check_output:
            self.shell.sendall(f"{whole} >/dev/null; echo $?\n".encode())
            return int(self.line(timeout or 1e9)), ""
        self.shell.sendall(f"{whole} | (base64 --wrap 0; echo); echo ${{PIPESTATUS[0]}}\n".encode())
        # The guest ends it by itself; this is for a guest that hangs.
        patience = timeout + 60 if timeout is not None else 1e9
        output = base64.b64decode(self.line(patience))
        return int(self.line(patience)), output.decode(errors="replace")

    def succeed(self, *commands, timeout=None):
        output = ""
        for command in commands:
            code, said = self.execute(command, timeout=timeout)
            if code != 0:
                raise Exception(f"{self.name}: `{command}` ended with {code}: {said}")
            output += said
        return output

    def fail(self, *commands, timeout=None):
        output = ""
        for command in commands:
            code, said = self.execute(command, timeout=timeout)
            if code == 0:
                raise Exception(f"{self.name}: `{command}` was to fail: {said}")
            output += said
        return output

    def wait_until_succeeds(self, command, timeout=900):
        said = [""]

        def succeeds(_):
            code, said[0] = self.execute(command, timeout=timeout)
            return code == 0

        retry(succeeds, timeout)
        return said[0]

    def wait_until_fails(self, command, timeout=900):
        said = [""]

        def fails(_):
            code, said[0] = self.execute(command, timeout=timeout)
            return code != 0

        retry(fails, timeout)
        return said[0]

    def systemctl(self, q, user=None):
        return self.execute(f"systemctl {q}")

    def wait_for_unit(self, unit, user=None, timeout=900):
        def is_active(_):
            state = self.execute(f"systemctl is-active {shlex.quote(unit)} || true")[1].strip()
            if state == "failed":
                raise Exception(f"{self.name}: {unit} has failed:\n" + self.execute(f"systemctl status --no-pager {unit} || true")[1])
            return state == "active"

        retry(is_active, timeout)

    def wait_for_open_port(self, port, addr="localhost", timeout=900):
        self.wait_until_succeeds(f"nc -z {addr} {port}", timeout)

    def wait_for_file(self, filename, timeout=900):
        self.wait_until_succeeds(f"test -e {shlex.quote(filename)}", timeout)

    def copy_from_host(self, source, target):
        with open(source, "rb") as file:
            content = file.read()
        self.succeed(f"mkdir -p $(dirname {shlex.quote(target)}); : > {shlex.quote(target)}")
        # A line on a terminal has a limit of its own.
        for at in range(0, len(content), 48 << 10):
            piece = base64.b64encode(content[at : at + (48 << 10)]).decode()
            self.succeed(f"echo {piece} | base64 --decode >> {shlex.quote(target)}")

    def log(self, msg):
        log.info(f"{self.name}: {msg}")


def retry(fn, timeout=900):
    deadline = time.monotonic() + timeout
    while not fn(False):
        if time.monotonic() > deadline:
            raise Exception(f"not within {timeout} s")
        time.sleep(0.5)


@contextlib.contextmanager
def subtest(name):
    log.info(f"-- {name}")
    began = time.monotonic()
    try:
        yield
    except Exception as error:
        log.info(f"FAILED {name}: {error}")
        raise
    log.info(f"-- {name}: ok, {time.monotonic() - began:.1f} s")


def end_all(machines):
    for machine in machines:
        if machine.process is not None:
            machine.process.kill()
            machine.ended()


if __name__ == "__main__":
    sys.exit("this is a part of ci/vm")
