# SPDX-License-Identifier: MIT
"""Reads what benchmarks/peers/layer_norm.py measured."""
import json


def load_norms(path):
    """The document, with the times of implementations that it could not import from an earlier run of the same
    harness on the same kind of GPU, NAME_earlier.json beside it, and with what those are as "earlier", "" if none."""
    document = json.loads(path.read_text(encoding="utf-8"))
    document["earlier"] = ""
    before = path.with_name(f"{path.stem}_earlier.json")
    if not before.exists():
        return document
    earlier = json.loads(before.read_text(encoding="utf-8"))
    names = [name for name in document["unavailable"] if name in earlier["implementations"]]
    times = {key_of(row): row["us"] for row in earlier["rows"]}
    for row in document["rows"]:
        for name in names:
            row["us"][name] = times.get(key_of(row), {}).get(name)
    if names:
        document["earlier"] = f"{' and '.join(names)}: `{before.name}`, commit {earlier['commit'][:10]}"
    return document


def key_of(row):
    return row["op"], row["dtype"], row["rows"], row["cols"]
