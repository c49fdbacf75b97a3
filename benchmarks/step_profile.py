# SPDX-License-Identifier: MIT
"""Where a training step goes, by kernel, from the table of `lamina-gpt train --profile`, as JSON.

Usage: python3 benchmarks/step_profile.py RESULT.json NAME=PROGRAM... [--cases gpt2-16,gpt2-64]
Cases: toy, and gpt2-B: GPT-2 124M on random tokens with a batch of B x 1024.
NAME says which build PROGRAM is, so that two commits are measured on one machine. Eager steps with an
event before and after each kernel: a row is a few per cent more than in a step without them.
"""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

from gpt_training import machine, today

STEPS, PROFILED = 30, 10  # the program profiles the last PROFILED
NORMS = ("layer_norm", "rms_norm")
# layer, pass, kernel, calls, ms, share, GB/s, TFLOP/s
ROW = re.compile(r"^(\S+)\s+(forward|backward)\s+(\S+)\s+(\d+)\s+([\d.]+)\s+[\d.]+%\s+[\d.]+\s+[\d.]+$")


def profile(program, case):
    """Milliseconds and calls per step by pass and kernel."""
    preset, _, batch = case.partition("-")
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--preset", preset, "--device", "cuda", "--profile", "--steps", str(STEPS),
                     *(["--random-tokens", "--batch", batch] if batch else []),
                     "--eval-every", "0", "--eval-batches", "1", "--samples", "0",
                     "--log-every", "10"]
        print(program, *arguments, file=sys.stderr)
        text = subprocess.run([program, "train", *arguments, "--out", f"{folder}/run"], check=True,
                              capture_output=True, text=True).stdout
        log = [json.loads(line) for line in open(f"{folder}/run/log.jsonl", encoding="utf-8")]
    kernels = collections.defaultdict(lambda: {"ms": 0.0, "calls": 0.0})
    for line in text.splitlines():
        if found := ROW.match(line.strip()):
            row = kernels[f"{found[3]} {found[2]}"]
            row["calls"] += int(found[4]) / PROFILED
            row["ms"] += float(found[5]) / PROFILED
    if not kernels:
        sys.exit(f"step_profile: {program} printed no table of the profile")
    unprofiled = [entry["ms"] for entry in log if entry["event"] == "step" and entry["step"] == 20]
    return {"command": "lamina-gpt train " + " ".join(arguments), "case": case,
            "ms_per_step_without_profile": unprofiled[0],
            "ms_of_norms": round(sum(row["ms"] for name, row in kernels.items() if name.startswith(NORMS)), 4),
            "ms_of_kernels": round(sum(row["ms"] for row in kernels.values()), 4),
            "kernels": dict(sorted(kernels.items(), key=lambda entry: -entry[1]["ms"]))}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result")
    parser.add_argument("builds", nargs="+", metavar="NAME=PROGRAM")
    parser.add_argument("--cases", default="gpt2-16,gpt2-64")
    args = parser.parse_args()
    builds = [build.partition("=")[::2] for build in args.builds]
    if not all(name and program for name, program in builds):
        parser.error("a build is NAME=PROGRAM")
    runs = [{"build": name, **profile(program, case)}
            for case in args.cases.split(",") for name, program in builds]
    path = pathlib.Path(args.result)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"date": today(), "machine": machine(), "runs": runs}, indent=2) + "\n",
                    encoding="utf-8")
    for run in runs:
        print(f"{run['build']:12} {run['case']:8} norms {run['ms_of_norms']:7.3f} ms of "
              f"{run['ms_of_kernels']:8.3f} ms; step {run['ms_per_step_without_profile']:.2f} ms")
        for name, row in list(run["kernels"].items())[:20]:
            print(f"    {name:32} {row['calls']:6.1f} calls {row['ms']:8.3f} ms")


if __name__ == "__main__":
    main()
