# SPDX-License-Identifier: MIT
"""GPT-2 between Lamina and transformers, both ways.

Usage: python3 tests/formats/hugging_face.py check PATH/TO/lamina-gpt PATH/TO/gpt2_parity PATH/TO/token_ids
       python3 tests/formats/hugging_face.py make tests/formats/gpt2

Needs transformers, tokenizers and safetensors (pip install). check: random models of three shapes go through
save_pretrained and `lamina-gpt import`, with and without the prefix, with mask buffers, and in several files; models
that lamina-gpt trained go through `lamina-gpt export` and AutoModelForCausalLM. Both must give the same logits, and
AutoTokenizer the same ids. make: the small model that tests/examples/hugging_face_test.cpp reads, with what PyTorch
computes from it: logits, loss, gradients, and weights after ten steps of AdamW.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

LIMIT = 1e-5  # relative norm of the difference
SHAPES = [{"n_layer": 2, "n_head": 2, "n_embd": 32, "vocab_size": 320, "n_positions": 24},
          {"n_layer": 3, "n_head": 3, "n_embd": 48, "vocab_size": 301, "n_positions": 17},  # not a multiple of 64
          {"n_layer": 1, "n_head": 4, "n_embd": 64, "vocab_size": 1000, "n_positions": 64}]
TEXT = "The cat and the hat, and 42 bats! We'll say: naïve café.\n\n  It's done.\t世界\n" * 50


def random_model(seed, **shape):
    torch.manual_seed(seed)
    config = GPT2Config(**shape, bos_token_id=0, eos_token_id=0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # every parameter must matter, biases and norms too
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def trained_tokenizer(size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    words = " ".join(f"word{i} {i * i}" for i in range(size))
    tokenizer.train_from_iterator([TEXT + words], trainers.BpeTrainer(
        vocab_size=size - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def relative(a, b):
    return (torch.linalg.vector_norm(a.double() - b.double()) / torch.linalg.vector_norm(b.double())).item()


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout


def lamina_logits(args, checkpoint, config, ids, folder):
    """Of a checkpoint of lamina-gpt."""
    weights = load_file(str(checkpoint))
    if not torch.all(weights["tokens.weight"][config.vocab_size:] == 0):
        sys.exit("hugging_face: rows that pad the embedding are not zero")
    weights["tokens.weight"] = weights["tokens.weight"][:config.vocab_size].contiguous()
    weights["ids"], weights["targets"] = ids.int(), ids.int().clone()
    source, target = folder / "in.safetensors", folder / "out.safetensors"
    save_file(weights, str(source))
    run(args.gpt2_parity, source, target, "cpu", "f32", config.n_layer, config.n_head)
    return load_file(str(target))["logits"]


class Results:
    def __init__(self):
        self.failed = False

    def note(self, what, error, limit=LIMIT):
        self.failed |= not error <= limit
        print(f"{what:58s} {error:.2e}  {'ok' if error <= limit else 'FAILED'}")


def same_ids(args, directory, tokenizer, folder):
    """Number of differences between token_ids and AutoTokenizer."""
    texts = [TEXT, "", " a  b ", "it's <|endoftext|> x"]
    paths = [folder / f"text{i}" for i in range(len(texts))]
    for path, text in zip(paths, texts):
        path.write_bytes(text.encode())
    lines = subprocess.run([args.token_ids, directory], input="".join(f"{path}\n" for path in paths), check=True,
                           capture_output=True, text=True).stdout.splitlines()
    differences = 0
    for text, line in zip(texts, lines):
        ids = tokenizer.encode(text, add_special_tokens=False)
        differences += " ".join(map(str, ids)) != line.strip() or tokenizer.decode(ids) != text
    return differences


def rewrite(directory, change):
    """Changes the tensors of model.safetensors."""
    path = str(directory / "model.safetensors")
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def with_masks(tensors):
    positions = tensors["transformer.wpe.weight"].shape[0]
    masks = {}
    for name in tensors:
        if name.endswith("attn.c_attn.bias"):
            stem = name[:-len("c_attn.bias")]
            masks[stem + "bias"] = torch.ones(1, 1, positions, positions).tril()
            masks[stem + "masked_bias"] = torch.tensor(-1e4)
    return tensors | masks | {"lm_head.weight": tensors["transformer.wte.weight"].clone()}


def check_import(args, results, folder):
    for number, shape in enumerate(SHAPES):
        model = random_model(number, **shape)
        tokenizer = trained_tokenizer(shape["vocab_size"])
        ids = torch.randint(shape["vocab_size"], (2, shape["n_positions"]))
        with torch.no_grad():
            expected = model(ids).logits
        variants = {"as saved": lambda tensors: tensors,
                    "without prefix": lambda tensors: {n.removeprefix("transformer."): t for n, t in tensors.items()},
                    "with masks and head": with_masks,
                    "in several files": None}
        for name, change in variants.items():
            directory = folder / f"model{number}_{name.replace(' ', '_')}"
            model.save_pretrained(directory, **({} if change else {"max_shard_size": "20KB"}))
            tokenizer.save_pretrained(directory)
            if change:
                rewrite(directory, change)
            elif not (directory / "model.safetensors.index.json").exists():
                sys.exit("hugging_face: the model is in one file, expected several")
            checkpoint = folder / f"{directory.name}.safetensors"
            run(args.lamina_gpt, "import", directory, "--out", checkpoint)
            logits = lamina_logits(args, checkpoint, model.config, ids, folder)
            results.note(f"import, shape {number}, {name}: logits", relative(logits, expected))
        results.note(f"import, shape {number}: ids of the tokenizer", same_ids(args, directory, tokenizer, folder), 0)
        back = folder / f"back{number}"
        run(args.lamina_gpt, "export", checkpoint, "--out", back)
        weights = AutoModelForCausalLM.from_pretrained(back).state_dict()
        results.note(f"import and export, shape {number}: weights",
                     max(relative(weights[name], value) for name, value in model.state_dict().items()), 0)
        results.note(f"import and export, shape {number}: ids", same_ids(args, back, AutoTokenizer.from_pretrained(back),
                                                                        folder), 0)


def check_export(args, results, folder):
    text = folder / "text.txt"
    text.write_text(TEXT * 4 + "<|endoftext|>")
    run(args.lamina_gpt, "tokenizer", "--text", text, "--vocab", 290, "--out", folder / "tokenizer.json")
    sizes = ["--device", "cpu", "--steps", 20, "--eval-batches", 1, "--samples", 0, "--batch", 4, "--context", 32]
    cases = {"corpus": ["--layers", 2, "--width", 32, "--heads", 2],
             "characters, no biases": ["--layers", 2, "--width", 48, "--heads", 3, "--text", text, "--bias=false"],
             "bytes": ["--layers", 1, "--width", 64, "--heads", 2, "--text", text, "--level", "byte"],
             "byte pairs": ["--layers", 3, "--width", 32, "--heads", 4, "--text", text, "--tokenizer",
                            folder / "tokenizer.json"]}
    for number, (name, options) in enumerate(cases.items()):
        trained, directory = folder / f"run{number}", folder / f"export{number}"
        run(args.lamina_gpt, "train", *sizes, *options, "--out", trained)
        checkpoint = sorted(trained.rglob("*.safetensors"))[0]
        run(args.lamina_gpt, "export", checkpoint, "--out", directory)
        model = AutoModelForCausalLM.from_pretrained(directory).eval()
        ids = torch.randint(model.config.vocab_size, (2, 32))
        with torch.no_grad():
            expected = model(ids).logits
        biases = folder / f"again{number}.safetensors"  # gpt2_parity wants them
        run(args.lamina_gpt, "import", directory, "--out", biases)
        plain = load_file(str(checkpoint))
        for key, value in load_file(str(biases)).items():
            rows = model.config.vocab_size if key == "tokens.weight" else len(value)
            expected_rows = plain[key][:rows] if key in plain else torch.zeros_like(value)
            if not torch.equal(value[:rows], expected_rows):
                results.note(f"export of {name}: {key}", 1, 0)
        results.note(f"export of {name}: logits", relative(lamina_logits(args, biases, model.config, ids, folder), expected))
        tokenizer = AutoTokenizer.from_pretrained(directory)
        if name == "corpus":
            sample = "Ada is in the mill.\nHer 3 red coins: 1 + 2 = 3."
            ids = tokenizer.encode(sample)
            wrong = [*ids] != [0 if c == "\n" else ord(c) - 31 for c in sample] or tokenizer.decode(ids) != sample
        else:
            wrong = any(tokenizer.decode(tokenizer.encode(part)) != part for part in (TEXT, "cat  hat\n"))
            if name == "bytes":
                wrong |= tokenizer.encode(TEXT) != list(TEXT.encode())
            elif name == "byte pairs":
                wrong |= same_ids(args, directory, tokenizer, folder) > 0
        results.note(f"export of {name}: ids of AutoTokenizer", int(wrong), 0)


def check(args):
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    results = Results()
    with tempfile.TemporaryDirectory() as name:
        check_import(args, results, pathlib.Path(name))
        check_export(args, results, pathlib.Path(name))
    return 1 if results.failed else 0


def make(args):
    directory = pathlib.Path(args.directory)
    model = random_model(7, n_layer=2, n_head=2, n_embd=16, vocab_size=101, n_positions=12)
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink()
    ids, targets = torch.randint(101, (3, 12)), torch.randint(101, (3, 12))
    expected = {"ids": ids.int(), "targets": targets.int()}
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    # A large eps: gradients that are zero but for rounding (the biases of keys) must not decide.
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                                  lr=1e-2, betas=(0.9, 0.95), eps=1e-3)
    for step in range(10):
        logits = model(ids).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            expected |= {"logits": logits.detach(), "loss": loss.detach().reshape(1)}
            expected |= {f"gradient.{name}": p.grad.clone() for name, p in model.named_parameters()}
        optimizer.step()
    expected |= {f"trained.{name}": p.detach() for name, p in model.named_parameters()}
    save_file({name: value.contiguous().clone() for name, value in expected.items()},
              str(directory / "expected.safetensors"))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    checking = commands.add_parser("check")
    for program in ("lamina_gpt", "gpt2_parity", "token_ids"):
        checking.add_argument(program)
    checking.set_defaults(run=check)
    making = commands.add_parser("make")
    making.add_argument("directory")
    making.set_defaults(run=make)
    args = parser.parse_args()
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
