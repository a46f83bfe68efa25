"""The command: builds the machines, runs them, prints what the guests were, in one table."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import disks
import emulated
import guests
import plan
from rich.console import Console
from rich.table import Table

from dozencloud.errors import Problem


@dataclass(frozen=True)
class Outcome:
    """What one machine said."""

    run: plan.Run
    able: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Any]]
    problem: str
    """Why it went off before it was done; empty if it did not."""

    def complaints(self) -> list[str]:
        """All that is not as it must be."""
        name = self.run.host.name
        found = [self.problem] if self.problem else []
        if not self.able:
            return [*found, f"{name}: the machine did not get as far as Nova"]
        expected = "kvm" if self.run.aarch32 else "qemu"
        if self.able["runs"].get("armv7l") != expected:
            found.append(f"{name}: says armv7l: {self.able['runs'].get('armv7l')}, not {expected}")
        for guest in self.run.guests:
            result = self.results.get(guest.name, {"error": "it was never asked to"})
            found += [f"{name}: {guest.name}: {text}" for text in plan.complaints(guest, result)]
        return found


def execute(
    run: plan.Run, folder: Path, suite: str, uv: str, say: Callable[[str], None]
) -> Outcome:
    """Build what is missing, run one machine; folder: for its work disk and console."""
    made = disks.build(suite, uv, say)
    work = _work_disk(run, made, guests.build(suite, say), folder)
    say(f"{run.host.name}: switched on")
    able: dict[str, Any] = {}
    results: dict[str, Mapping[str, Any]] = {}
    problem = ""
    try:
        for line in emulated.run(made, work, run.host, folder / "console.log", run.seconds):
            at = f"{run.host.name}, {line['uptime']:.0f} s"
            match line["event"]:
                case "nova":
                    able = line["able"]
                    say(f"{at}: Nova's drivers are loaded; {_able(able)}")
                case "guest":
                    results[line["name"]] = line
                    say(f"{at}: {line['name']}: {_came_to(line)}")
                case "failed":
                    problem = f"What runs in the machine {run.host.name} failed.\n{line['trace']}"
                case event:
                    say(f"{at}: {event} {line.get('name', '')}".rstrip())
    except Problem as gone:  # what it reported until then still counts
        problem = f"{gone.what}\n{gone.detail}"
    return Outcome(run, able, results, problem)


def _came_to(result: Mapping[str, Any]) -> str:
    if "error" in result:
        return str(result["error"])
    seconds = result.get("up_seconds")
    return f"up after {seconds} s" if seconds else "started"


def _able(able: Mapping[str, Any]) -> str:
    runs = able["runs"]
    return ", ".join(f"{name}: {runs.get(name)}" for name in ("aarch64", "armv7l"))


def _work_disk(run: plan.Run, made: disks.Disks, built: Path, folder: Path) -> Path:
    tree = folder / "tree"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(disks.CHECKOUT / "src", tree / "src", ignore=ignored)
    shutil.copytree(disks.INSIDE, tree / "inside")
    shutil.copytree(built, tree / "guests")
    shutil.copy(disks.CHECKOUT / "tests/functional/novakit.py", tree / "inside")
    disks.compile_bytecode(tree / "src", made.python_version)
    (tree / "plan.json").write_text(json.dumps({"jobs": [each.job() for each in run.guests]}))
    work = disks.disk(folder / "work.img", tree, spare_mib=400)
    shutil.rmtree(tree)
    return work


def table(outcomes: Sequence[Outcome]) -> Table:
    """One row per guest."""
    made = Table("machine", "guest", "domain", "runs as", "up (s)", "sha256 (s)", "awk (s)", "PMU")
    for outcome in outcomes:
        for guest in outcome.run.guests:
            result = outcome.results.get(guest.name, {})
            said = result.get("said", {})
            made.add_row(
                outcome.run.host.name,
                guest.name,
                guest.accelerator,
                said.get("machine", "-"),
                str(result.get("up_seconds", "-")),
                *(said.get(job, "") for job in ("sha256", "awk")),
                said.get("pmu", "-"),
            )
    return made


def ratios(outcome: Outcome) -> dict[str, float]:
    """How many times longer stock Nova's choice takes for an ARMv7 guest than ours."""
    ours = outcome.results.get(plan.V7.name, {})
    stock = outcome.results.get(plan.V7_STOCK.name, {})
    pairs = {
        "to user space": (stock.get("up_seconds"), ours.get("up_seconds")),
        **{
            job: (stock.get("said", {}).get(job), ours.get("said", {}).get(job))
            for job in ("sha256", "awk")
        },
    }
    return {
        name: round(float(slow) / float(fast), 1)
        for name, (slow, fast) in pairs.items()
        if slow and fast
    }


def keep(outcome: Outcome, folder: Path) -> None:
    """Write down what a machine said: of each guest the domain, and the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, result in outcome.results.items():
        file = f"{outcome.run.host.name} {name}".replace(", ", "-").replace(" ", "-")
        (folder / f"{file}.xml").write_text(result.get("xml", ""))
        (folder / f"{file}.json").write_text(json.dumps(result, indent=2) + "\n")
    able = json.dumps(outcome.able, indent=2)
    (folder / f"{outcome.run.host.name}.json").write_text(able + "\n")


def find_uv() -> str:
    """The launcher's uv beside this environment, or one on the path."""
    beside = sorted(Path(sys.prefix).parent.glob("uv-*/bin/uv"))
    return os.environ.get("DOZEN_UV") or (str(beside[0]) if beside else "uv")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=disks.PYTHONS, default=disks.default_suite())
    names = [each.host.name for each in plan.FULL]
    parser.add_argument("--machine", choices=names, help="only this one")
    parser.add_argument("--short", action="store_true", help="only the first two servers")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep there all that was said")
    arguments = parser.parse_args()
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f}  {line}", flush=True)

    outcomes: list[Outcome] = []
    complaints: list[str] = []
    for run in plan.SHORT if arguments.short else plan.FULL:
        if arguments.machine not in (None, run.host.name):
            continue
        with guests.temporary() as folder:
            outcomes.append(execute(run, Path(folder), arguments.suite, find_uv(), say))
            complaints += outcomes[-1].complaints()
        if arguments.keep:
            keep(outcomes[-1], arguments.keep)
    console = Console(width=120)
    console.print(table(outcomes))
    for outcome in outcomes:
        if found := ratios(outcome):
            console.print("ARMv7, stock Nova against ours:", found)
    for complaint in complaints:
        print(f"WRONG: {complaint}")
    print(
        "failed" if complaints else f"all as it must be, after {time.monotonic() - started:.0f} s"
    )
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
