# SPDX-License-Identifier: MIT
"""Times the training step of lamina-gpt, and of PyTorch beside it on the same machine.

Usage: python3 benchmarks/training_step.py RESULT.json PROGRAM [--cases NAME...] [--variants NAME...]
                                           [--peers [NAME...]] [--quick] [--resume]

PROGRAM is lamina-gpt. A step is forward, backward, clipping and AdamW, on random tokens. Variants of Lamina:
graph (one CUDA graph per step) and eager; and in one graph recompute (blocks run again in the backward pass),
recompute-norm-gelu (only norms and GELU do), and logits-N (N rows of logits at a time; graph: as many as are 2^31 logits).
A time is that between two points at which the host waits for the device, 1 or 5 steps apart, so it holds
all host work; the result is the median of 60 of them with the 10th and 90th percentile. graph_nodes are the kernels and
copies of a step, 0 without a graph; benchmarks/step_profile.py has the time of each kernel. --peers adds PyTorch
(benchmarks/peers/gpt_step.py; all variants, or those named), in turn with Lamina for each case. --resume keeps what
RESULT.json has of this commit and machine, and measures the rest.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "peers"))

import gpt_step
from gpt_cases import CASES, MIN_STEPS, line_of, missing, part_of_run, result, write
from gpt_training import output_of

VARIANTS = {"graph": [], "eager": ["--eager"], "recompute": ["--recompute"],
            "recompute-norm-gelu": ["--recompute=norm,gelu"],
            **{f"logits-{rows}": ["--logit-rows", str(rows)] for rows in (65536, 16384)}}
SHORT_STEPS = ("toy", "gpt2_b4")  # a few ms: the host waits only every fifth step
INTERVALS, QUICK_INTERVALS = 60, 10
WARMUP = 20  # steps: plans of matrix products, the capture of the graph, clocks
SECONDS = 900  # for one run


def arguments_of(name, variant, intervals):
    """Of `lamina-gpt train`; no evaluation but the one at the end, which is not timed."""
    case = CASES[name]
    every = 5 if name in SHORT_STEPS else 1
    sizes = {"layers": case.layers, "heads": case.heads, "width": case.width, "context": case.context,
             "batch": case.batch, "steps": WARMUP + intervals * every, "log-every": every, "eval-every": 0,
             "eval-batches": 1, "samples": 0}
    numbers = [text for option, value in sizes.items() for text in (f"--{option}", str(value))]
    return ["--preset", "toy" if name == "toy" else "gpt2", "--device", "cuda", "--random-tokens", *numbers,
            *VARIANTS[variant]]


def measure(program, name, variant, intervals):
    """The row of one case and variant."""
    arguments = arguments_of(name, variant, intervals)
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "run"
        try:
            subprocess.run([program, "train", *arguments, "--out", str(directory)], check=True,
                           capture_output=True, text=True, timeout=SECONDS)
        except OSError as error:
            sys.exit(f"training_step: {error}, expected lamina-gpt; build it as docs/performance.md says")
        except subprocess.TimeoutExpired:
            return missing(name, "lamina", variant, f"not done after {SECONDS} s")
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
            return missing(name, "lamina", variant, f"exit status {error.returncode}: {last[:200]}")
        log = [json.loads(line) for line in (directory / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [entry for entry in log if entry["event"] == "step"]
    timed = [entry for entry in steps if entry["step"] > WARMUP]
    if len(timed) != intervals:
        sys.exit(f"training_step: {program} logged {len(timed)} intervals after step {WARMUP}, expected {intervals}")
    row = result(name, "lamina", variant, [entry["ms"] for entry in timed], timed[1]["step"] - timed[0]["step"],
                 max(entry["memory"] for entry in steps), "lamina-gpt train " + " ".join(arguments))
    return {**row, "skipped_steps": timed[-1]["skipped"], "graph_nodes": log[-1]["graph_nodes"]}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=pathlib.Path, help="JSON, rewritten after each row")
    parser.add_argument("program", help="lamina-gpt")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["graph", "eager"])
    parser.add_argument("--peers", nargs="*", choices=gpt_step.VARIANTS, help="PyTorch, too")
    parser.add_argument("--quick", action="store_true",
                        help=f"{QUICK_INTERVALS} intervals and {gpt_step.QUICK_STEPS} steps of PyTorch, below the "
                        f"{MIN_STEPS} steps of a result: shows that it runs")
    parser.add_argument("--resume", action="store_true", help="go on with the result")
    parser.add_argument("--commit", default=output_of(["git", "rev-parse", "HEAD"]))
    args = parser.parse_args()
    if args.peers == []:
        args.peers = gpt_step.VARIANTS
    return args


def main():
    args = parse_arguments()
    intervals = QUICK_INTERVALS if args.quick else INTERVALS
    peer_steps = gpt_step.QUICK_STEPS if args.quick else gpt_step.STEPS
    rows, earlier = part_of_run(args.result, args.commit) if args.resume else ([], "")
    measured = {(row["case"], row["implementation"], row["variant"]) for row in rows}

    def add(name, implementation, variant, row_of):
        if (name, implementation, variant) in measured:
            return
        rows.append(row_of())
        print(line_of(rows[-1]), flush=True)
        write(args.result, rows, args.commit, earlier)

    for name in args.cases:
        for variant in args.variants:
            add(name, "lamina", variant, lambda: measure(args.program, name, variant, intervals))
        for variant in args.peers or ():
            add(name, "pytorch", variant, lambda: gpt_step.measure_apart(name, variant, peer_steps))


if __name__ == "__main__":
    main()
