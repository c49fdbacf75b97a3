# SPDX-License-Identifier: MIT
"""Writes the generated parts of README.md, docs/performance.md, docs/profiling.md and docs/tutorial.md: tables of results from the JSON
under benchmarks/results, and programs of examples/ with what they print. A part is what lies between
"<!-- NAME, written by benchmarks/readme.py -->" and the next "<!-- end -->"; a name with a slash is that of a file.

Usage: python3 benchmarks/readme.py [--check]     --check fails when one of them is not up to date
"""
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

FILES = ("README.md", "docs/performance.md", "docs/profiling.md", "docs/tutorial.md")
STEPS = ("nvidia-h200/training_step.json", "nvidia-h200/training_step_large.json")
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
    rows = []
    for cpu in (load("xeon-2-cores/toy_cpu.json"), load("epyc-2-cores/toy_cpu.json")):
        toy = cpu["runs"][0]
        name = cpu["machine"]["cpu"].replace("(R)", "").replace(" Processor", "")
        rows.append(("toy-cpu, 4 x 128, f32", f"{cpu['machine']['cores']} cores, {name}", speed(toy),
                     f"{toy['excess']:+.4f} ± {toy['excess_sigma']:.4f} nats over the floor of the corpus after "
                     f"{toy['steps']:,} steps, {toy['seconds']:.0f} s"))
    rows.append(("toy, 6 x 384, bf16, tinyshakespeare", "H200", speed(shakespeare["runs"][0]),
                 f"best validation loss {statistics.median(losses):.4f} (median of {len(losses)} seeds, "
                 f"{min(losses):.4f} to {max(losses):.4f})"))
    return table(("model", "machine", "speed", "outcome"), rows)


def layer_norm_cell(row):
    """Lamina's time, and that of the fastest other implementation with its name; "-": not measured."""
    if row is None:
        return "-"
    names = {"eager": "PyTorch", "compile": "torch.compile", "triton": "Triton", "liger": "Liger", "quack": "Quack"}
    ours = row["us"]["lamina"]["median"]
    others = {name: row["us"][name]["median"] for name in names if row["us"].get(name)}
    best = min(others, key=others.get)
    return f"**{ours:.1f}** / {others[best]:.1f} {names[best]}"


def layer_norm():
    ops = {"forward": "forward", "add_forward": "residual + forward", "forward_backward": "forward + backward"}
    document = load("nvidia-h200/layer_norm_peers.json")
    shapes = {}
    for row in document["rows"]:
        shapes.setdefault((row["dtype"], row["rows"], row["cols"]), {})[row["op"]] = row
    rows = [(f"{dtype} {rows} x {cols}", *(layer_norm_cell(found.get(op)) for op in ops),
             f"{found['forward']['copy']['median'] / found['forward']['us']['lamina']['median']:.0%}")
            for (dtype, rows, cols), found in shapes.items()]
    header = ("rows x cols", *(f"{title}, µs" for title in ops.values()), "forward / copy")
    return "\n".join([
        "![GB/s over the row size](docs/kernels/layer_norm_bf16_bandwidth.svg)", "", table(header, rows), "",
        f"Lamina / the fastest of the others. {document['machine']['gpu']}, driver {document['machine']['driver']}, "
        f"PyTorch {document['machine']['torch']}, {document['date']}; `{document['command']}`"])


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
            f"{document['commit'][:10]}; `{document['command']}`")


def steps():
    """What benchmarks/training_step.py measured."""
    return [load(name) for name in STEPS]


def training_step():
    """Lamina beside the fastest PyTorch, by case."""
    documents = steps()
    measured = [row for document in documents for row in document["rows"]]
    rows = []
    for case in CASES:
        ours, peer = (fastest(measured, case, name) for name in ("lamina", "pytorch"))
        if not ours:
            continue
        ratio = f"{peer['ms']['median'] / ours['ms']['median']:.2f}" if peer else ""
        memory = " / ".join(f"{row['peak_memory_bytes'] / 2**30:.1f}" for row in (ours, peer) if row)
        rows.append((TITLES[case], f"**{milliseconds(ours)}**", f"{ours['tokens_per_second'] / 1e3:,.0f} k",
                     f"{ours['mfu_measured_peak']:.1%} / {ours['mfu_datasheet']:.1%}",
                     f"{milliseconds(peer)} {peer['variant']}" if peer else "", ratio, memory))
    header = ("model, batch", "Lamina, ms/step", "tokens/s", "MFU of measured / datasheet peak",
              "fastest PyTorch measured, ms/step", "times faster", "peak memory, GiB")
    return "\n\n".join([table(header, rows), *map(origin, documents)])


def training_step_variants():
    """Every variant of every case, in ms per step."""
    measured = [row for document in steps() for row in document["rows"]]
    variants = list(dict.fromkeys((row["implementation"], row["variant"]) for row in measured))
    cases = [case for case in CASES if any(row["case"] == case for row in measured)]
    rows = [(f"{implementation} {variant}",
             *(milliseconds(fastest(measured, case, implementation, variant)) for case in cases))
            for implementation, variant in variants]
    return table(("ms/step", *(TITLES[case] for case in cases)), rows)


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


def loss_curve():
    """What tests/parity/loss_curve.py measured: means over 50 steps, and their largest differences."""
    document = load("nvidia-h200/loss_curve.json")
    loss, window = document["loss"], document["window"]

    def smoothed(name, end):
        return statistics.mean(loss[name][end - window:end])

    def largest(a, b, first, last):
        return max(abs(smoothed(a, end) - smoothed(b, end)) for end in range(first, last + 1))

    steps = len(loss["lamina"])
    rows = []
    for first, last in ((window, 199), (200, 449), (450, 699), (700, steps)):
        rows.append((f"{first} to {last}", *(f"{smoothed(name, last):.4f}" for name in loss),
                     *(f"{largest(a, b, first, last):.4f}" for a, b in itertools.combinations(loss, 2))))
    names = [name.replace("_", ", ").replace("lamina", "Lamina").replace("pytorch", "PyTorch") for name in loss]
    header = ("steps", *(f"{name}, last loss" for name in names),
              *(f"most between {a} and {b}" for a, b in itertools.combinations(names, 2)))
    return "\n\n".join([table(header, rows),
                        f"{document['machine']['gpu']}, PyTorch {document['torch']}, {document['date']}, commit "
                        f"{document['commit'][:10]}; {document['shape']}"])


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


PARTS = {"results": training, "layer_norm": layer_norm, "training_step": training_step,
         "training_step_variants": training_step_variants, "training_step_floor": training_step_floor, "generation": generation,
         "profile_overhead": profile_overhead, "loss_curve": loss_curve}


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
