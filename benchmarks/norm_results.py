# SPDX-License-Identifier: MIT
"""What benchmarks/peers/layer_norm.py measured, put together."""


def key_of(row):
    return row["op"], row["dtype"], row["rows"], row["cols"]


def add_earlier(document, earlier, name):
    """Adds the times of implementations that the document's run could not import, from an earlier run (None: there is
    none). One on another GPU, with another driver or PyTorch does not count. Returns which those are, and that they
    come from the file `name`; "" if none."""
    if earlier is None or earlier["machine"] != document["machine"]:
        return ""
    missing = [peer for peer in document.get("unavailable", ()) if peer in earlier["implementations"]]
    times = {key_of(row): row["us"] for row in earlier["rows"]}
    for row in document["rows"]:
        row["us"].update({peer: times.get(key_of(row), {}).get(peer) for peer in missing})
    return f"{' and '.join(missing)}: `{name}`, commit {earlier['commit'][:10]}" if missing else ""
