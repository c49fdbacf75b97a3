# SPDX-License-Identifier: MIT
"""Checks the profile of GPT-2 124M, 16 x 1024 tokens, against CUPTI's trace and Nsight Compute, as JSON.

Usage: python3 benchmarks/profile_check.py RESULT.json PROGRAM

PROGRAM is lamina-gpt. Three runs on the same text:
  profile  the mean rows of `train --profile=10`: the sum of those of layers, and of all, beside a step without
  trace    the kernels of `profile --steps 60`: their sum over the last 20 steps, when the GPU's clocks are those of
           a longer run; and size and writing time of the file of 3 steps
  ncu      five layers, forward and backward, of three `--eager` steps: gpu__time_duration with clocks and caches left
           alone. Kernels run one by one there, so the GPU draws less power, and products run at higher clocks than
           in a training step.
"""
import argparse
import csv
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from gpt_training import machine, output_of, today
from step_profile import read_profile

MODEL = ["--preset", "gpt2", "--device", "cuda", "--batch", "16"]
QUIET = ["--eval-every", "0", "--eval-batches", "1", "--samples", "0"]
LAYERS = ("blocks.5.norm_1", "blocks.5.norm_2", "blocks.5.attention.qkv", "blocks.5.mlp.up", "norm")
STEPS, EVERY = 100, 10
WARMUP = 2  # samples
TRACED, OF_TRACED = 60, 20  # steps, and the last of them that count
SMALL = 3  # steps whose file is measured


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def profile_of(program, folder):
    """Milliseconds of a step, of all rows, and of each layer."""
    run([program, "train", *MODEL, *QUIET, "--steps", str(STEPS), f"--profile={EVERY}", "--out", f"{folder}/run"])
    samples = read_profile(f"{folder}/run/profile.jsonl")[WARMUP:]

    def mean(ms_of):
        return statistics.mean(ms_of(sample) for sample in samples)

    return {"step_ms": statistics.median(sample["step_ms"] for sample in samples),
            "named_ms": mean(lambda s: sum(row["ms"] for row in s["rows"] if row["layer"])),
            "all_ms": mean(lambda s: sum(row["ms"] for row in s["rows"])),
            "layers_ms": {layer: mean(lambda s, of=layer: sum(row["ms"] for row in s["rows"] if row["layer"] == of))
                          for layer in LAYERS}}


def trace_of(program, folder):
    path = pathlib.Path(folder) / "trace.json"
    command = [program, "profile", *MODEL, "--trace", str(path), "--memory", f"{folder}/memory.pickle", "--steps"]
    said = run([*command, str(SMALL)])
    file = {"steps": SMALL, "bytes": path.stat().st_size,
            "written_s": float(re.search(r" in ([0-9.]+) s: open", said).group(1))}
    run([*command, str(TRACED)])
    document = json.loads(path.read_text(encoding="utf-8"))
    kernels = [event for event in document["traceEvents"]
               if event.get("cat") == "kernel" and event["args"]["step"] > TRACED - OF_TRACED]

    def ms(layer=None):
        return sum(kernel["dur"] for kernel in kernels if layer in (None, kernel["args"]["layer"])) / 1e3 / OF_TRACED

    return {"all_ms": ms(), "layers_ms": {layer: ms(layer) for layer in LAYERS},
            "kernels_per_step": len(kernels) / OF_TRACED, "file": file}


def ncu_ms(program, layer, folder):
    """Of one layer in a step. Its first kernel begins each step and an evaluation behind them; of each kernel the
    median counts."""
    output = run(["ncu", "--csv", "--page", "raw", "--print-units", "base", "--metrics", "gpu__time_duration.sum",
                  "--clock-control", "none", "--cache-control", "none", "--nvtx", "--nvtx-include", f"{layer}/",
                  program, "train", *MODEL, *QUIET, "--eager", "--steps", "3", "--out", f"{folder}/ncu-{layer}"])
    lines = [line for line in output.splitlines() if line.startswith('"')]
    kernels = [row for row in csv.DictReader(lines) if row["ID"]]
    ns = {}
    for row in kernels:
        ns.setdefault(row["Kernel Name"], []).append(float(row["gpu__time_duration.sum"].replace(",", "")))
    names = [row["Kernel Name"] for row in kernels]
    if len(names) < 2 or names[0] not in names[1:]:
        sys.exit(f"ncu: {layer} has {len(names)} kernels, expected those of three steps: {names[:20]}\n{output[-1000:]}")
    return sum(statistics.median(ns[name]) for name in names[:names.index(names[0], 1)]) / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=pathlib.Path)
    parser.add_argument("program", help="lamina-gpt")
    parser.add_argument("--commit", default=output_of(["git", "rev-parse", "HEAD"]))
    args = parser.parse_args()
    document = {"commit": args.commit, "date": today(), "machine": machine(),
                "command": "python3 benchmarks/profile_check.py RESULT.json PROGRAM"}

    def keep(name, value):
        document[name] = value
        args.result.parent.mkdir(parents=True, exist_ok=True)
        args.result.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        print(name, json.dumps(value))

    with tempfile.TemporaryDirectory() as folder:
        keep("profile", profile_of(args.program, folder))
        keep("trace", trace_of(args.program, folder))
        for layer in LAYERS:
            keep(f"ncu_ms {layer}", ncu_ms(args.program, layer, folder))


if __name__ == "__main__":
    main()
