# SPDX-License-Identifier: MIT
"""What `--profile` costs, by training with and without it in turns, as JSON.

Usage: python3 benchmarks/profile_overhead.py RESULT.json PROGRAM [--cases NAME...] [--device cuda|cpu]
                                              [--rounds 4] [--every 50]

PROGRAM is lamina-gpt. In each round a run without and a run with the profile, the first of the two changing
from round to round. All figures are shares of a step without the profile:
  amortised     medians of the log intervals, each of --every steps with one sample in it: on / off - 1
  sampled_step  profiled_ms / step_ms - 1, from profile.jsonl
  from_samples  sampled_step / every: what amortised would be if the other steps cost nothing more
  coverage      named_ms / step_ms
with the median, and the least and the greatest of the rounds (of the samples for the last three).
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

from gpt_cases import CASES
from gpt_training import machine, output_of, today
from step_profile import read_profile

INTERVALS = 8  # of each run, behind the two that are left out as warm-up
WARMUP = 2


def spread(values):
    return {"median": round(statistics.median(values), 6), "least": round(min(values), 6),
            "greatest": round(max(values), 6), "count": len(values)}


def arguments_of(name, device, every):
    """Of a run without the profile."""
    arguments = ["--device", device, "--steps", str((WARMUP + INTERVALS) * every), "--log-every", str(every),
                 "--eval-every", "0", "--eval-batches", "1", "--samples", "0"]
    if name == "toy-cpu":
        return ["--preset", name, *arguments]
    case = CASES[name]
    sizes = {"layers": case.layers, "heads": case.heads, "width": case.width, "context": case.context,
             "batch": case.batch}
    return ["--preset", "toy" if name == "toy" else "gpt2", "--random-tokens", *arguments,
            *[text for option, value in sizes.items() for text in (f"--{option}", str(value))]]


def run(program, arguments):
    """Milliseconds per step of the intervals behind the warm-up, the samples there, and the weights."""
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "run"
        subprocess.run([program, "train", *arguments, "--out", str(directory)], check=True,
                       stdout=subprocess.DEVNULL)
        log = [json.loads(line) for line in (directory / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        path = directory / "profile.jsonl"
        samples = read_profile(path)[WARMUP:] if path.exists() else []
    steps = [entry for entry in log if entry["event"] == "step"]
    return [entry["ms"] for entry in steps[-INTERVALS:]], samples, log[-1]["weights"]


def measure(program, name, device, every, rounds):
    arguments = arguments_of(name, device, every)
    profiled = [*arguments, f"--profile={every}"]
    ratios, off_ms, samples, weights = [], [], [], set()
    for index in range(rounds):
        results = {}
        for kind in ("off", "on") if index % 2 == 0 else ("on", "off"):
            results[kind] = run(program, profiled if kind == "on" else arguments)
            weights.add(results[kind][2])
        off, on = (statistics.median(results[kind][0]) for kind in ("off", "on"))
        ratios.append(on / off - 1)
        off_ms.append(off)
        samples += results["on"][1]
        print(f"{name} round {index + 1}: {off:.4f} ms off, {on:.4f} ms on, {ratios[-1]:+.4%}", flush=True)
    sampled = [sample["profiled_ms"] / sample["step_ms"] - 1 for sample in samples]
    return {"case": name, "every": every, "command": "lamina-gpt train " + " ".join(profiled),
            "step_ms": spread(off_ms), "amortised": spread(ratios), "sampled_step": spread(sampled),
            "from_samples": round(statistics.median(sampled) / every, 6),
            "coverage": spread([sample["named_ms"] / sample["step_ms"] for sample in samples]),
            "kernels_per_step": sum(row["calls"] for row in samples[-1]["rows"]),
            "same_weights": len(weights) == 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=pathlib.Path)
    parser.add_argument("program", help="lamina-gpt")
    parser.add_argument("--cases", nargs="+", choices=[*CASES, "toy-cpu"], default=["toy", "gpt2_b16", "gpt2_b64"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--commit", default=output_of(["git", "rev-parse", "HEAD"]))
    args = parser.parse_args()
    rows = []
    for name in args.cases:
        rows.append(measure(args.program, name, args.device, args.every, args.rounds))
        document = {"date": today(), "commit": args.commit, "machine": machine(),
                    "command": f"python3 benchmarks/profile_overhead.py RESULT.json PROGRAM --cases {' '.join(args.cases)} "
                               f"--rounds {args.rounds} --every {args.every} --device {args.device}", "rows": rows}
        args.result.parent.mkdir(parents=True, exist_ok=True)
        args.result.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['case']:10} {row['step_ms']['median']:8.3f} ms  amortised {row['amortised']['median']:+.3%}  "
              f"sampled step {row['sampled_step']['median']:+.2%}  coverage {row['coverage']['median']:.1%}")


if __name__ == "__main__":
    main()
