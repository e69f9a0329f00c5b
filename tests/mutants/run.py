#!/usr/bin/env python3
"""Breaks the engine on purpose: applies one mutant after another to a copy of the tree, builds it, and demands that
`thalweg check` finds the numbers wrong. README.md says what the list means and has the table that this writes.

Exit codes: 0 every mutant is caught (or only visible on other drivers), 1 one survives or proves nothing, 2 the list does
not fit the tree, or the tree fails without any mutant."""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
README = HERE / "README.md"
BEGIN, END = "<!-- table: written by run.py -->", "<!-- end of the table -->"
# what says that a check has no numbers; one that wrote outside of its buffers has
REFUSALS = ("does not compile", "internal GPU error", "device was lost", "out of GPU memory", "a panic", "no usable GPU")
OUTSIDE = "the kernel wrote outside"


def read_mutants():
    mutants = []
    for path in sorted(HERE.glob("*.json")):
        mutants += json.loads(path.read_text())["mutants"]
    seen = set()
    for mutant in mutants:
        name, count = mutant["name"], (ROOT / mutant["file"]).read_text().count(mutant["from"])
        if count != 1 or name in seen:
            fail(f"{name}: its text occurs {count} times in {mutant['file']}, or the name is there twice")
        seen.add(name)
    return mutants


def fail(message):
    print(f"run.py: {message}", file=sys.stderr)
    sys.exit(2)


class Bench:
    """A copy of the tracked files with a target folder of its own, and what has come of mutants there so far."""

    def __init__(self, scratch, options):
        self.tree, self.target = scratch / "tree", scratch / "target"
        self.report, self.results_file = scratch / "report.json", scratch / "results.json"
        self.options = options
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
        names = [name for name in names.decode().split("\0") if name and (ROOT / name).is_file()]
        # what is no longer in the tree goes; what cargo builds is not in the way
        kept = {self.tree / name for name in names}
        for path in sorted(self.tree.rglob("*")) if self.tree.exists() else []:
            if path.is_file() and path not in kept and "target" not in path.relative_to(self.tree).parts:
                path.unlink()
        # of files that have not changed the times stay, so that cargo builds nothing anew
        for name in names:
            to = self.tree / name
            if not to.exists() or to.read_bytes() != (ROOT / name).read_bytes():
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, to)
        digest = hashlib.sha256()
        for name in names:
            # a check that is added lets nothing go that others have caught
            if name.startswith(("src/", "shaders/", "Cargo.")) and not name.startswith("src/check/"):
                digest.update(name.encode() + b"\0" + (ROOT / name).read_bytes())
        tree = digest.hexdigest()
        self.results = {"tree": tree, "mutants": {}}
        if self.results_file.exists() and (options.resume or options.names):
            before = json.loads(self.results_file.read_text())
            if before["tree"] == tree:
                self.results = before
            else:
                print("the tree has changed: earlier results are dropped")

    def save(self):
        self.results_file.write_text(json.dumps(self.results, indent=1))

    def build(self):
        """None, or the last line of what cargo says."""
        environment = {**os.environ, "CARGO_TARGET_DIR": str(self.target), "CARGO_PROFILE_DEV_DEBUG": "0"}
        command = ["cargo", "build", "--quiet", "--bin", "thalweg"]
        built = subprocess.run(command, cwd=self.tree, env=environment, capture_output=True, text=True)
        errors = [line for line in built.stderr.splitlines() if line.startswith("error")]
        return None if built.returncode == 0 else (errors or ["cargo build fails"])[0]

    def check(self, only):
        """The exit code and the cases of the checks whose name contains `only`."""
        command = [*shlex.split(self.options.wrapper), str(self.target / "debug" / "thalweg"), "check"]
        command += ["--filter", only, "--report", str(self.report), "--seed", str(self.options.seed)]
        self.report.unlink(missing_ok=True)
        try:
            done = subprocess.run(command, cwd=self.tree, capture_output=True, timeout=self.options.limit)
        except subprocess.TimeoutExpired:
            return "ran past the limit", []
        if not self.report.exists():
            return done.returncode, []
        report = json.loads(self.report.read_text())
        self.adapter = ", ".join(f"{a['name']} ({a['driver_info'] or a['driver']})" for a in report["adapters"])
        return done.returncode, report["cases"]

    def judge(self, mutant):
        """What becomes of a mutant: the verdict, and the numbers of the table."""
        path = self.tree / mutant["file"]
        original = path.read_text()
        path.write_text(original.replace(mutant["from"], mutant["to"]))
        try:
            problem = self.build()
            if problem:
                return {"verdict": "invalid", "why": problem}
            code, cases = self.check(mutant["filter"])
        finally:
            path.write_text(original)
        failed = [case for case in cases if case["status"] == "fail"]
        refused = [case for case in failed if refusal(case)]
        found = {
            "run": sum(case["status"] != "skip" for case in cases),
            "failed": len(failed),
            "worst": worst(failed),
            "adapters": [self.adapter] if cases else [],
            "why": failed[0]["reason"].splitlines()[0] if failed else "",
        }
        if refused:
            return {**found, "verdict": "invalid", "why": refused[0]["reason"].splitlines()[0]}
        if code not in (0, 1) or not cases:
            return {**found, "verdict": "invalid", "why": f"thalweg check: {code}"}
        return {**found, "verdict": "caught" if code == 1 and failed else "survived"}


