# SPDX-License-Identifier: MIT
"""Measures how long a training step waits for checkpoints, and writes it as JSON.

Usage: python3 benchmarks/checkpoint_stall.py PROGRAM RESULT.json [--every 20] [--checkpoints 10] -- TRAIN_OPTIONS

Trains on random tokens with a log line at each step, where the host waits for the device. The time of the
step after a checkpoint has begun holds the copy of the tensors, that of the steps behind it what the thread
that writes takes from them; stall_ms is what the first takes longer than the median of steps without a writer.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from gpt_training import machine, output_of, today

WARM_UP = 10  # steps


def measure(program, every, count, options):
    with tempfile.TemporaryDirectory(dir=".") as folder:  # /tmp may be memory
        directory = pathlib.Path(folder) / "run"
        steps = WARM_UP + every * (count + 1)
        command = ["train", *options, "--random-tokens", "--steps", str(steps), "--log-every", "1",
                   "--eval-every", "0", "--samples", "0", "--checkpoint-every", str(every), "--keep", "1"]
        subprocess.run([program, *command, "--out", str(directory)], check=True, stdout=sys.stderr)
        log = [json.loads(line) for line in (directory / "log.jsonl").open(encoding="utf-8")]
        files = (directory / "checkpoints").glob("step_*/*")
        size = sum(file.stat().st_size for file in files)
    start = log[0]
    ms = {entry["step"]: entry["ms"] for entry in log if entry["event"] == "step" and entry["step"] > WARM_UP}
    after = [ms[step] for step in ms if (step - 1) % every == 0]
    others = [ms[step] for step in ms if (step - 1) % every >= every // 2]  # the writer is done by then
    behind = [ms[step] for step in ms if 0 < (step - 1) % every < every // 2]
    usual = statistics.median(others)
    return {"command": "lamina-gpt " + " ".join(command), "parameters": start["parameters"], "dtype": start["dtype"],
            "checkpoint_bytes": size, "checkpoints": len(after), "step_ms": usual,
            "step_after_checkpoint_ms": {"median": statistics.median(after), "most": max(after)},
            "steps_behind_it_ms": {"median": statistics.median(behind), "most": max(behind)},
            "stall_ms": statistics.median(after) - usual,
            "stall_steps": (statistics.median(after) - usual) / usual}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("result")
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--checkpoints", type=int, default=10)
    parser.add_argument("--commit", default=output_of(["git", "rev-parse", "HEAD"]))
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:end])
    result = measure(args.program, args.every, args.checkpoints, sys.argv[end + 1:])
    document = {"commit": args.commit, "date": today(), "machine": machine(), **result}
    path = pathlib.Path(args.result)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
