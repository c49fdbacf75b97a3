# SPDX-License-Identifier: MIT
"""Checks the profile of GPT-2 124M, 16 x 1024 tokens, against CUPTI's trace and Nsight Compute, as JSON.

Usage: python3 benchmarks/profile_check.py RESULT.json PROGRAM

PROGRAM is lamina-gpt. Four runs on the same text:
  profile  the rows of `train --profile=10`: their sum beside a step without the profile, and those of five layers
  rested   the same layers of `train --profile=2`, when the process is stopped for 0.2 s before each step
  trace    the kernels of `profile --steps 200`, the last 50 steps of it; and size and writing time of the file of 3
           steps. A kernel that has started while one before it still ran, as programmatic dependent launch allows,
           counts from the end of that one.
  ncu      the kernels of these layers, forward and backward, of three `--eager` steps: gpu__time_duration with clocks
           and caches left alone
In a training step the GPU draws all the power it may, and its clocks fall: that is what profile and trace see. ncu runs
one kernel at a time, with pauses, at higher clocks: that is to be compared with rested.
"""
import argparse
import csv
import json
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from gpt_training import machine, output_of, today
from step_profile import read_profile

MODEL = ["--preset", "gpt2", "--device", "cuda", "--batch", "16"]
QUIET = ["--eval-every", "0", "--eval-batches", "1", "--samples", "0"]
LAYERS = ("blocks.5.norm_1", "blocks.5.norm_2", "blocks.5.attention.qkv", "blocks.5.mlp.up", "norm")
STEPS, EVERY = 300, 10
WARMUP = 5  # samples
RESTED, REST_S = 40, 0.2  # steps, and the pause before each
TRACED, OF_TRACED = 200, 50  # steps, and the last of them that count
SMALL = 3  # steps whose file is measured
DURATION, CYCLES = "gpu__time_duration.sum", "gpc__cycles_elapsed.max"


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def layers_ms(samples):
    """Medians of the samples."""
    return {layer: statistics.median(sum(row["ms"] for row in sample["rows"] if row["layer"] == layer)
                                     for sample in samples) for layer in LAYERS}


def profile_of(program, folder):
    run([program, "train", *MODEL, *QUIET, "--steps", str(STEPS), f"--profile={EVERY}", "--out", f"{folder}/run"])
    samples = read_profile(f"{folder}/run/profile.jsonl")[WARMUP:]

    def median(value_of):
        return statistics.median(value_of(sample) for sample in samples)

    return {"samples": len(samples), "step_ms": median(lambda s: s["step_ms"]),
            "sampled_step_ms": median(lambda s: s["profiled_ms"]), "named_ms": median(lambda s: s["named_ms"]),
            "coverage": median(lambda s: s["named_ms"] / s["step_ms"]), "layers_ms": layers_ms(samples)}


def rested_of(program, folder):
    command = [program, "train", *MODEL, *QUIET, "--steps", str(RESTED), "--log-every", "1", "--profile=2",
               "--profile-depth", "1", "--out", f"{folder}/rested"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as training:
        for line in training.stdout:  # when the line of a step comes, the next step is about to begin
            if " ms/step " in line:
                training.send_signal(signal.SIGSTOP)
                time.sleep(REST_S)
                training.send_signal(signal.SIGCONT)
    if training.returncode != 0:
        sys.exit(f"profile_check: exit status {training.returncode} of {' '.join(command)}")
    samples = read_profile(f"{folder}/rested/profile.jsonl")[WARMUP:]
    return {"samples": len(samples), "layers_ms": layers_ms(samples)}


def trace_of(program, folder):
    path = pathlib.Path(folder) / "trace.json"
    command = [program, "profile", *MODEL, "--trace", str(path), "--memory", f"{folder}/memory.pickle", "--steps"]
    said = run([*command, str(SMALL)])
    file = {"steps": SMALL, "bytes": path.stat().st_size,
            "written_s": float(re.search(r" in ([0-9.]+) s: open", said).group(1))}
    run([*command, str(TRACED)])
    document = json.loads(path.read_text(encoding="utf-8"))
    kernels = sorted((event for event in document["traceEvents"] if event.get("cat") == "kernel"),
                     key=lambda event: event["ts"])
    steps = range(TRACED - OF_TRACED + 1, TRACED + 1)
    ms = {step: dict.fromkeys(["all", *LAYERS], 0.0) for step in steps}
    end = 0.0
    for kernel in kernels:
        stops = kernel["ts"] + kernel["dur"]
        own = max(0.0, stops - max(kernel["ts"], end)) / 1e3
        end = max(end, stops)
        of_step = ms.get(kernel["args"]["step"], {})
        for name in ("all", kernel["args"]["layer"]):
            if name in of_step:
                of_step[name] += own

    def median(name):
        return statistics.median(of_step[name] for of_step in ms.values())

    return {"steps": OF_TRACED, "all_ms": median("all"), "layers_ms": {layer: median(layer) for layer in LAYERS},
            "kernels_per_step": sum(kernel["args"]["step"] in steps for kernel in kernels) / OF_TRACED, "file": file}


def ncu_of(program, layer, folder):
    """Of one layer in a step. Its first kernel begins each step and an evaluation behind them; of each kernel the
    median counts."""
    output = run(["ncu", "--csv", "--page", "raw", "--print-units", "base", "--metrics", f"{DURATION},{CYCLES}",
                  "--clock-control", "none", "--cache-control", "none", "--nvtx", "--nvtx-include", f"{layer}/",
                  program, "train", *MODEL, *QUIET, "--eager", "--steps", "3", "--out", f"{folder}/ncu-{layer}"])
    lines = [line for line in output.splitlines() if line.startswith('"')]
    kernels = [row for row in csv.DictReader(lines) if row["ID"]]
    values = {}
    for row in kernels:
        measured = [float(row[key].replace(",", "")) for key in (DURATION, CYCLES)]
        values.setdefault(row["Kernel Name"], []).append(measured)
    names = [row["Kernel Name"] for row in kernels]
    if len(names) < 2 or names[0] not in names[1:]:
        sys.exit(f"ncu: {layer} has {len(names)} kernels, expected those of three steps: {names[:20]}\n"
                 f"{output[-1000:]}")
    of_step = names[:names.index(names[0], 1)]
    ns, cycles = (sum(statistics.median(value[i] for value in values[name]) for name in of_step) for i in (0, 1))
    return {"ms": ns / 1e6, "kernels": len(of_step), "sm_mhz": round(cycles / ns * 1e3)}


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
        keep("rested", rested_of(args.program, folder))
        keep("trace", trace_of(args.program, folder))
        keep("ncu", {layer: ncu_of(args.program, layer, folder) for layer in LAYERS})


if __name__ == "__main__":
    main()
