// SPDX-License-Identifier: MIT
#include "examples/gpt/cli.h"

#include "core/text.h"
#include "examples/gpt/checkpoint.h"
#include "examples/gpt/doctor.h"
#include "examples/gpt/evaluate.h"
#include "examples/gpt/hugging_face_commands.h"
#include "examples/gpt/inspect.h"
#include "examples/gpt/log.h"
#include "examples/gpt/options.h"
#include "examples/gpt/prepare.h"
#include "examples/gpt/profile_command.h"
#include "examples/gpt/report.h"
#include "examples/gpt/sample.h"
#include "examples/gpt/tokenizer_command.h"
#include "examples/gpt/train.h"
#include "examples/gpt/training_step.h"

#include <new>

namespace lamina::gpt {

namespace {

constexpr const char* kUsage =
    "usage: lamina-gpt COMMAND [OPTIONS]\n\n"
    "  train      train a GPT on the built-in corpus or on your own text\n"
    "  sample     write text with a trained model\n"
    "  eval       measure the loss of a trained model against the entropy floor\n"
    "  profile    train a few steps; write their kernels and their memory for viewers\n"
    "  report     write a run directory as one HTML file: loss, speed, layers, memory, samples\n"
    "  doctor     show what this machine and this build offer, and check that they train\n"
    "  tokenizer  make a byte-pair tokenizer from your own text\n"
    "  prepare    make a directory of tokens from your own text, for large ones\n"
    "  import     read a GPT-2 of Hugging Face's transformers, to train, sample or evaluate it\n"
    "  export     write a trained model for transformers\n"
    "  inspect    say what files and directories are and what is in them\n\n"
    "lamina-gpt COMMAND --help lists the options of a command; --version prints the version.\n";

Checkpoint load_run(const Options& options, Command command) {
  if (options.run.empty()) {
    throw UsageError(cat(name_of(command), ": no run given, expected lamina-gpt ", name_of(command),
                         " RUN (a run directory of lamina-gpt train or a ", ".safetensors file)",
                         options.text.empty() ? "" : "; put RUN before --text"));
  }
  set_threads(options.threads);
  Checkpoint checkpoint = load_checkpoint(options.run);
  checkpoint.model->to(Device::parse(options.device), compute_dtype(options));
  return checkpoint;
}

const data::Vocabulary& vocabulary_of(const Checkpoint& checkpoint) {
  if (checkpoint.info.vocabulary) return *checkpoint.info.vocabulary;
  throw Error(cat("checkpoint: ", checkpoint.path.string(),
                  " has no vocabulary (it was trained on tokens or imported without a tokenizer)"));
}

std::string prompt_of(const Options& options) {
  if (options.prompt_file.empty()) return options.prompt;
  if (!options.prompt.empty()) {
    throw UsageError("sample: --prompt and --prompt-file are both given, expected one of them");
  }
  const bool is_input = options.prompt_file == "-";
  const std::filesystem::path paths[] = {is_input ? "/dev/stdin" : options.prompt_file};
  return data::read_text_files(paths);
}

int sample(const Options& options, Console& console) {
  const AllowTf32 tf32(options.dtype == "tf32");
  const std::string prompt = prompt_of(options);
  const Checkpoint checkpoint = load_run(options, Command::sample);
  const data::Vocabulary& vocabulary = vocabulary_of(checkpoint);
  SampleOptions by_token{.count = options.samples,
                         .length = sample_length(options.sample_chars, checkpoint.info.corpus,
                                                 checkpoint.info.config.context),
                         .temperature = options.temperature,
                         .top_k = options.top_k,
                         .top_p = options.top_p,
                         .repetition_penalty = options.repetition_penalty,
                         .seed = static_cast<std::uint64_t>(options.seed)};
  std::string log_probs;
  if (!options.log_probs.empty()) {
    write_file(options.log_probs, "");  // an error should not wait for the samples
    by_token.take = [&](std::size_t i, std::int32_t token, float log_prob) {
      const nlohmann::ordered_json line = {{"sample", i + 1},
                                           {"token", token},
                                           {"text", vocabulary.decode({&token, 1})},
                                           {"log_prob", log_prob}};
      log_probs += line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
      return true;
    };
  }
  TextOptions text{.stop = options.stop};
  const bool is_streamed = options.samples == 1;  // several are written at the same time
  if (is_streamed) {
    console.out << heading(0, 1) << std::flush;
    text.on_text = [&](std::size_t, std::string_view more) { console.out << more << std::flush; };
  }
  const std::vector<std::string> samples =
      generate_text(*checkpoint.model, vocabulary, prompt, by_token, text);
  const std::string corpus = prompt.empty() ? checkpoint.info.corpus : "";
  console.out << (is_streamed ? "\n\n" + verdict_text(samples, corpus)
                              : samples_text(samples, corpus))
              << std::flush;
  if (!options.log_probs.empty()) write_file(options.log_probs, log_probs);
  return 0;
}

int evaluate(const Options& options, Console& console) {
  const AllowTf32 tf32(options.dtype == "tf32");
  const Checkpoint checkpoint = load_run(options, Command::eval);
  const std::string corpus = options.corpus.empty() ? checkpoint.info.corpus : options.corpus;
  const std::int64_t context = checkpoint.info.config.context;
  std::unique_ptr<TokenSource> source;
  if (!options.text.empty()) {
    const std::vector<std::filesystem::path> paths(options.text.begin(), options.text.end());
    source = text_source(data::read_text_files(paths), vocabulary_of(checkpoint), context,
                         static_cast<std::uint64_t>(options.seed));
  } else if (!options.data.empty()) {
    source = shard_source(open_data_directory(options.data, checkpoint.info), context,
                          static_cast<std::uint64_t>(options.seed));
  } else if (!corpus.empty()) {
    if (vocabulary_of(checkpoint) != data::Vocabulary::builtin()) {
      throw UsageError(cat("eval: ", options.run, " has another vocabulary than the built-in ",
                           "corpus, expected --text FILE"));
    }
    source = corpus_source(corpus);
  } else {
    throw UsageError(
        cat("eval: ", options.run, " was trained on a text, expected --text FILE or --data DIR"));
  }
  const TokenLoader loader(*source, options.batch, context, Device::parse(options.device));
  const Evaluation result =
      Evaluator(loader, data::Split::validation, options.eval_batches)(*checkpoint.model);
  console.out << checkpoint.path.string() << ", step " << checkpoint.info.step << ", "
              << source->description() << ", " << result.windows << " windows of " << context
              << " tokens\n"
              << result.text() << '\n';
  if (result.has_floor) console.out << "\nclass      targets      loss     floor    excess\n";
  for (std::size_t i = 0; i < result.classes.size(); ++i) {
    const ClassLoss& one = result.classes[i];
    if (one.targets == 0) continue;
    const auto count = static_cast<double>(one.targets);
    const auto column = [](std::string text, std::size_t width) {
      return text.insert(0, width > text.size() ? width - text.size() : 0, ' ');
    };
    const std::string name(data::name_of(static_cast<data::CharClass>(i)));
    console.out << name << column(std::to_string(one.targets), 18 - name.size())
                << column(fixed(one.loss / count, 4), 10) << column(fixed(one.floor / count, 4), 10)
                << column(fixed((one.loss - one.floor) / count, 4, true), 10) << '\n';
  }
  console.out << std::flush;
  result.check();
  return 0;
}

int dispatch(std::span<const std::string> arguments, Console& console) {
  if (arguments.empty()) {
    console.errors << kUsage;
    return 2;
  }
  const std::string& first = arguments.front();
  if (first == "help" || first == "--help" || first == "-h") {
    console.out << kUsage;
    return 0;
  }
  if (first == "--version") {
    console.out << "lamina-gpt " << LAMINA_VERSION << '\n';
    return 0;
  }
  const Command command = parse_command(first);
  const Options options = parse_options(command, arguments.subspan(1));
  if (options.help) {
    console.out << help_text(command);
    return 0;
  }
  switch (command) {
    case Command::train:
      return train(options, console);
    case Command::sample:
      return sample(options, console);
    case Command::eval:
      return evaluate(options, console);
    case Command::doctor:
      return doctor(options, console);
    case Command::profile:
      return profile(options, console);
    case Command::report:
      return report(options, console);
    case Command::tokenizer:
      return make_tokenizer(options, console);
    case Command::prepare:
      return prepare(options, console);
    case Command::import_gpt2:
      return import_model(options, console);
    case Command::export_gpt2:
      return export_model(options, console);
    case Command::inspect:
      return inspect(options, console);
  }
  return 1;
}

}  // namespace

int run_command(std::span<const std::string> arguments, Console& console) {
  const auto fail = [&](const char* what, int status) {
    if (console.is_terminal) console.out << "\r\033[K" << std::flush;
    console.errors << "lamina-gpt: error: " << what << std::endl;
    return status;
  };
  try {
    const int status = dispatch(arguments, console);
    console.out << std::flush;
    if (!console.out) return fail("stdout: writing failed", status == 0 ? 1 : status);
    return status;
  } catch (const UsageError& error) {
    return fail(error.what(), 2);
  } catch (const InformationLeak& error) {
    return fail(error.what(), 3);
  } catch (const std::bad_alloc&) {
    return fail("out of memory on the host; try a smaller --batch, --context or --width", 1);
  } catch (const std::exception& error) {
    return fail(error.what(), 1);
  }
}

}  // namespace lamina::gpt
