# SPDX-License-Identifier: MIT
"""Times LayerNorm on one GPU: Lamina's C functions, PyTorch eager, torch.compile, Triton, Liger, Quack.

Usage: python3 benchmarks/peers/layer_norm.py RESULT.json [--sweep] [--seconds S] [--resume] ...
       python3 benchmarks/peers/layer_norm.py --trace FILE.json[.gz]

All in one process with one harness. A figure is device time of one call: calls go round over K sets of
operands that together are at least four times the L2 cache, in one CUDA graph of 1 ms or more, whose
replays are timed by events; the result is the median of the replays with the 20th and 80th percentile.
Every implementation allocates its outputs, and they stay allocated until their set's turn comes again,
so that reads and writes both reach memory; scratch memory may be reused. Host time is not measured.
Results are compared with PyTorch's in f32 first: an implementation that is wrong gets no figure.

Operations: forward           y, mean and rstd of x                           at least 2 rows*cols elements moved
            add_forward       x + residual and its LayerNorm                  4
            backward          gradients of x, weight and bias from mean, rstd 3
            forward_backward  both, through autograd where there is one       5
"copy" beside them is the fastest of two copies that move as many bytes.
"""
import argparse
import datetime
import gzip
import json
import math
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import torch

from implementations import EPS, IMPLEMENTATIONS, Missing, Operands

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEVICE = "cuda"
MAX_SETS = 256
GRAPH_SECONDS = 1e-3  # a replay lasts at least this long, so that its start does not count
FASTEST_CALL_SECONDS = 2e-6  # what the shortest kernel takes
PEAK_BYTES_PER_SECOND = 4.8e12  # no call moves its bytes faster: bounds the calls of a graph
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
ELEMENTS_MOVED = {"forward": 2, "add_forward": 4, "backward": 3, "forward_backward": 5}
# Relative error (2-norm) of a result against f32: a few roundings to the type; sums in another order.
ERROR_LIMIT = {"bf16": 2e-2, "f16": 4e-3, "f32": 1e-4}
NO_TIME = "no time was left (--seconds)"

TABLE = [("bf16", rows, cols) for rows, cols in (
    (8192, 768), (4096, 1024), (16384, 1024), (4096, 2048), (4096, 4096), (2048, 5120), (4096, 8192),
    (4096, 16384), (1024, 32768))] + [("f32", rows, cols) for rows, cols in (
        (8192, 768), (4096, 4096), (4096, 16384))]
PLOT_COLS = (256, 512, 768, 1024, 1600, 2048, 4096, 5000, 5120, 8192, 12288, 16384, 32768)
# What the plots show comes first: --seconds cuts the end off.
SWEEP = ([("bf16", 4096, cols) for cols in PLOT_COLS] +
         [("f32", 4096, cols) for cols in PLOT_COLS] +
         [("bf16", rows, cols) for rows, cols in (
             (4096, 64), (4096, 128), (1, 4096), (16, 4096), (256, 768), (256, 4096), (65536, 768),
             (65536, 4096), (1024, 65536), (1, 65536))] +
         [("f16", rows, cols) for rows, cols in ((8192, 768), (4096, 4096), (1024, 32768))])


def reason_of(error):
    text = f"{type(error).__name__}: {error}" if not isinstance(error, Missing) else str(error)
    return text.replace(str(ROOT), ".").strip().splitlines()[0][:200]


def make_implementations(names):
    """Those that can be loaded, and the reasons why the others can not."""
    found, missing = {}, {}
    for name in names:
        try:
            found[name] = IMPLEMENTATIONS[name]()
        except Exception as error:  # a package that is broken in whatever way is not there
            missing[name] = reason_of(error)
            print(f"{name} is left out: {missing[name]}", flush=True)
    return found, missing


