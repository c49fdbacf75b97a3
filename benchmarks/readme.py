# SPDX-License-Identifier: MIT
"""Writes the generated parts of README.md and of the pages named in FILES: tables of results from the JSON under
benchmarks/results, and programs of examples/ with what they print. A part is what lies between
"<!-- NAME, written by benchmarks/readme.py -->" and the next "<!-- end -->"; a name with a slash is that of a file.

Usage: python3 benchmarks/readme.py [--check]     --check fails when one of them is not up to date
"""
import collections
import itertools
import json
import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from gpt_cases import CASES, TITLES
from gpt_floor import parts
from norm_results import add_earlier, key_of

FILES = ("README.md", "docs/performance.md", "docs/profiling.md", "docs/tutorial.md", "docs/checkpoints.md",
         "docs/kernels/layer_norm.md", "docs/kernels/attention.md")
STEPS = tuple(f"nvidia-h200/training_step{part}.json" for part in ("", "_large", "_first", "_small", "_peers", "_xl"))
END = "<!-- end -->"


def load(name):
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))


def speed(result):
    ms = result["ms_per_step"]
    return (f"{ms['median']:.1f} ms/step ({ms['p10']:.1f} to {ms['p90']:.1f}), "
            f"{result['tokens_per_second'] / 1e3:,.0f} k tokens/s")


