# SPDX-License-Identifier: MIT
"""Measures the time from the start of the process to the end of the first training step of GPT-2 124M, as JSON.

Usage: python3 benchmarks/start_up.py RESULT.json PROGRAM [--batch 16] [--repeats 3]

PROGRAM is lamina-gpt. The host's clock, from the start of `lamina-gpt train` until it prints the line of step 1, where
it has waited for the device: the driver, weights, the memory plan, and the plans of matrix products. First with an
empty cache directory, where those are timed (cold), then with what that run has kept (warm).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

from gpt_training import machine, output_of, today


def seconds_to_first_step(command, cache):
    begin = time.monotonic()
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        lines = []
        for line in run.stdout:
            lines.append(line)
            if " step 1/" in line:
                seconds = time.monotonic() - begin
                run.stdout.read()  # it ends by itself
                return seconds
    raise SystemExit(f"start_up: no line of step 1 from {' '.join(command)}:\n{''.join(lines)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=pathlib.Path)
    parser.add_argument("program", help="lamina-gpt")
    parser.add_argument("--batch", default="16")
    parser.add_argument("--repeats", type=int, default=3, help="with a warm cache")
    parser.add_argument("--commit", default=output_of(["git", "rev-parse", "HEAD"]))
    args = parser.parse_args()
    options = ["train", "--preset", "gpt2", "--random-tokens", "--batch", args.batch, "--steps", "3",
               "--log-every", "1", "--eval-every", "0", "--eval-batches", "1", "--samples", "0", "--checkpoint-every", "0"]
    with tempfile.TemporaryDirectory() as folder:
        seconds = [seconds_to_first_step([args.program, *options, "--out", f"{folder}/{index}"], f"{folder}/cache")
                   for index in range(1 + args.repeats)]
    document = {"commit": args.commit, "date": today(), "machine": machine(),
                "command": "lamina-gpt " + " ".join(options), "cold_s": round(seconds[0], 3),
                "warm_s": {"median": round(statistics.median(seconds[1:]), 3),
                           "all": [round(value, 3) for value in seconds[1:]]}}
    args.result.parent.mkdir(parents=True, exist_ok=True)
    args.result.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
