// SPDX-License-Identifier: MIT
#include "examples/gpt/options_table.h"

#include "core/text.h"

#include <algorithm>

namespace lamina::gpt {

namespace {

constexpr unsigned kTrain = static_cast<unsigned>(Command::train);
constexpr unsigned kSample = static_cast<unsigned>(Command::sample);
constexpr unsigned kEval = static_cast<unsigned>(Command::eval);
constexpr unsigned kDoctor = static_cast<unsigned>(Command::doctor);
constexpr unsigned kProfile = static_cast<unsigned>(Command::profile);
constexpr unsigned kReport = static_cast<unsigned>(Command::report);
constexpr unsigned kTokenizer = static_cast<unsigned>(Command::tokenizer);
constexpr unsigned kImport = static_cast<unsigned>(Command::import_gpt2);
constexpr unsigned kExport = static_cast<unsigned>(Command::export_gpt2);
constexpr unsigned kPrepare = static_cast<unsigned>(Command::prepare);
constexpr unsigned kInspect = static_cast<unsigned>(Command::inspect);
constexpr unsigned kTrainStep = kTrain | kProfile;  // what a training step depends on
constexpr unsigned kAll = kTrainStep | kSample | kEval | kDoctor;

/// A spec with the words that its value may be, separated by '|'.
Spec one_of(Spec spec, std::string_view words) {
  while (!words.empty()) {
    const std::size_t end = std::min(words.find('|'), words.size());
    spec.choices.push_back(words.substr(0, end));
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return spec;
}

}  // namespace

const std::vector<Spec>& specs() {
  using O = Options;
  static const std::vector<Spec> table = {
      one_of({"", "preset", "NAME",
              "toy-cpu, toy, gpt2, gpt2-medium, gpt2-large or gpt2-xl (default: toy on a GPU, else "
              "toy-cpu)",
              kTrainStep, &O::preset},
             "toy-cpu|toy|gpt2|gpt2-medium|gpt2-large|gpt2-xl"),
      {"", "config", "FILE", "JSON object of options; flags count more", kTrainStep, &O::config},
      {"", "device", "DEVICE", "auto, cpu, cuda or cuda:N", kAll, &O::device},
      {"", "threads", "N", "CPU threads; 0: one per core", kAll | kPrepare, &O::threads, 0, 4096},
      {"", "seed", "N",
       "of weights, dropout, samples and the order of data (the built-in corpus has one order)",
       kTrainStep | kSample | kEval, &O::seed, 0, 9e15},
      one_of({"Data", "corpus", "NAME", "built-in text: easy or standard", kTrainStep | kEval,
              &O::corpus},
             "easy|standard"),
      {"Data", "text", "FILE...", "your own text instead: 90% to train on, the rest to validate",
       kTrainStep | kEval, &O::text},
      {"Data", "text", "FILE...", "what the tokenizer learns from", kTokenizer, &O::text},
      {"Data", "text", "FILE...", "texts; <|endoftext|> goes after each where it is a token",
       kPrepare, &O::text},
      {"Data", "data", "DIR",
       "tokens in *train*.bin and *val*.bin instead, as prepare, nanoGPT and llm.c write them",
       kTrainStep | kEval, &O::data},
      {"Data", "vocab", "N", "tokens at most: 256 bytes, merges, <|endoftext|>", kTokenizer,
       &O::vocab, 257, 1e6},
      one_of({"Data", "level", "LEVEL", "what a token of --text is: character or byte",
              kTrainStep | kPrepare, &O::level},
             "character|byte"),
      {"Data", "tokenizer", "FILE",
       "byte-pair tokens of --text instead: a tokenizer.json, a merges.txt, or a directory with "
       "one",
       kTrainStep | kPrepare, &O::tokenizer},
      {"Data", "validation", "X", "fraction of the text to validate, from its end", kPrepare,
       &O::validation, 0, 0.9, true},
      {"Data", "random-tokens", "", "uniformly random tokens, to measure speed", kTrainStep,
       &O::random_tokens},
      {"Model", "from", "RUN",
       "start with the model and the vocabulary of a run or a .safetensors file of lamina-gpt",
       kTrain, &O::from},
      {"Model", "layers", "N", "blocks", kTrainStep, &O::layers, 1, 1000},
      {"Model", "heads", "N", "attention heads; divides --width", kTrainStep, &O::heads, 1, 1000},
      {"Model", "width", "N", "features per position", kTrainStep, &O::width, 1, 65536},
      {"Model", "context", "N", "positions, in tokens", kTrainStep, &O::context, 2, 65536},
      {"Model", "dropout", "P", "probability in [0, 1)", kTrainStep, &O::dropout, 0, 0.999},
      {"Model", "bias", "", "biases in linear layers and norms; --bias=false: none", kTrainStep,
       &O::bias},
      one_of({"Model", "residual", "TYPE", "of the residual stream: same as --dtype, or f32",
              kTrainStep, &O::residual},
             "same|f32"),
      one_of(
          {.group = "Model",
           .name = "recompute",
           .value = "LIST",
           .help = "less memory, more time: make again in the backward pass, instead of keeping, "
                   "outputs of norm or gelu, or the whole block; several with commas",
           .commands = kTrainStep,
           .member = &O::recompute,
           .is_list = true,
           .implied = "block"},
          "none|norm|gelu|block"),
      {"Model", "logit-rows", "N",
       "less memory: positions whose logits exist at a time; 0: all, in parts of 2^31 logits",
       kTrainStep, &O::logit_rows, 0, 1e9},
      one_of({"Model", "dtype", "TYPE",
              "f32, tf32, bf16, f16 (scales the loss) or auto: bf16 on CUDA, f32 on the CPU",
              kTrainStep | kSample | kEval, &O::dtype},
             "auto|f32|tf32|bf16|f16"),
      {"Training", "steps", "N", "optimizer steps", kTrainStep, &O::steps, 1},
      {"Training", "batch", "N", "windows per step (and micro-step)", kTrainStep | kEval, &O::batch,
       1, 65536},
      {"Training", "accumulate", "N", "micro-steps per step", kTrainStep, &O::accumulate, 1, 65536},
      {"Training", "lr", "X", "peak learning rate", kTrainStep, &O::lr, 0, 10, true},
      {"Training", "min-lr", "X", "learning rate at the end; a tenth of --lr where that is less",
       kTrainStep, &O::min_lr, 0, 10},
      {"Training", "warmup", "N", "steps of linear warm-up", kTrainStep, &O::warmup},
      one_of(
          {"Training", "schedule", "KIND", "cosine, linear or constant", kTrainStep, &O::schedule},
          "cosine|linear|constant"),
      {"Training", "weight-decay", "X", "of matrices", kTrainStep, &O::weight_decay, 0, 10},
      {"Training", "beta1", "X", "decay of AdamW's first moment", kTrainStep, &O::beta1, 0,
       0.99999},
      {"Training", "beta2", "X", "decay of AdamW's second moment", kTrainStep, &O::beta2, 0,
       0.99999},
      {"Training", "clip", "X", "largest global gradient norm; 0: no clipping", kTrainStep,
       &O::clip},
      {"Training", "eager", "",
       "on CUDA: queue each kernel of a step instead of one captured graph", kTrainStep, &O::eager},
      {"Training", "time-limit", "SECONDS", "stop cleanly after that; 0: never", kTrain,
       &O::time_limit},
      {"Training", "gemm-plans", "FILE",
       "on CUDA: timed choices for matrix products, read and written; runs that share them share "
       "bits. auto: in the user's cache directory; none: no timing",
       kTrainStep, &O::gemm_plans},
      {"Output", "out", "DIR",
       "run directory; a run that is there is gone on with (default: a new runs/PRESET-N)", kTrain,
       &O::out},
      {"Output", "out", "FILE", "HTML file to write (default: RUN_DIR/report.html)", kReport,
       &O::out},
      {"Output", "resume", "HOW",
       "what to do with a run in --out: auto: go on from its newest checkpoint; never: refuse; or "
       "the STEP of a checkpoint, which removes those after it",
       kTrain, &O::resume},
      {"Output", "checkpoint-every", "N",
       "steps between checkpoints; 0: only where the validation loss is best, and at the end",
       kTrain, &O::checkpoint_every},
      {"Output", "keep", "N", "checkpoints: the newest N stay, and the best", kTrain, &O::keep, 1},
      {"Output", "keep-every", "N", "and those of every N steps; 0: none", kTrain, &O::keep_every},
      {"Output", "out", "FILE", "tokenizer.json to write", kTokenizer, &O::out},
      {"Output", "out", "DIR", "directory to write, must be new or empty", kPrepare, &O::out},
      one_of({"Output", "format", "NAME",
              "of the shards: llm.c, or nanogpt: one file each of 16-bit ids without a header",
              kPrepare, &O::format},
             "llm.c|nanogpt"),
      {"Output", "shard-tokens", "N", "tokens of a shard of llm.c", kPrepare, &O::shard_tokens, 1,
       1e9},
      {"Output", "out", "FILE", ".safetensors file to write, must be new", kImport, &O::out},
      {"Output", "out", "DIR", "directory to write, must be new or empty", kExport, &O::out},
      {"Output", "eval-every", "N", "steps between evaluations; 0: only at the end", kTrain,
       &O::eval_every},
      {"Output", "eval-batches", "N", "batches per evaluation", kTrain | kEval, &O::eval_batches, 1,
       1e6},
      {"Output", "log-every", "N", "steps between log lines; 0: 10 on the CPU, 50 on CUDA", kTrain,
       &O::log_every},
      one_of(
          {.group = "Output",
           .name = "metrics",
           .value = "LIST",
           .help = "the numbers of log.jsonl in other forms, too: csv or tensorboard; both with a "
                   "comma between",
           .commands = kTrain,
           .member = &O::metrics,
           .is_list = true},
          "none|csv|tensorboard"),
      {"Output", "gemm-report", "", "on CUDA: table of the matrix products and what was chosen",
       kTrain, &O::gemm_report},
      {.group = "Output",
       .name = "profile",
       .value = "N",
       .help = "table of layers and kernels every N steps, and profile.jsonl; 0: never",
       .commands = kTrain,
       .member = &O::profile,
       .implied = "50"},
      {"Output", "profile-depth", "N", "levels of layers in the table; 0: all", kTrain,
       &O::profile_depth, 0, 100},
      {"Output", "profile-fold", "",
       "layers whose names differ in numbers only are one row; --profile-fold=false: each its own",
       kTrain, &O::profile_fold},
      {"Output", "trace", "FILE", "every kernel of the steps, for https://ui.perfetto.dev",
       kProfile, &O::trace},
      {"Output", "memory", "FILE",
       "every allocation of two steps before, for https://pytorch.org/memory_viz", kProfile,
       &O::memory},
      {"Samples", "samples", "N", "how many", kTrain | kSample, &O::samples, 0, 1024},
      {"Samples", "sample-chars", "N",
       "tokens of each; 0: as many as the model sees at once for the built-in corpus, else 1000",
       kTrain | kSample, &O::sample_chars, 0, 1e6},
      {"Samples", "temperature", "X", "divides the logits; 0: always the likeliest token",
       kTrain | kSample, &O::temperature, 0, 100},
      {"Samples", "top-k", "N", "draw among the N likeliest tokens; 0: among all", kTrain | kSample,
       &O::top_k},
      {"Samples", "top-p", "P",
       "draw among the fewest tokens whose probabilities add up to P; 1: among all",
       kTrain | kSample, &O::top_p, 0, 1, true},
      {"Samples", "repetition-penalty", "X",
       "divides what speaks for a token that is there already; 1: none", kTrain | kSample,
       &O::repetition_penalty, 0, 100, true},
      {"Samples", "prompt", "TEXT", "what the samples start with", kSample, &O::prompt},
      {"Samples", "prompt-file", "FILE", "the same from a file; -: from standard input", kSample,
       &O::prompt_file},
      {"Samples", "stop", "TEXT", "a sample ends before it writes this; may be given several times",
       kSample, &O::stop},
      {"Samples", "log-probs", "FILE",
       "JSON lines to write: every token with the logarithm of its probability", kSample,
       &O::log_probs},
      {"", "check", "", "read everything and compare the checksums that are there", kInspect,
       &O::check},
      {"", "json", "", "a JSON object for each FILE, on a line of its own", kInspect, &O::json},
  };
  return table;
}

namespace {

struct Gpt2Size {
  std::string_view preset;
  std::int64_t layers, width;
  double lr;
};

/// Sizes: Radford et al. 2019, table 2 (heads of 64). Learning rates: Brown et al. 2020,
/// https://arxiv.org/abs/2005.14165, table 2.1, for models of these sizes.
const Gpt2Size& gpt2_size(std::string_view preset) {
  static constexpr Gpt2Size kSizes[] = {{"gpt2", 12, 768, 6e-4},
                                        {"gpt2-medium", 24, 1024, 3e-4},
                                        {"gpt2-large", 36, 1280, 2.5e-4},
                                        {"gpt2-xl", 48, 1600, 2e-4}};
  for (const Gpt2Size& size : kSizes) {
    if (size.preset == preset) return size;
  }
  throw UsageError(cat("preset ", preset, " does not exist, expected one of --help"));
}

}  // namespace

void apply_preset(Command command, std::string_view preset, Options& options) {
  options.preset = preset;
  if (preset == "toy-cpu") {
    options.corpus = "easy";
    options.layers = 4, options.heads = 4, options.width = 128, options.context = 128;
    options.batch = 16, options.steps = 1000, options.eval_every = 250;
    options.lr = 2e-3, options.min_lr = 2e-4, options.warmup = 50;
    options.eval_batches = 20, options.samples = 8;
  } else if (preset == "toy") {
    // Of nanoGPT's config/train_shakespeare_char.py.
    options.corpus = "standard";
    options.layers = 6, options.heads = 6, options.width = 384, options.context = 256;
    options.dropout = 0.2, options.bias = false;
    options.batch = 64, options.steps = 5000;
    options.lr = 1e-3, options.min_lr = 1e-4, options.warmup = 100;
    options.eval_batches = 200, options.samples = 4;
  } else {
    const Gpt2Size& size = gpt2_size(preset);
    options.corpus = "standard";
    options.layers = size.layers, options.heads = size.width / 64, options.width = size.width;
    options.context = 1024;
    options.batch = 16, options.steps = 2000, options.beta2 = 0.95;
    options.lr = size.lr, options.min_lr = size.lr / 10, options.warmup = 200;
    options.eval_batches = 20;
  }
  if (command == Command::profile) options.steps = 3;
}

Options defaults_of(Command command) {
  Options options;
  if (command == Command::eval) options.batch = 32, options.eval_batches = 100;
  return options;
}

}  // namespace lamina::gpt