def table(header, rows):
    lines = ["| " + " | ".join(line) + " |" for line in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def training():
    shakespeare = load("nvidia-h200/shakespeare.json")
    losses = [result["best_val_loss"] for result in shakespeare["runs"]]
    seconds = [result["seconds"] for result in shakespeare["runs"]]
    rows = []
    for cpu in (load("xeon-2-cores/toy_cpu.json"), load("epyc-2-cores/toy_cpu.json")):
        toy = cpu["runs"][0]
        name = cpu["machine"]["cpu"].replace("(R)", "").replace(" Processor", "")
        rows.append(("toy-cpu, 4 x 128, f32", f"{cpu['machine']['cores']} cores, {name}", speed(toy),
                     f"{toy['excess']:+.4f} ± {toy['excess_sigma']:.4f} nats over the floor of the corpus after "
                     f"{toy['steps']:,} steps, {toy['seconds']:.0f} s"))
    rows.append(("toy, 6 x 384, bf16, tinyshakespeare", "H200", speed(shakespeare["runs"][0]),
                 f"best validation loss {statistics.median(losses):.4f} (median of {len(losses)} seeds, "
                 f"{min(losses):.4f} to {max(losses):.4f}) in {min(seconds):.1f} to {max(seconds):.1f} s"))
    return table(("model", "machine", "speed", "outcome"), rows)


def load_norms(name):
    """A run beside others, with times of an earlier one, and where those come from."""
    document = load(f"nvidia-h200/{name}.json")
    try:
        earlier = load(f"nvidia-h200/{name}_earlier.json")
    except FileNotFoundError:
        earlier = None
    source = add_earlier(document, earlier, f"{name}_earlier.json")
    return document, f" ({source})" if source else ""


def fastest_other_norm(row):
    """The name and the time of the fastest implementation beside Lamina; None when none was measured."""
    names = {"eager": "PyTorch", "compile": "torch.compile", "triton": "Triton", "liger": "Liger", "quack": "Quack"}
    others = [(names[key], row["us"][key]) for key in names if row["us"].get(key)]
    return min(others, key=lambda other: other[1]["median"], default=None)


def layer_norm_cell(row):
    """Lamina's time, and that of the fastest other implementation with its name; "-": not measured."""
    if row is None:
        return "-"
    name, timing = fastest_other_norm(row)
    us = row["us"]["lamina"]["median"]
    mark = "**" if us <= timing["median"] else ""
    return f"{mark}{us:.1f}{mark} / {timing['median']:.1f} {name}"


def layer_norm():
    ops = {"forward": "forward", "add_forward": "residual + forward", "forward_backward": "forward + backward"}
    document, earlier = load_norms("layer_norm_peers")
    shapes = {}
    for row in document["rows"]:
        shapes.setdefault((row["dtype"], row["rows"], row["cols"]), {})[row["op"]] = row
    rows = [(f"{dtype} {rows} x {cols}", *(layer_norm_cell(found.get(op)) for op in ops),
             f"{found['forward']['copy']['median'] / found['forward']['us']['lamina']['median']:.0%}")
            for (dtype, rows, cols), found in shapes.items()]
    header = ("rows x cols", *(f"{title}, µs" for title in ops.values()), "forward / copy")
    return "\n".join([
        "![GB/s over the row size](docs/kernels/layer_norm_bf16_bandwidth.svg)", "", table(header, rows), "",
        f"Lamina / the fastest of the others, in bold where Lamina's median is not above it. {document['machine']['gpu']}, driver {document['machine']['driver']}, "
        f"PyTorch {document['machine']['torch']}, {document['date']}, commit {document['commit'][:10]}; "
        f"`{document['command']}`{earlier}"])


NORM_TITLES = {"forward": "forward", "add_forward": "residual + forward",
               "dropout_add_forward": "dropout + residual + forward", "backward": "backward",
               "add_backward": "backward + dsum", "backward_column_sum": "backward + dsum + column_sum",
               "forward_backward": "forward + backward", "rms_forward": "RMSNorm forward", "rms_backward": "RMSNorm backward",
               "rms_add_forward": "residual + RMSNorm forward", "rms_add_backward": "RMSNorm backward + dsum"}
# Type, rows, columns: at most as many µs forward, and forward + backward.
NORM_TARGETS = (("bf16", 8192, 768, 8.2, 24), ("bf16", 16384, 1024, 19.0, 50), ("bf16", 4096, 2048, 10.0, 27),
                ("bf16", 4096, 4096, 19.2, 50), ("bf16", 2048, 5120, 13.0, 35), ("bf16", 4096, 8192, 36, 92),
                ("bf16", 4096, 16384, 70, 182), ("bf16", 1024, 32768, 38, 100), ("f32", 4096, 4096, 35, 90))
ADD_TARGET = ("add_forward", "bf16", 4096, 4096, 37)


def bench_norms():
    """What layer_norm_bench measured, in bf16 and in f32."""
    return [load(f"nvidia-h200/{name}") for name in ("layer_norm.json", "layer_norm_f32.json")]


def layer_norm_targets():
    """The targets beside both harnesses' medians."""
    ours = {key_of(row): row["us"] for document in bench_norms() for row in document["rows"]}
    peers = load("nvidia-h200/layer_norm_peers.json")
    beside = {key_of(row): row["us"]["lamina"]["median"] for row in peers["rows"]}

    def cell(us, target):
        return f"{us:.2f}, met" if us <= target else f"**{us:.2f}, {100 * (us / target - 1):.1f} % over**"

    targets = [(op, *shape, us) for *shape, forward, both in NORM_TARGETS
               for op, us in (("forward", forward), ("forward_backward", both))]
    rows = [(f"{dtype} {m} x {n}", NORM_TITLES[op], f"{target:g}", cell(ours[op, dtype, m, n], target),
             cell(beside[op, dtype, m, n], target)) for op, dtype, m, n, target in (*targets, ADD_TARGET)]
    commits = " and ".join(dict.fromkeys(document["commit"][:10] for document in bench_norms()))
    more = sorted((100 * (beside[key] / ours[key] - 1), key) for key in ours.keys() & beside.keys())
    op, dtype, m, n = more[-1][1]
    return "\n\n".join([
        table(("rows x cols", "operation", "target, µs", "layer_norm_bench, µs", "peers' harness, µs"), rows),
        f"{peers['machine']['gpu']}, medians. `layer_norm.json`, f32: `layer_norm_f32.json`, commit {commits}; `layer_norm_peers.json`, commit "
        f"{peers['commit'][:10]}. Over the {len(more)} cases that both have, the peers' harness gives {more[0][0]:+.1f} to "
        f"{more[-1][0]:+.1f} % (most: {NORM_TITLES[op]}, {dtype} {m} x {n}; next {more[-2][0]:+.1f} %)."])


def norm_share_target(row):
    """The share of a copy that was asked for."""
    if row["op"] in ("forward", "rms_forward"):
        return 95 if 768 <= row["cols"] <= 16384 and row["bytes"] >= 32e6 else 90
    if row["op"] in ("backward", "rms_backward"):
        return 90 if row["cols"] <= 8192 else 86
    return 90


def layer_norm_shares():
    """The time of each operation and its share of a copy of as many bytes."""
    measured = {key_of(row): row for document in bench_norms() for row in document["rows"]}

    def cell(row):
        if row is None:
            return ""
        text = f"{row['us']:.2f}, {row['percent_of_copy']:.1f} %"
        return text if row["percent_of_copy"] >= norm_share_target(row) else f"**{text}**"

    ops = [op for op in NORM_TITLES if op != "forward_backward"]  # of which no share was asked
    shapes = dict.fromkeys(key[1:] for key in measured)
    rows = [(f"{dtype} {m} x {n}", *(cell(measured.get((op, dtype, m, n))) for op in ops)) for dtype, m, n in shapes]
    sources = "; ".join(f"`{document['command']}`" for document in bench_norms())
    return "\n\n".join([table(("rows x cols", *(NORM_TITLES[op] for op in ops)), rows),
                        f"{bench_norms()[0]['machine']['gpu']}, µs and share of a copy, in bold below what was asked. {sources}"])


def layer_norm_sweep_shares():
    """Of the cases of the peers' harness with 256 rows and 32 MB or more, those below the share that was asked for."""
    cases, below = set(), {}
    for name in ("layer_norm_sweep", "layer_norm_peers"):
        for row in load(f"nvidia-h200/{name}.json")["rows"]:
            if row["rows"] < 256 or row["least_bytes"] < 32e6 or row["op"] == "forward_backward" or key_of(row) in cases:
                continue
            cases.add(key_of(row))
            share = 100 * row["copy"]["median"] / row["us"]["lamina"]["median"]
            if share < norm_share_target({**row, "bytes": row["least_bytes"]}):
                below.setdefault((row["dtype"], row["op"]), []).append(f"{row['rows']} x {row['cols']} {share:.0f} %")
    rows = [(dtype, NORM_TITLES[op], ", ".join(cells)) for (dtype, op), cells in sorted(below.items())]
    return "\n\n".join([table(("type", "operation", "below the share that was asked for"), rows),
                        f"{sum(map(len, below.values()))} of {len(cases)} cases, `layer_norm_sweep.json` and `layer_norm_peers.json`."])


def layer_norm_gaps():
    """What one operation takes beyond another, in bf16."""
    document = bench_norms()[0]
    measured = {key_of(row): row for row in document["rows"]}

    def line(m, n):
        def us(op, name="us"):
            return measured[op, "bf16", m, n][name]

        drop = us("dropout_add_forward") - us("add_forward")
        return (f"{m} x {n}", *(f"{us(op) - us(op, 'copy_us'):.1f}" for op in ("backward", "add_backward")),
                f"{us('backward') - us('rms_backward'):.1f}", f"{us('forward') - us('rms_forward'):.2f}", f"{drop:.1f}",
                f"{1e6 * drop / (m * n):.2f}")

    shapes = dict.fromkeys((row["rows"], row["cols"]) for row in document["rows"])
    return table(("bf16", "backward less a copy", "backward + dsum less a copy", "backward less RMSNorm's",
                  "forward less RMSNorm's", "dropout", "dropout, a million elements"), [line(m, n) for m, n in shapes])


def best_policy(row):
    """The fastest policy that layer_norm_sweep measured for the operands of a row, and of how many; "": none."""
    wanted = (row["op"].split("_")[-1], row["rows"], row["cols"], {"bf16": 2, "f32": 4}.get(row["dtype"]),
              row["op"] == "add_forward", False)
    for problem in load("nvidia-h200/layer_norm_tuning.json")["problems"]:
        if row["op"] != "forward_backward" and wanted == tuple(problem[name] for name in (
                "pass", "rows", "cols", "element_bytes", "has_residual", "has_tail")):
            return f"{min(point[1] for point in problem['points']):.2f} of {len(problem['points'])}"
    return ""


def layer_norm_slower():
    """Every case in which the fastest other implementation is faster by more than the spread."""
    rows, cases, sources = [], 0, []
    for file in ("layer_norm_peers", "layer_norm_sweep"):
        document, earlier = load_norms(file)
        sources.append(f"`{file}.json`, commit {document['commit'][:10]}{earlier}")
        for row in document["rows"]:
            ours, other = row["us"].get("lamina"), fastest_other_norm(row)
            if not ours or not other:
                continue
            cases += 1
            name, peer = other
            if ours["p20"] > peer["p80"]:
                rows.append((row["op"], f"{row['dtype']} {row['rows']} x {row['cols']}", ours, peer, name,
                             "peers" if "peers" in file else "sweep", best_policy(row)))
    rows.sort(key=lambda row: list(NORM_TITLES).index(row[0]))  # stable

    def times(timing):
        return f"{timing['median']:.2f} ({timing['p20']:.2f} to {timing['p80']:.2f})"

    lines = [(NORM_TITLES[op], shape, times(ours), f"{times(peer)} {name}",
              f"{100 * (ours['median'] / peer['median'] - 1):.1f} %", source, policy)
             for op, shape, ours, peer, name, source, policy in rows]
    header = ("operation", "rows x cols", "Lamina, µs", "fastest other, µs", "slower by", "file", "best policy, µs, of how many")
    return "\n\n".join([table(header, lines),
                        f"{document['machine']['gpu']}, {len(lines)} of {cases} cases. Median (20th to 80th percentile of the replays); sweep and peers: "
                        f"{' and '.join(reversed(sources))}."])


def layer_norm_tuning():
    """The runs that the table of policies comes from."""
    document = load("nvidia-h200/layer_norm_tuning.json")
    count = collections.Counter((problem["run"], problem["pass"]) for problem in document["problems"])
    rows = [(run["date"], run["commit"][:10], f"`{run['command']}`",
             " and ".join(f"{n} {name}" for (i, name), n in sorted(count.items()) if i == index))
            for index, run in enumerate(document["runs"]) if any(i == index for i, _ in count)]
    return table(("date", "commit", "command", "problems"), rows)


def norms_in_step():
    """The norms' time in a step, before and now, by benchmarks/step_profile.py."""
    documents = {"before": load("nvidia-h200/step_profile_before.json"), "now": load("nvidia-h200/step_profile.json")}
    rows, commands = [], {}
    for case in ("gpt2-16", "gpt2-64"):
        for when, document in documents.items():
            run = next(run for run in document["runs"] if run["case"] == case)
            forward, backward = (run["kernels"][name]["ms"] for name in ("layer_norm forward", "layer_norm_backward backward"))
            rows.append((f"{case.removeprefix('gpt2-')} x 1024", when,
                         *(f"{ms:.2f}" for ms in (forward, backward, run["ms_of_norms"], run["ms_of_kernels"]))))
            commands[when] = run["command"]  # of the last case
    return "\n\n".join([table(("tokens", "", "norms forward, ms", "backward, ms", "all norms, ms", "all kernels, ms"), rows),
                        "\n".join(f"{when.capitalize()}: {origin({**document, 'rows': [], 'command': commands[when]})}."
                                  for when, document in documents.items())])


def attention():
    """What benchmarks/peers/attention.py measured."""
    document = load("nvidia-h200/attention.json")

    def cell(row, name):
        return f"{row[name]['us']:.1f}" if "us" in row[name] else "-"

    rows = []
    for row in document["rows"]:
        shape = row["shape"]
        size = " x ".join(str(shape[name]) for name in ("batch", "time", "heads", "head_size"))
        options = [text for text, used in (("causal", shape["causal"]),
                                           (f"dropout {shape['drop_percent'] / 100:g}", shape["drop_percent"])) if used]
        others = [row[name]["us"] for name in ("flash", "cudnn") if "us" in row[name]]
        ratio = f"{min(others) / row['lamina']['us']:.2f}" if others else "-"
        rows.append((", ".join([size, *options]), "backward" if row["backward"] else "forward",
                     f"**{cell(row, 'lamina')}**", f"{row['lamina']['tflops']:.0f}", cell(row, "flash"),
                     cell(row, "cudnn"), ratio))
    spread = max(row[name]["variation"] for row in document["rows"] for name in ("lamina", "flash", "cudnn")
                 if "us" in row[name])
    return "\n\n".join([table(("batch x time x heads x head size", "pass", "Lamina, µs", "TFLOP/s", "FlashAttention 2, µs",
                               "cuDNN, µs", "faster of both / Lamina"), rows),
                        f"bf16; coefficient of variation at most {100 * spread:.1f} %. "
                        + origin({**document, "rows": [{"torch": document["torch"]}]})])


def fastest(rows, case, implementation, variant=""):
    """The fastest row of a case, or None."""
    found = [row for row in rows if row["ms"] and (row["case"], row["implementation"]) == (case, implementation)
             and row["variant"].startswith(variant)]
    return min(found, key=lambda row: row["ms"]["median"], default=None)


def milliseconds(row):
    return f"{row['ms']['median']:.2f} ({row['ms']['p10']:.2f} to {row['ms']['p90']:.2f})" if row else ""


def origin(document):
    versions = sorted({f", PyTorch {row['torch']}" for row in document["rows"] if "torch" in row})
    return (f"{document['machine']['gpu']}{''.join(versions)}, {document['date']}, commit "
            f"{document['commit'][:10]}; `{document['command']}`"
            + (f" ({document['note']})" if "note" in document else ""))


def steps():
    """What benchmarks/training_step.py measured."""
    return [load(name) for name in STEPS]


def training_step():
    """Lamina beside the fastest PyTorch of the same run, by case, and the fastest of the other runs."""
    used, rows = [], []
    for case in CASES:
        document = next((run for run in steps() if fastest(run["rows"], case, "lamina")), None)
        if not document:
            continue
        used += [] if document in used else [document]
        ours, peer = (fastest(document["rows"], case, name) for name in ("lamina", "pytorch"))
        other = fastest([row for run in steps() if run != document for row in run["rows"]], case, "pytorch")
        ratio = f"{peer['ms']['median'] / ours['ms']['median']:.2f}" if peer else ""
        memory = " / ".join(f"{row['peak_memory_bytes'] / 2**30:.1f}" for row in (ours, peer) if row)
        rows.append((TITLES[case], document["commit"][:7], f"**{milliseconds(ours)}**", f"{ours['tokens_per_second'] / 1e3:,.0f} k",
                     f"{ours['mfu_measured_peak']:.1%} / {ours['mfu_datasheet']:.1%}",
                     f"{milliseconds(peer)} {peer['variant']}" if peer else "", ratio,
                     f"{other['ms']['median']:.2f} {other['variant']}" if other else "", memory))
    header = ("model, batch", "commit", "Lamina, ms/step", "tokens/s", "MFU of measured / datasheet peak",
              "fastest PyTorch, ms/step", "times faster", "fastest PyTorch of other runs", "peak memory, GiB")
    return "\n\n".join([table(header, rows), *map(origin, used)])


def training_step_variants():
    """Every variant of every case, in ms per step, run by run."""
    runs = [(case, document) for case in CASES for document in steps()
            if any(row["case"] == case for row in document["rows"])]
    variants = list(dict.fromkeys((row["implementation"], row["variant"]) for document in steps()
                                  for row in document["rows"]))
    rows = [(TITLES[case], document["commit"][:7],
             *(milliseconds(fastest(document["rows"], case, *variant)) for variant in variants))
            for case, document in runs]
    return table(("ms/step", "commit", *map(" ".join, variants)), rows)


def training_step_memory():
    """What the options that save memory cost."""
    document = load("nvidia-h200/training_step_memory.json")
    usual = next(row for row in document["rows"] if row["variant"] == "graph")
    options = {"graph": "", "recompute-norm-gelu": "--recompute=norm,gelu", "recompute": "--recompute"}
    rows = [(options.get(row["variant"]) or row["variant"].replace("logits-", "--logit-rows ").replace("graph", "none"),
             milliseconds(row), f"{100 * (row['ms']['median'] / usual['ms']['median'] - 1):+.1f} %",
             f"{row['peak_memory_bytes'] / 2**30:.1f}") for row in document["rows"]]
    return "\n\n".join([table((f"{TITLES[usual['case']]}: option", "ms/step", "more time", "peak memory, GiB"), rows),
                        origin(document)])


def training_step_floor():
    """FLOPs, bytes and floor of each part, for two batches."""
    cases = ("gpt2_b16", "gpt2_b64")
    columns = [parts(CASES[case]) for case in cases]

    def cells(flops, moved, ms):
        return f"{flops * 1e-12:.2f}" if flops else "", f"{moved * 1e-9:.2f}", f"{ms:.2f}"

    rows = [(same[0].name, *(text for part in same for text in cells(part.flops, part.bytes, part.ms)))
            for same in zip(*columns)]
    totals = [cells(*(sum(getattr(part, name) for part in column) for name in ("flops", "bytes", "ms")))
              for column in columns]
    rows.append(("**all**", *(f"**{text}**" for total in totals for text in total)))
    header = ("part, all layers together",
              *(f"{CASES[case].batch} x {CASES[case].context}: {unit}" for case in cases
                for unit in ("TFLOP", "GB", "ms")))
    return table(header, rows)


def generation():
    """What generation_bench measured."""
    document = load("nvidia-h200/generation.json")
    rows = [(row["name"], f"{row['tokens_per_second']:,.0f}",
             f"{1e6 * row['seconds']['median'] / row['new_tokens']:.0f}") for row in document["rows"]]
    machine = document["machine"]
    return "\n\n".join([table(("streams", "tokens/s", "µs a step"), rows),
                        f"{machine['gpu']}, driver {machine['driver']}, {document['date']}, commit "
                        f"{document['commit'][:10]}; `{document['command']}`"])


def checkpoint_stall():
    """What benchmarks/checkpoint_stall.py measured."""
    document = load("nvidia-h200/checkpoint_stall.json")
    after = document["step_after_checkpoint_ms"]
    return (f"A checkpoint of {document['parameters'] / 1e6:.0f} M parameters in {document['dtype']} has "
            f"{document['checkpoint_bytes'] / 1e9:.2f} GB. The step behind it took {after['median']:.1f} ms (at most "
            f"{after['most']:.1f}) where others took {document['step_ms']:.1f}: {document['stall_steps']:.2f} of a step "
            f"({document['checkpoints']} checkpoints; {origin({**document, 'rows': []})}, measured by "
            "`python3 benchmarks/checkpoint_stall.py`).")


def start_up():
    """What benchmarks/start_up.py measured."""
    document = load("nvidia-h200/start_up.json")
    return (f"From the start of the process to the end of the first step GPT-2 124M, 16 x 1024 tokens, takes "
            f"{document['cold_s']:.1f} s when the plans of matrix products have to be timed, and "
            f"{document['warm_s']['median']:.1f} s with those in the user's cache directory (median of "
            f"{len(document['warm_s']['all'])}). {origin({**document, 'rows': []})}, measured by "
            "`python3 benchmarks/start_up.py`.")


def profile_check():
    """What benchmarks/profile_check.py measured."""
    document = load("nvidia-h200/profile_check.json")
    profile, rested, trace, ncu = (document[name] for name in ("profile", "rested", "trace", "ncu"))

    def cells(one, other):
        return f"{1e3 * one:.1f}", f"{1e3 * other:.1f}", f"{one / other - 1:+.1%}"

    rows = [(layer, *cells(profile["layers_ms"][layer], trace["layers_ms"][layer]),
             *cells(rested["layers_ms"][layer], ncu[layer]["ms"])) for layer in ncu]
    rows.append(("all", *cells(profile["named_ms"], trace["all_ms"]), "", "", ""))
    header = ("µs in a step", "rows of `--profile`", "kernels of the trace", "difference",
              "rows, with a pause before each step", "kernels by ncu", "difference")
    file = trace["file"]
    said = (f"A step without the profile took {1e3 * profile['step_ms']:,.0f} µs: coverage {profile['coverage']:.1%}, and "
            f"the trace's kernels are {trace['all_ms'] / profile['step_ms']:.1%} of it. The trace of {file['steps']} steps has "
            f"{file['bytes'] / 1e6:.1f} MB and was written in {file['written_s']:.2f} s.")
    return "\n\n".join([table(header, rows), said, origin({**document, "rows": []})])


def profile_example():
    """The worked example of docs/profiling.md: a norm of GPT-2 124M, 16 x 1024 tokens."""
    document = load("nvidia-h200/profile_check.json")
    copy, tensor = 4300e9, 16384 * 768 * 2  # bytes/s and bytes
    moved = 2 * (4 * tensor + 2 * 16384 * 4 + 2 * 768 * 2)  # both passes: four tensors, statistics, weights
    us = 1e3 * document["profile"]["layers_ms"]["blocks.5.norm_1"]
    least = 1e6 * moved / copy
    return (f"So a row `blocks.5.norm_1` of t µs shows {moved / 1e6:.1f} / t TB/s and {least:.1f} / t of limit, and reaching the "
            f"limit would make the step t - {least:.1f} µs shorter. On an H200 t was {us:.1f} µs: {moved / us * 1e-6:.2f} TB/s, "
            f"{least / us:.0%} of the limit. With 24 such rows and the last norm there is "
            f"{25e-3 * (us - least):.2f} ms to gain at most, of a step of {document['profile']['step_ms']:.1f} ms "
            f"(commit {document['commit'][:10]}, `profile_check.json`).")


def loss_curve():
    """What tests/parity/loss_curve.py measured: of each run the largest differences between means over 50 steps, and
    those between two runs that differ in Lamina's residual stream only, so that PyTorch did the same twice."""
    runs = [run for name in ("nvidia-h200", "epyc-2-cores") for run in load(f"{name}/loss_curve.json")["runs"]]
    rows, repeated = [], []

    def means(losses, window):
        return [statistics.mean(losses[end - window:end]) for end in range(window, len(losses) + 1)]

    def distance(a, b):
        return f"{max(abs(x - y) for x, y in zip(a, b)):.4f}"

    def first_steps(a, b):
        """The steps whose losses are the first to differ by so much."""
        differences = [abs(x - y) for x, y in zip(a, b)]
        return ", ".join(str(next((step for step, difference in enumerate(differences) if difference > least), "-"))
                         for least in (1e-5, 1e-4, 1e-3, 1e-2))

    for run in runs:
        loss, window, settings = run["loss"], run["window"], run["settings"]
        smooth = run["smooth"] = {name: means(losses, window) for name, losses in loss.items()}
        above = [window + at for at, (x, y) in enumerate(zip(smooth["lamina"], smooth["pytorch_flash"]))
                 if abs(x - y) > run["limit"]]
        run["title"] = (f"{settings['layers']} x {settings['width']}, {settings['batch']} x {settings['context']} tokens, "
                        f"{settings['dtype']}, rate {settings['lr']:g}, seed {settings['seed']}")
        rows.append((f"{run['title']}, residual {settings['residual']}",
                     run["machine"]["gpu"].split(",")[0] or f"{run['machine']['cpu']} (CPU)", run["commit"][:7],
                     *(distance(smooth[a], smooth[b]) for a, b in itertools.combinations(loss, 2)),
                     f"{above[0]} to {above[-1]}" if above else "none",
                     first_steps(loss["lamina"], loss["pytorch_flash"]), first_steps(loss["pytorch_flash"], loss["pytorch_math"]),
                     " / ".join(f"{mean[-1]:.4f}" for mean in smooth.values())))
    for one, other in itertools.combinations(runs, 2):
        if one["title"] == other["title"] and one["machine"]["gpu"] == other["machine"]["gpu"]:
            repeated.append((one["title"], *(distance(one["smooth"][name], other["smooth"][name]) for name in one["smooth"]),
                             *(first_steps(one["loss"][name], other["loss"][name]) for name in ("pytorch_flash", "pytorch_math"))))
    first = "losses differ by 1e-5, 1e-4, 1e-3, 1e-2 from step"
    header = ("run", "machine", "commit", "Lamina and flash", "Lamina and math", "flash and math",
              "steps of the first difference above the limit", f"single {first}, Lamina and flash", "those of flash and math",
              "last losses")
    commands = "; ".join(f"`{run['command']}`" for run in runs if "command" in run)
    versions = ", ".join(dict.fromkeys(f"PyTorch {run['torch']}" for run in runs))
    dates = sorted(run["date"] for run in runs)
    return "\n\n".join([table(header, rows), f"{versions}, {dates[0]} to {dates[-1]}; {commands}",
                        table(("two runs", "Lamina, residual same and f32", "PyTorch flash, the same twice",
                               "PyTorch math, the same twice", f"single {first}, flash twice", "those of math twice"), repeated)])


def profile_overhead():
    """What benchmarks/profile_overhead.py measured."""
    document = load("nvidia-h200/profile_overhead.json")

    def percent(figure):
        return f"{100 * figure['median']:.2f} ({100 * figure['least']:.2f} to {100 * figure['greatest']:.2f})"

    every = document["rows"][0]["every"]
    rows = [(TITLES[row["case"]], f"{row['kernels_per_step']:.0f}", f"{row['step_ms']['median']:.2f}",
             percent(row["sampled_step"]), percent(row["amortised"]), f"{100 * row['from_samples']:.3f}",
             f"{100 * row['coverage']['median']:.1f}") for row in document["rows"]]
    header = ("model", "calls a step", "ms/step", "a sampled step takes more, %", f"a run with a sample every {every} steps takes more, %",
              "the same from the samples, %", "coverage, %")
    return "\n\n".join([table(header, rows), origin(document)])


def contents(name):
    """A file as a block, a source without the licence and the comment that opens it."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    if name.endswith(".txt"):
        return "\n".join(["```", *lines, "```"])
    return "\n".join(["```cpp", *itertools.dropwhile(lambda line: line.startswith("//"), lines), "```"])


PARTS = {"results": training, "layer_norm": layer_norm, "layer_norm_targets": layer_norm_targets,
         "layer_norm_shares": layer_norm_shares, "layer_norm_gaps": layer_norm_gaps,
         "layer_norm_sweep_shares": layer_norm_sweep_shares, "layer_norm_slower": layer_norm_slower, "layer_norm_tuning": layer_norm_tuning,
         "training_step": training_step,
         "training_step_variants": training_step_variants, "training_step_memory": training_step_memory,
         "training_step_floor": training_step_floor, "generation": generation,
         "profile_overhead": profile_overhead, "profile_check": profile_check,
         "profile_example": profile_example, "checkpoint_stall": checkpoint_stall, "start_up": start_up, "loss_curve": loss_curve,
         "norms_in_step": norms_in_step, "attention": attention}


def generate(text):
    """A file's text with its parts written anew."""
    begin = re.compile(r"<!-- ([\w./]+), written by benchmarks/readme.py -->\n")
    pieces = begin.split(text)  # text, name, text, name, text, ...
    new = pieces[0]
    for name, rest in zip(pieces[1::2], pieces[2::2]):
        part = contents(name) if "/" in name else PARTS[name]()
        new += f"<!-- {name}, written by benchmarks/readme.py -->\n{part}\n{END}{rest.split(END, 1)[1]}"
    return new


def main():
    for name in FILES:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        new = generate(text)
        if "--check" not in sys.argv[1:]:
            path.write_text(new, encoding="utf-8")
        elif new != text:
            sys.exit(f"readme: {name} is not what benchmarks/readme.py writes; run it")


if __name__ == "__main__":
    main()
