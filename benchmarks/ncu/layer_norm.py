# SPDX-License-Identifier: MIT
"""Checks with Nsight Compute that LayerNorm moves no more bytes from and to memory than it must.

Usage: python3 benchmarks/ncu/layer_norm.py LAYER_NORM_BENCH [RESULT.json] [--tolerance 0.03] ...

Runs layer_norm_bench (cold: operands rotate) under ncu and reads the DRAM counters of 24 kernels in the
steady state, where every call also writes back what earlier calls left in the cache; so the cache is not
flushed, and both counters come from one pass without replaying kernels. The least a call can move: each
operand read once and each result written once, cost() of core/kernels/layer_norm.h. Partial sums of the
backward pass are not in it: they should stay in the cache.

Exit status: 0 within the tolerance, 1 not, 77 if the counters cannot be read on this machine.
"""
import argparse
import csv
import datetime
import json
import pathlib
import shlex
import shutil
import subprocess
import sys

SKIPPED = 32  # kernels before the first that counts: more than there are sets of operands
COUNTED = 24  # a whole number of calls, if a call is 1, 2, 3 or 4 kernels
COUNTERS = ("dram__bytes_read.sum", "dram__bytes_write.sum")
UNAVAILABLE = ("ERR_NVGPUCTRPERM", "Failed to initialize the profiler", "LibraryNotLoaded")
ELEMENT_BYTES = {"bf16": 2, "f16": 2, "f32": 4}
# Matrices [rows, cols], vectors [cols] and vectors [rows], f32, that a call reads and writes.
OPERANDS = {"forward": (2, 2, 2), "add_forward": (4, 2, 2), "backward": (3, 3, 2)}
SHAPES = ((4096, 4096), (4096, 16384), (16384, 1024))


class Unavailable(Exception):
    """The counters cannot be read here; the text is the reason."""


def least_bytes(op, dtype, rows, cols):
    matrices, col_vectors, row_vectors = OPERANDS[op]
    return (matrices * rows + col_vectors) * cols * ELEMENT_BYTES[dtype] + row_vectors * rows * 4


def ncu_command(bench, op, dtype, rows, cols):
    return ["ncu", "--csv", "--page", "raw", "--print-units", "base", "--metrics", ",".join(COUNTERS),
            "--clock-control", "none", "--cache-control", "none", "--graph-profiling", "node",
            "--kernel-name-base", "demangled", "--kernel-name", "regex:row_norm::",
            "--launch-skip", str(SKIPPED), "--launch-count", str(COUNTED), "--kill", "yes",
            str(bench), "--shape", f"{rows}x{cols}", "--dtype", dtype, "--op", op, "--regime", "cold"]


def parse(output):
    """The kernels that ncu's --csv --page raw lists, in order of launch, without the line of units."""
    lines = [line for line in output.splitlines() if line.startswith('"')]
    kernels = [row for row in csv.DictReader(lines) if row["ID"]]
    return [{"name": row["Kernel Name"], **{counter: float(row[counter].replace(",", "")) for counter in COUNTERS}}
            for row in kernels]


def kernels_per_call(names):
    """The shortest period of the names."""
    return next(period for period in range(1, len(names) + 1)
                if all(a == b for a, b in zip(names, names[period:])))


def measure(bench, op, dtype, rows, cols):
    command = ncu_command(bench, op, dtype, rows, cols)
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    said = run.stdout + run.stderr
    for text in UNAVAILABLE:
        if text in said:
            raise Unavailable(next(line for line in said.splitlines() if text in line).strip())
    kernels = parse(run.stdout)
    period = kernels_per_call([kernel["name"] for kernel in kernels]) if kernels else 0
    if len(kernels) != COUNTED or COUNTED % period:
        sys.exit(f"ncu: {len(kernels)} kernels were counted with a period of {period}, expected {COUNTED} and a "
                 f"divisor of it; the command was {shlex.join(command)}\n{said[-2000:]}")
    calls = COUNTED // period
    read, written = (sum(kernel[counter] for kernel in kernels) / calls for counter in COUNTERS)
    least = least_bytes(op, dtype, rows, cols)
    return {"op": op, "dtype": dtype, "rows": rows, "cols": cols, "kernels_per_call": period, "calls": calls,
            "least_bytes": least, "dram_bytes_read": round(read), "dram_bytes_written": round(written),
            "ratio": round((read + written) / least, 4)}


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def parse_shape(text):
    rows, cols = (int(part) for part in text.split("x"))
    return rows, cols


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=pathlib.Path)
    parser.add_argument("result", nargs="?", type=pathlib.Path)
    parser.add_argument("--ops", nargs="+", choices=OPERANDS, default=list(OPERANDS))
    parser.add_argument("--shapes", nargs="+", type=parse_shape, default=SHAPES, metavar="ROWSxCOLS")
    parser.add_argument("--dtypes", nargs="+", choices=ELEMENT_BYTES, default=["bf16"])
    parser.add_argument("--tolerance", type=float, default=0.03, help="relative difference from the least bytes")
    parser.add_argument("--commit", default=output_of("git", "rev-parse", "HEAD"))
    args = parser.parse_args()
    if not shutil.which("ncu"):
        print("ncu: not on the PATH, expected Nsight Compute (part of the CUDA toolkit)")
        return 77

    gpu = output_of("nvidia-smi", "--id=0", "--query-gpu=name,driver_version", "--format=csv,noheader")
    document = {"what": "DRAM bytes of a call against the fewest it can move", "machine": gpu,
                "date": datetime.date.today().isoformat(), "ncu": output_of("ncu", "--version").splitlines()[-1:],
                "commit": args.commit,
                "command": shlex.join(ncu_command(args.bench.name, "OP", "DTYPE", "ROWS", "COLS")),
                "tolerance": args.tolerance, "rows": []}
    print(f"{'op':12} {'dtype':5} {'rows x cols':>14} {'least MB':>10} {'read MB':>10} {'written MB':>10} {'ratio':>7}")
    for dtype in args.dtypes:
        for op in args.ops:
            for rows, cols in args.shapes:
                try:
                    row = measure(args.bench, op, dtype, rows, cols)
                except Unavailable as error:
                    print(f"ncu: {error}; the counters cannot be read on this machine")
                    return 77
                document["rows"].append(row)
                print(f"{op:12} {dtype:5} {f'{rows} x {cols}':>14} {row['least_bytes'] / 1e6:10.2f} "
                      f"{row['dram_bytes_read'] / 1e6:10.2f} {row['dram_bytes_written'] / 1e6:10.2f} "
                      f"{row['ratio']:7.4f}", flush=True)
    if args.result:
        args.result.parent.mkdir(parents=True, exist_ok=True)
        args.result.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    outside = [row for row in document["rows"] if abs(row["ratio"] - 1) > args.tolerance]
    for row in outside:
        print(f"ncu: {row['op']} {row['dtype']} {row['rows']} x {row['cols']} moves {row['ratio']:.4f} times the "
              f"least bytes, expected within {args.tolerance:.0%}")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