def reference(op, s):
    """The results in f32."""
    x, dy = s.x.float(), s.dy.float()
    if op == "add_forward":
        total = s.x + s.residual
        return total.float(), *torch.ops.aten.native_layer_norm(total.float(), s.weight.shape,
                                                                s.weight_f32, s.bias_f32, EPS)
    y, mean, rstd = torch.ops.aten.native_layer_norm(x, s.weight.shape, s.weight_f32, s.bias_f32, EPS)
    if op == "forward":
        return y, mean, rstd
    grads = torch.ops.aten.native_layer_norm_backward(
        dy, x, s.weight.shape, mean, rstd, s.weight_f32, s.bias_f32, [True] * 3)
    return grads if op == "backward" else (y, *grads)


def make_operands(dtype, rows, cols, sets):
    def normal(*shape):
        return torch.randn(*shape, dtype=DTYPES[dtype], device=DEVICE)

    weight, bias = normal(cols), normal(cols)
    operands = []
    for _ in range(sets):
        x = normal(rows, cols)
        wide = x.float()
        mean = wide.mean(1)
        rstd = (wide.var(1, correction=0) + EPS).rsqrt()
        operands.append(Operands(x, normal(rows, cols), normal(rows, cols), mean, rstd, weight, bias,
                                 weight.float(), bias.float()))
    return operands


def check(function, op, case):
    """Throws if a result of function (of those that it returns) is not close to the reference."""
    operands, = make_operands(*case, sets=1)  # new values: right results of others may lie in free memory
    limit = ERROR_LIMIT[case[0]]
    for i, (result, right) in enumerate(zip(function(operands), reference(op, operands))):
        if right.ndim == 2 and right.shape[1] == 1:
            continue  # mean and rstd show in y
        error = (torch.linalg.vector_norm(result.float().reshape(right.shape) - right) /
                 torch.linalg.vector_norm(right)).item()
        if not error <= limit:
            raise ArithmeticError(f"{op}: output {i} has a relative error of {error:.1e}, expected at most "
                                  f"{limit:.1e}")


