# SPDX-License-Identifier: MIT
"""Trains with lamina-gpt and writes what it measured as JSON.

Usage: python3 benchmarks/gpt_training.py PROGRAM RESULT.json CASE [--text FILE] [--seeds 1337,1,2,3]
Cases: toy-cpu      the default run on the CPU
       shakespeare  nanoGPT's character model on --text, one run for each seed
       gpt2         GPT-2 124M on random tokens, 200 steps of 16 x 1024 tokens

Times are between two points at which the host waits for the device, over --log-every steps: the median
of those intervals with the 10th and 90th percentile, the first interval left out as warm-up.
"""
import argparse
import datetime
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

CASES = {
    "toy-cpu": ["--preset", "toy-cpu", "--device", "cpu"],
    "shakespeare": ["--preset", "toy", "--device", "cuda", "--log-every", "50"],
    "gpt2": ["--preset", "gpt2", "--device", "cuda", "--random-tokens", "--steps", "200",
             "--log-every", "10", "--eval-every", "0", "--samples", "0"],
}


def output_of(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def today():
    return datetime.date.today().isoformat()


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    gpu = output_of(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    return {"cpu": names[0] if names else platform.processor(), "cores": len(names),
            "gpu": gpu.splitlines()[0] if gpu else ""}


def run(program, arguments):
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "run"
        command = [program, "train", *arguments, "--out", str(directory)]
        print(" ".join(command), file=sys.stderr)
        begin = time.monotonic()
        subprocess.run(command, check=True, stdout=sys.stderr)
        process_seconds = time.monotonic() - begin
        log = [json.loads(line) for line in (directory / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [entry for entry in log if entry["event"] == "step"]
    evals = [entry for entry in log if entry["event"] == "eval"]
    start, end = log[0], log[-1]
    ms = sorted(entry["ms"] for entry in steps[2:])  # the first is one step, the second has warm-up
    best = min(evals, key=lambda entry: entry["val_loss"])
    result = {
        "command": "lamina-gpt train " + " ".join(arguments),
        "parameters": start["parameters"],
        "dtype": start["dtype"],
        "steps": end["step"],
        "tokens_per_step": start["tokens_per_step"],
        "ms_per_step": {"median": statistics.median(ms), "p10": ms[len(ms) // 10],
                        "p90": ms[len(ms) * 9 // 10], "intervals": len(ms)},
        "tokens_per_second": start["tokens_per_step"] / statistics.median(ms) * 1e3,
        "peak_memory_bytes": max(entry["memory"] for entry in steps),
        "first_loss": steps[0]["loss"],
        "last_loss": steps[-1]["loss"],
        "skipped_steps": end["skipped"],
        "best_val_loss": best["val_loss"],
        "best_step": best["step"],
        "val_sigma": best["val_sigma"],
        "seconds": end["elapsed_s"],
        "process_seconds": round(process_seconds, 3),  # with start and end of the process
        "weights": end["weights"],
    }
    for key in ("floor", "excess", "excess_sigma"):
        if key in evals[-1]:
            result[key] = evals[-1][key]
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("result")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--text")
    parser.add_argument("--seeds", default="1337")
    parser.add_argument("--commit", default=output_of(["git", "rev-parse", "HEAD"]))
    args = parser.parse_args()
    if args.case == "shakespeare" and not args.text:
        parser.error("the case shakespeare needs --text FILE")

    arguments = list(CASES[args.case])
    if args.text:
        arguments += ["--text", args.text]
    runs = [run(args.program, [*arguments, "--seed", seed]) for seed in args.seeds.split(",")]
    document = {"case": args.case, "commit": args.commit,
                "date": today(), "machine": machine(), "runs": runs}
    path = pathlib.Path(args.result)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
