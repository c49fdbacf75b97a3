# SPDX-License-Identifier: MIT
"""Where a training step goes, by kernel, from the profile.jsonl of `lamina-gpt train --profile`, as JSON.

Usage: python3 benchmarks/step_profile.py RESULT.json NAME=PROGRAM... [--cases gpt2-16,gpt2-64]
Cases: a preset, or one of GPT-2 and a batch (gpt2-16, gpt2-medium-16) for random tokens, 1024 a sequence.
NAME says which build PROGRAM is, so that two commits are measured on one machine. The mean of the sampled
steps, which have a time stamp behind each kernel: a row is a little more than in a step without them.
docs/profiling.md says what the fields of profile.jsonl are.
"""
import argparse
import collections
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from gpt_training import machine, output_of, today

STEPS, EVERY = 100, 10  # the first sample, just behind the warm-up, is left out
NORMS = ("layer_norm", "rms_norm")


def read_profile(path):
    """The sampled steps of a run."""
    return [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]


def by_kernel(samples):
    """Mean milliseconds and calls per step by kernel and direction, largest first."""
    kernels = collections.defaultdict(lambda: {"ms": 0.0, "calls": 0.0})
    for sample in samples:
        for row in sample["rows"]:
            kernel = kernels[f"{row['kernel']} {row['direction']}"]
            kernel["ms"] += row["ms"] / len(samples)
            kernel["calls"] += row["calls"] / len(samples)
    return dict(sorted(kernels.items(), key=lambda entry: -entry[1]["ms"]))


def profile(program, case):
    """The row of one program and case."""
    head, _, tail = case.rpartition("-")
    preset, batch = (head, tail) if tail.isdigit() else (case, "")
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--preset", preset, "--device", "cuda", f"--profile={EVERY}", "--steps", str(STEPS),
                     *(["--random-tokens", "--batch", batch] if batch else []),
                     "--eval-every", "0", "--eval-batches", "1", "--samples", "0"]
        print(program, *arguments, file=sys.stderr)
        subprocess.run([program, "train", *arguments, "--out", f"{folder}/run"], check=True,
                       stdout=subprocess.DEVNULL)
        samples = read_profile(f"{folder}/run/profile.jsonl")[1:]
    kernels = by_kernel(samples)
    return {"command": "lamina-gpt train " + " ".join(arguments), "case": case, "samples": len(samples),
            "ms_per_step_without_profile": statistics.median(sample["step_ms"] for sample in samples),
            "ms_of_norms": round(sum(row["ms"] for name, row in kernels.items() if name.startswith(NORMS)), 4),
            "ms_of_kernels": round(sum(row["ms"] for row in kernels.values()), 4),
            "kernels": kernels}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result")
    parser.add_argument("builds", nargs="+", metavar="NAME=PROGRAM")
    parser.add_argument("--cases", default="gpt2-16,gpt2-64")
    parser.add_argument("--commit", default=output_of(["git", "rev-parse", "HEAD"]), help="of the build called now")
    args = parser.parse_args()
    builds = [build.partition("=")[::2] for build in args.builds]
    if not all(name and program for name, program in builds):
        parser.error("a build is NAME=PROGRAM")
    runs = [{"build": name, **profile(program, case)}
            for case in args.cases.split(",") for name, program in builds]
    path = pathlib.Path(args.result)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"date": today(), "commit": args.commit, "machine": machine(), "runs": runs}, indent=2) + "\n",
                    encoding="utf-8")
    for run in runs:
        print(f"{run['build']:12} {run['case']:8} norms {run['ms_of_norms']:7.3f} ms of "
              f"{run['ms_of_kernels']:8.3f} ms; step {run['ms_per_step_without_profile']:.2f} ms")
        for name, row in list(run["kernels"].items())[:20]:
            print(f"    {name:32} {row['calls']:6.1f} calls {row['ms']:8.3f} ms")


if __name__ == "__main__":
    main()
