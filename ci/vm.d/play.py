"""Runs nix/tests/scenario.py on three Debian guests: play.py PLACE SCENARIO [--interactive]."""

import argparse
import code
import json
import os
import subprocess
import sys
import tomllib

sys.path.insert(0, os.path.dirname(__file__))
import driver

parser = argparse.ArgumentParser()
parser.add_argument("place")
parser.add_argument("scenario")
parser.add_argument("--interactive", action="store_true")
arguments = parser.parse_args()
place = os.path.abspath(arguments.place)
with open(arguments.scenario, "rb") as file:
    scenario = tomllib.load(file)
here = os.path.dirname(os.path.abspath(__file__))
base = {kind: f"{place}/{kind}" for kind in ("image", "kernel", "initrd")}
names = scenario["nodes"]
address = {name: f"192.168.1.{number + 1}" for number, name in enumerate(sorted(names))}


def toml(value):
    return json.dumps(value)


def configuration(name, ids):
    """As OPERATIONS.md has it: one file for all, but for the name."""
    lines = [f"node   = {toml(name)}", 'key    = "credential:node.key"', 'state  = "/var/lib/chainsync"']
    lines += ['listen = "0.0.0.0:7420"']
    lines += [f"{key} = {toml(value)}" for key, value in scenario.get("config", {}).items()]
    for other in names:
        lines += [f"[nodes.{other}]", f'address = "{other}:7420"', f"id      = {toml(ids[other])}"]
    lines += ["[shares.files]", 'path = "/srv/files"', f"ring = {toml(names)}"]
    return "\n".join(lines) + "\n"


def config_drive(name, ids):
    """A small disk that makes of the image this host."""
    root = f"{place}/run/{name}.config"
    os.makedirs(root, exist_ok=True)
    key = f"{place}/run/{name}.key"
    hosts = "".join(f"{address[other]} {other}\n" for other in names)
    files = {
        "hostname": name + "\n",
        "hosts": "127.0.0.1 localhost\n" + hosts,
        "address": f"{address[name]}/24\n",
        "chainsync.toml": configuration(name, ids),
    }
    for file, text in files.items():
        with open(f"{root}/{file}", "w") as target:
            target.write(text)
    for source, target in ((key, "node.key"), (arguments.scenario, "scenario.toml")):
        with open(source, "rb") as one, open(f"{root}/{target}", "wb") as other:
            other.write(one.read())
    drive = f"{place}/run/{name}.drive"
    subprocess.run(["truncate", "-s", "4M", drive], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", root, drive], check=True)
    return drive


os.makedirs(f"{place}/run", exist_ok=True)
chainsync = os.environ["CHAINSYNC"]
ids = {}
for name in names:
    key = f"{place}/run/{name}.key"
    if os.path.exists(key):
        os.remove(key)
    made = subprocess.run([chainsync, "keygen", "--out", key], check=True, capture_output=True, text=True)
    ids[name] = made.stdout.strip()
port = 20000 + os.getpid() % 20000
machines = [
    driver.Machine(name, f"{place}/run/{name}", base, config_drive(name, ids), number + 1, port)
    for number, name in enumerate(sorted(names))
]


def start_all():
    for machine in machines:
        machine.start()


scope = {
    "json": json,
    "NODES": {machine.name: machine for machine in machines},
    "SCENARIO": scenario,
    "start_all": start_all,
    "subtest": driver.subtest,
    "retry": driver.retry,
    "log": driver.log,
    "Machine": driver.Machine,
}
scope.update(scope["NODES"])
script = f"{here}/../../nix/tests/scenario.py"
try:
    if arguments.interactive:
        play = f"exec(compile(open({script!r}).read(), 'scenario.py', 'exec'), globals())"
        code.interact(f"start_all(), then for example apollo.succeed('chainsync status').\nThe scenario: {play}", local=scope)
    else:
        with open(script) as file:
            exec(compile(file.read(), "scenario.py", "exec"), scope)
        driver.log.info("passed")
except Exception as error:
    driver.log.info(f"FAILED: {error}")
    for machine in machines:
        if machine.process is not None:
            try:
                said = machine.execute("journalctl --no-pager --lines=40 --unit=chainsync.service", timeout=60)[1]
                driver.log.info(f"{machine.name}:\n{said}")
            except Exception as trouble:
                driver.log.info(f"{machine.name}: no journal: {trouble}")
    sys.exit(1)
finally:
    driver.end_all(machines)