def refusal(case):
    return OUTSIDE not in case["reason"] and any(word in case["reason"] for word in REFUSALS)


def worst(failed):
    """The largest error of what failed, or how else it is wrong."""
    errors = [case["error"] for case in failed if case.get("error") is not None]
    if errors:
        return f"{max(errors):.1e}"
    reasons = [case["reason"] for case in failed]
    if any("NaN" in reason for reason in reasons):
        return "NaN"
    if any(OUTSIDE in reason for reason in reasons):
        return "outside"
    return "bits" if reasons else ""


def key(mutant):
    return hashlib.sha256(json.dumps(mutant, sort_keys=True).encode()).hexdigest()


def fits(result, mutant):
    return result is not None and result["key"] == key(mutant)


def accepted(result, mutant):
    return result["verdict"] == "caught" or (result["verdict"] == "survived" and mutant.get("race", False))


def write_table(mutants, results):
    """The table between the marks in README.md."""
    adapters = []
    for result in results.values():
        adapters += [adapter for adapter in result["adapters"] if adapter not in adapters]
    count = lambda verdict: sum(result["verdict"] == verdict for result in results.values())
    lines = [BEGIN, "", f"{len(mutants)} mutants: {count('caught')} caught, {count('survived')} not visible on drivers that "
             "run a workgroup in step, on:", ""]
    lines += [f"{number}. {adapter}" for number, adapter in enumerate(adapters, 1)]
    lines += ["", "| kernel | file | what is wrong | checks | failed | worst error | on |", "|---|---|---|--:|--:|--:|--:|"]
    for mutant in sorted(mutants, key=lambda mutant: (mutant["kernel"], mutant["file"], mutant["name"])):
        result = results[mutant["name"]]
        error = result["worst"] if result["verdict"] == "caught" else "not visible"
        file = mutant["file"].removeprefix("shaders/")
        on = ", ".join(str(adapters.index(adapter) + 1) for adapter in result["adapters"])
        cells = [mutant["kernel"], f"`{file}`", mutant["wrong"], result["run"], result["failed"], error, on]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    text = README.read_text()
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    README.write_text(before + "\n".join(lines) + "\n\n" + after)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these mutants")
    parser.add_argument("--list", action="store_true", help="print the mutants and run none")
    parser.add_argument("--resume", action="store_true", help="keep what earlier runs have caught, checks aside on the same tree")
    parser.add_argument("--with", dest="wrapper", default="", metavar="COMMAND", help="run `COMMAND thalweg check …`")
    parser.add_argument("--scratch", type=Path, default=ROOT / "target" / "mutants", metavar="DIR", help="where to build")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the checks' inputs")
    parser.add_argument("--limit", type=int, default=300, metavar="S", help="seconds that the checks of a mutant may take")
    return parser.parse_args()


def main():
    options = arguments()
    mutants = read_mutants()
    unknown = set(options.names) - {mutant["name"] for mutant in mutants}
    if unknown:
        fail(f"no mutant {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in mutants if not options.names or mutant["name"] in options.names]
    if options.list:
        for mutant in chosen:
            print(f"{mutant['name']:34} {mutant['kernel']:16} {mutant['wrong']}")
        return 0
    bench = Bench(options.scratch.resolve(), options)
    results = bench.results["mutants"]
    if options.resume:
        done = lambda result, mutant: fits(result, mutant) and result["verdict"] == "caught"
        chosen = [mutant for mutant in chosen if not done(results.get(mutant["name"]), mutant)]
    problem = bench.build()
    if problem:
        fail(f"the tree does not build: {problem}")
    # without a mutant every check that is to catch one passes
    for only in sorted({mutant["filter"] for mutant in chosen}):
        code, cases = bench.check(only)
        if code != 0 or not any(case["status"] == "pass" for case in cases):
            fail(f"without any mutant `thalweg check --filter '{only}'` ends with {code}")
    for number, mutant in enumerate(chosen, 1):
        before, result = results.get(mutant["name"]), {"key": key(mutant), **bench.judge(mutant)}
        if fits(before, mutant) and before["verdict"] == result["verdict"] == "survived":
            result["adapters"] = before["adapters"] + [a for a in result["adapters"] if a not in before["adapters"]]
        results[mutant["name"]] = result
        bench.save()
        numbers = f"{result.get('failed', 0)}/{result.get('run', 0)} {result.get('worst', '')}"
        why = result["why"] if result["verdict"] == "invalid" else ""
        print(f"{number}/{len(chosen)} {result['verdict']:8} {mutant['name']:34} {numbers} {why}".rstrip(), flush=True)
    results = {mutant["name"]: results.get(mutant["name"]) for mutant in mutants}
    complete = all(fits(results[mutant["name"]], mutant) for mutant in mutants)
    bad = [m["name"] for m in chosen if not accepted(results[m["name"]], m)]
    if complete and all(accepted(results[mutant["name"]], mutant) for mutant in mutants):
        write_table(mutants, results)
    if bad:
        print(f"{len(bad)} mutants are not caught: {', '.join(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