def time_calls(calls, least_bytes, replays):
    """Device time of one of calls, thunks over distinct operands that return what must stay allocated."""
    seconds = max(least_bytes / PEAK_BYTES_PER_SECOND, FASTEST_CALL_SECONDS)
    count = math.ceil(max(GRAPH_SECONDS / seconds, 1) / len(calls)) * len(calls)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for call in calls[:2]:
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    outputs = [None] * len(calls)
    with torch.cuda.graph(graph, stream=stream):
        for i in range(count):
            outputs[i % len(calls)] = calls[i % len(calls)]()
    for _ in range(3):
        graph.replay()
    us = []
    for _ in range(replays):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        us.append(begin.elapsed_time(end) * 1e3 / count)
    us.sort()
    return {"median": round(statistics.median(us), 3), "p20": round(us[len(us) // 5], 3),
            "p80": round(us[len(us) * 4 // 5], 3), "calls_per_graph": count, "replays": replays}


def time_copy(total_bytes, sets, replays):
    """A copy that reads and writes total_bytes together: by the driver, and by a vectorised kernel."""
    count = max(total_bytes // 8, 1)
    sources = [torch.randn(count, device=DEVICE) for _ in range(sets)]
    ways = (lambda source: torch.empty_like(source).copy_(source), lambda source: source * 1.0)
    times = [time_calls([lambda way=way, source=source: way(source) for source in sources], total_bytes,
                        replays) for way in ways]
    return min(times, key=lambda result: result["median"])


def measure(case, ops, peers, replays, out_of_time):
    """One row of results for each op of one case."""
    dtype, rows, cols = case
    torch.compiler.reset()
    torch.cuda.empty_cache()
    matrix_bytes = rows * cols * torch.tensor([], dtype=DTYPES[dtype]).element_size()
    cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size
    sets = min(max(2, math.ceil(4 * cache_bytes / (2 * matrix_bytes)) + 1), MAX_SETS)
    operands = make_operands(dtype, rows, cols, sets)
    for op in ops:
        least_bytes = ELEMENTS_MOVED[op] * matrix_bytes
        row = {"op": op, "dtype": dtype, "rows": rows, "cols": cols, "least_bytes": least_bytes, "sets": sets,
               "cold": sets * 2 * matrix_bytes >= 4 * cache_bytes, "copy": None, "us": {}, "missing": {}}
        if out_of_time():
            return
        row["copy"] = time_copy(least_bytes, sets, replays)
        for name, peer in peers.items():
            try:
                if out_of_time():
                    raise Missing(NO_TIME)
                function = getattr(peer, op)
                check(function, op, case)
                row["us"][name] = time_calls([lambda s=s: function(s) for s in operands], least_bytes, replays)
            except Exception as error:  # whatever a peer throws: the others go on
                row["us"][name], row["missing"][name] = None, reason_of(error)
            torch.cuda.synchronize()  # throws if a peer has broken the device: nothing can go on then
        yield row


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine():
    gpu = torch.cuda.get_device_properties(0)
    query = output_of("nvidia-smi", "--id=0", "--format=csv,noheader",
                      "--query-gpu=driver_version,clocks.max.sm,clocks.max.mem").split(", ")
    driver, sm_clock, memory_clock = query if len(query) == 3 else ("", "", "")
    return {"gpu": gpu.name, "multiprocessors": gpu.multi_processor_count, "l2_bytes": gpu.L2_cache_size,
            "driver": driver, "max_sm_clock": sm_clock, "max_memory_clock": memory_clock,
            "cuda": torch.version.cuda, "torch": torch.__version__, "python": platform.python_version()}


def print_row(row):
    best = min((t["median"] for name, t in row["us"].items() if t and name != "lamina"), default=None)
    figures = "  ".join(f"{name} {t['median']:.2f}" if t else f"{name} -" for name, t in row["us"].items())
    ours = row["us"].get("lamina")
    verdict = f"  x{best / ours['median']:.2f}" if ours and best else ""
    copied = f"  {row['copy']['median'] / ours['median']:.1%} of copy" if ours else ""
    print(f"{row['op']:16} {row['dtype']:4} {row['rows']:5} x {row['cols']:5}  us: {figures}{verdict}{copied}",
          flush=True)


def write_trace(path, peers, commit):
    """A Chrome trace of forward and backward at 4096 x 4096 bf16: kernels and the names of the passes."""
    from torch.profiler import ProfilerActivity, profile, record_function
    operands = make_operands("bf16", 4096, 4096, 3)
    chosen = {name: peers[name] for name in ("lamina", "eager") if name in peers}
    for peer in chosen.values():
        peer.forward(operands[0])
        peer.backward(operands[0])
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for name, peer in chosen.items():
            for s in operands:
                for op in ("forward", "backward"):
                    with record_function(f"{name} {op}"):
                        getattr(peer, op)(s)
            torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(whole))
        document = json.loads(whole.read_text(encoding="utf-8"))
    device = {"kernel", "gpu_memcpy", "gpu_memset", "gpu_user_annotation"}
    events = [event for event in document["traceEvents"] if event.get("cat") in device]
    tracks = {event["pid"] for event in events}
    events += [event for event in document["traceEvents"]
               if event.get("ph") == "M" and event.get("pid") in tracks]
    text = json.dumps({"displayTimeUnit": "ns", "machine": machine(), "commit": commit,
                       "traceEvents": events}, separators=(",", ":")).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)
    print(f"{path}: {len(events)} events, {path.stat().st_size / 1e3:.0f} kB")


def parse_shape(text):
    rows, cols = (int(part) for part in text.split("x"))
    return rows, cols


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", nargs="?", type=pathlib.Path, help="JSON, rewritten after each row")
    parser.add_argument("--sweep", action="store_true", help="many sizes instead of the table's")
    parser.add_argument("--shapes", nargs="+", type=parse_shape, metavar="ROWSxCOLS", help="these instead")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES)
    parser.add_argument("--ops", nargs="+", choices=ELEMENTS_MOVED, default=list(ELEMENTS_MOVED))
    parser.add_argument("--peers", nargs="+", choices=IMPLEMENTATIONS, default=list(IMPLEMENTATIONS))
    parser.add_argument("--replays", type=int, default=15)
    parser.add_argument("--seconds", type=float, help="stop then (default 180, with --sweep 300)")
    parser.add_argument("--resume", action="store_true", help="keep the complete rows that RESULT has")
    parser.add_argument("--library", type=pathlib.Path, help="liblamina_kernels.so (default: of build/cuda)")
    parser.add_argument("--trace", type=pathlib.Path, help="write a Chrome trace (.json or .json.gz) and stop")
    parser.add_argument("--commit", default=output_of("git", "-C", str(ROOT), "rev-parse", "HEAD"))
    args = parser.parse_args()
    if not args.result and not args.trace:
        parser.error("expected RESULT.json or --trace FILE")
    args.seconds = args.seconds or (300.0 if args.sweep else 180.0)
    return args


def cases_of(args):
    if args.shapes:
        return [(dtype, *shape) for dtype in args.dtypes or ["bf16"] for shape in args.shapes]
    return [case for case in (SWEEP if args.sweep else TABLE) if not args.dtypes or case[0] in args.dtypes]


def command_line():
    parts = [str(pathlib.Path(part).name) if part.startswith("/") else part for part in sys.argv[1:]]
    return shlex.join(["python3", "benchmarks/peers/layer_norm.py", *parts])


def is_finished(row):
    return NO_TIME not in row["missing"].values()


def finished(document):
    """What need not be measured again: op, dtype, rows, cols."""
    return {(row["op"], row["dtype"], row["rows"], row["cols"]) for row in document["rows"] if is_finished(row)}


def kept_rows(args, document):
    """The finished rows of an earlier run on the same machine with the same versions."""
    if not args.resume or not args.result.exists():
        return []
    earlier = json.loads(args.result.read_text(encoding="utf-8"))
    for key in ("machine", "implementations", "commit"):
        if earlier[key] != document[key]:
            sys.exit(f"layer_norm: {args.result} has {key} {earlier[key]}, expected {document[key]} (--resume "
                     f"adds to results of one set-up); write to another file")
    return [row for row in earlier["rows"] if is_finished(row)]


def main():
    start = time.monotonic()
    args = parse_arguments()
    if not torch.cuda.is_available():
        sys.exit("layer_norm: PyTorch finds no GPU, expected one (every figure is device time)")
    torch.manual_seed(1337)
    if args.library:
        os.environ["LAMINA_KERNELS"] = str(args.library.resolve())
    peers, missing = make_implementations(args.peers)
    if args.trace:
        return write_trace(args.trace, peers, args.commit)

    document = {"what": __doc__.splitlines()[0], "machine": machine(), "date": datetime.date.today().isoformat(),
                "command": command_line(), "commit": args.commit,
                "implementations": {name: peer.note for name, peer in peers.items()}, "unavailable": missing,
                "complete": False, "rows": []}
    document["rows"] = kept_rows(args, document)
    cases, done = cases_of(args), finished(document)
    args.result.parent.mkdir(parents=True, exist_ok=True)

    def out_of_time():
        return time.monotonic() - start > args.seconds

    def write():
        args.result.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    for case in cases:
        try:
            ops = [op for op in args.ops if (op, *case) not in done]
            for row in measure(case, ops, peers, args.replays, out_of_time):
                document["rows"].append(row)
                print_row(row)
                write()
        except torch.OutOfMemoryError as error:
            print(f"{case} is left out: {reason_of(error)}", flush=True)
    document["complete"] = finished(document) >= {(op, *case) for case in cases for op in args.ops}
    document["seconds"] = round(time.monotonic() - start)
    write()
    if not document["complete"]:
        print(f"layer_norm: stopped after {document['seconds']} s with rows left; --resume continues")


if __name__ == "__main__":
    main()
