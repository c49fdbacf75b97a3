// SPDX-License-Identifier: MIT
#include "examples/gpt/options.h"

#include "core/json.h"
#include "core/text.h"
#include "examples/gpt/option_value.h"
#include "examples/gpt/options_table.h"
#include "examples/gpt/run_directory.h"
#include "examples/gpt/suggestion.h"

#include <cxxopts.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>
#include <variant>

namespace lamina::gpt {

namespace {

using Json = nlohmann::json;

bool belongs(const Spec& spec, Command command) {
  return (spec.commands & static_cast<unsigned>(command)) != 0;
}

bool takes_run(Command command) {
  return command == Command::sample || command == Command::eval || command == Command::report ||
         command == Command::import_gpt2 || command == Command::export_gpt2;
}

/// What stands after the command in its usage.
std::string_view operand_of(Command command) {
  if (command == Command::inspect) return " FILE...";
  if (command == Command::import_gpt2) return " DIR";
  return takes_run(command) ? " RUN" : "";
}

std::vector<std::string_view> names_of(Command command) {
  std::vector<std::string_view> names = {"help"};
  for (const Spec& spec : specs()) {
    if (belongs(spec, command)) names.push_back(spec.name);
  }
  return names;
}

/// prefix: what stood before the name, "--", "-" or nothing. where: the file that has the name, and
/// ": ".
const Spec& find_spec(Command command, std::string_view name, std::string_view prefix,
                      std::string_view where = "") {
  for (const Spec& spec : specs()) {
    if (spec.name == name && belongs(spec, command)) return spec;
  }
  throw UsageError(cat(where, "unknown option ", prefix, name, " of ", name_of(command),
                       suggestion(name, names_of(command), prefix.empty() ? "" : "--"),
                       "; lamina-gpt ", name_of(command), " --help lists the options"));
}

using Setting = std::pair<const Spec*, std::string>;

bool has(const std::vector<Setting>& settings, std::string_view name) {
  return std::any_of(settings.begin(), settings.end(),
                     [&](const Setting& setting) { return setting.first->name == name; });
}

/// "--text a b" becomes "--text=a --text=b".
std::vector<std::string> spread_text(std::span<const std::string> arguments) {
  std::vector<std::string> result;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] != "--text") {
      result.push_back(arguments[i]);
      continue;
    }
    if (i + 1 == arguments.size() || arguments[i + 1].starts_with("--")) {
      throw UsageError("--text needs at least one file");
    }
    while (i + 1 < arguments.size() && !arguments[i + 1].starts_with("--")) {
      result.push_back("--text=" + arguments[++i]);
    }
  }
  return result;
}

/// Whether the command computes with a model.
bool has_device(Command command) {
  return command == Command::train || command == Command::sample || command == Command::eval ||
         command == Command::doctor || command == Command::profile;
}

/// Whether the command trains.
bool has_preset(Command command) {
  return command == Command::train || command == Command::profile;
}

std::string_view about(Command command) {
  switch (command) {
    case Command::train:
      return "Trains a GPT and writes a run directory.";
    case Command::sample:
      return "Writes text with the best checkpoint of a run directory (or a file).";
    case Command::eval:
      return "Measures the loss of the best checkpoint of a run directory (or a file).";
    case Command::doctor:
      return "Shows what this machine and this build offer, and checks that they train.";
    case Command::profile:
      return "Trains a few steps and writes files that show their kernels and their memory.";
    case Command::report:
      return "Writes a run directory as one HTML file that needs no network.";
    case Command::tokenizer:
      return "Makes a byte-pair tokenizer from texts, as a tokenizer.json.";
    case Command::prepare:
      return "Makes a directory of tokens from texts, for train --data, nanoGPT and llm.c.";
    case Command::inspect:
      return "Says what files and directories are and what is in them.";
    case Command::import_gpt2:
      return "Reads the directory of a GPT-2 that transformers wrote.";
    case Command::export_gpt2:
      return "Writes the best checkpoint of a run directory (or a file) for transformers.";
  }
  return "";
}

/// " (default: 16; toy 64)": the values without flags, by preset where they differ.
std::string default_text(Command command, const Spec& spec) {
  const std::string name(spec.name);
  if (name == "preset" || name == "config" || name == "out") return "";
  const auto value_in = [&](std::string_view preset) {
    Options options = defaults_of(command);
    if (has_preset(command)) apply_preset(command, preset, options);
    const Json json = to_json(options, command);
    const auto at = json.find(name);
    if (at == json.end() || *at == Json::array()) return std::string();
    if (at->is_number_float()) return cat(at->get<double>());  // 6e-05, not all of its digits
    return at->is_string() ? at->get<std::string>() : at->dump();
  };
  const std::string usual = value_in("toy-cpu");
  if (usual.empty()) return "";
  std::string text = " (default: " + usual;
  for (const std::string_view preset : {"toy", "gpt2"}) {
    const std::string value = value_in(preset);
    if (value != usual) text += cat("; ", preset, " ", value);
  }
  return text + ")";
}

/// Defaults are in the text of --help alone: finding them takes longer than parsing.
cxxopts::Options parser_of(Command command, bool with_defaults = false) {
  cxxopts::Options parser(cat("lamina-gpt ", name_of(command), operand_of(command)),
                          std::string(about(command)));
  parser.custom_help("[OPTIONS]");
  parser.set_width(100);
  for (const Spec& spec : specs()) {
    if (!belongs(spec, command)) continue;
    const bool is_flag = spec.value.empty();
    auto value = is_flag ? cxxopts::value<bool>() : cxxopts::value<std::string>();
    if (!spec.implied.empty()) value = value->implicit_value(std::string(spec.implied));
    parser.add_options(std::string(spec.group))(
        std::string(spec.name), cat(spec.help, with_defaults ? default_text(command, spec) : ""),
        value, std::string(spec.value));
  }
  parser.add_options()("h,help", "this text", cxxopts::value<bool>());
  parser.allow_unrecognised_options();
  return parser;
}

/// Throws UsageError for a switch with another value than true or false: the parser's own text does
/// not say which option it means.
void check_switches(Command command, std::span<const std::string> arguments) {
  Options tried;
  for (const std::string& argument : arguments) {
    const std::size_t equals = argument.find('=');
    if (!argument.starts_with("--") || equals == std::string::npos) continue;
    for (const Spec& spec : specs()) {
      if (belongs(spec, command) && std::holds_alternative<bool Options::*>(spec.member) &&
          spec.name == std::string_view(argument).substr(2, equals - 2)) {
        assign(spec, argument.substr(equals + 1), tried);
      }
    }
  }
}

/// "; did you mean --profile=20" when `word` follows an option that takes its value only so, or "".
std::string value_suggestion(Command command, const std::vector<std::string>& arguments,
                             std::string_view word) {
  for (const Spec& spec : specs()) {
    if (!belongs(spec, command) || spec.implied.empty()) continue;
    const std::string name = cat("--", spec.name), pair[] = {name, std::string(word)};
    if (std::search(arguments.begin(), arguments.end(), std::begin(pair), std::end(pair)) !=
        arguments.end()) {
      return cat("; did you mean ", name, "=", word);
    }
  }
  return "";
}

/// The argument that a letter comes from which the parser does not know: of -steps it gives "-s".
std::string whole_argument(const std::vector<std::string>& arguments, const std::string& letter) {
  const auto at = std::find_if(arguments.begin(), arguments.end(), [&](const std::string& word) {
    return word.starts_with("-") && !word.starts_with("--") &&
           word.find(letter.substr(1)) != std::string::npos;
  });
  return at == arguments.end() ? letter : *at;
}

/// A text of the parser with plain quotes.
std::string with_plain_quotes(std::string text) {
  for (const std::string_view quote : {"\xe2\x80\x98", "\xe2\x80\x99"}) {
    for (std::size_t at = text.find(quote); at != std::string::npos; at = text.find(quote)) {
      text.replace(at, quote.size(), "\"");
    }
  }
  return text;
}

std::vector<Setting> read_flags(Command command, std::span<const std::string> arguments,
                                Options& options) {
  const std::vector<std::string> spread = spread_text(arguments);
  check_switches(command, spread);
  std::vector<const char*> argv = {"lamina-gpt"};
  for (const std::string& argument : spread)
    argv.push_back(argument.c_str());
  try {
    cxxopts::Options parser = parser_of(command);
    const cxxopts::ParseResult result = parser.parse(static_cast<int>(argv.size()), argv.data());
    for (const std::string& word : result.unmatched()) {
      if (word.starts_with("-") && word.size() > 1) {
        const std::string given = word.starts_with("--") ? word : whole_argument(spread, word);
        const std::string_view dashes = given.starts_with("--") ? "--" : "-";
        const std::string name = given.substr(dashes.size(), given.find('=') - dashes.size());
        find_spec(command, name, dashes);
        throw UsageError(cat("unknown option ", dashes, name, " of ", name_of(command),
                             "; did you mean --", name));
      }
      if (command == Command::inspect) {
        options.files.push_back(word);
        continue;
      }
      if (!takes_run(command) || !options.run.empty()) {
        throw UsageError(cat("unexpected argument \"", word, "\" of ", name_of(command),
                             ", expected options", value_suggestion(command, spread, word)));
      }
      options.run = word;
    }
    std::vector<Setting> settings;
    for (const cxxopts::KeyValue& given : result.arguments()) {
      if (given.key() == "help") {
        options.help = true;
      } else {
        settings.emplace_back(&find_spec(command, given.key(), "--"), given.value());
      }
    }
    return settings;
  } catch (const cxxopts::exceptions::exception& error) {
    throw UsageError(
        cat(with_plain_quotes(error.what()), "; lamina-gpt ", name_of(command), " --help"));
  }
}

/// `flag`: what stands before the path in the text of errors.
std::vector<Setting> read_config(Command command, const std::string& path, std::string_view flag) {
  std::error_code ignored;
  std::ifstream file(path);
  if (!file || std::filesystem::is_directory(path, ignored))
    throw UsageError(cat(flag, path, " cannot be read, expected a JSON file"));
  const std::string text(std::istreambuf_iterator<char>(file), {});
  Json json;
  try {
    json = parse_json(text, cat(flag, path));
  } catch (const Error& error) {
    throw UsageError(error.what());
  }
  if (!json.is_object()) throw UsageError(cat(flag, path, " is not a JSON object"));
  std::vector<Setting> settings;
  for (const auto& [key, value] : json.items()) {
    const Spec& spec = find_spec(command, key, "", cat(path, ": "));
    if (spec.name == "config") {
      throw UsageError(cat(path, ": has the option config, expected none in a --config file"));
    }
    for (const Json& item :
         value.is_array() && takes_several(spec) ? value : Json::array({value})) {
      if (item.is_null() || item.is_structured()) {
        throw UsageError(cat(path, ": ", key, takes_several(spec) ? " has " : " is ",
                             item.type_name(), ", expected a string, a number, true or false"));
      }
      settings.emplace_back(&spec, item.is_string() ? item.get<std::string>() : item.dump());
    }
  }
  return settings;
}

/// The options of the run that train is to go on with; none for a new one.
std::vector<Setting> read_run(Command command, const Options& given) {
  const std::filesystem::path path = std::filesystem::path(given.out) / "config.json";
  std::error_code ignored;
  const bool is_run = command == Command::train && !given.out.empty() && given.resume != "never" &&
                      holds_run(given.out) && std::filesystem::exists(path, ignored);
  return is_run ? read_config(command, path.string(), "") : std::vector<Setting>();
}

/// Flags override --config as a whole: one --text flag replaces the file's list.
void apply_settings(const std::vector<Setting>& settings, Options& options) {
  for (const auto& [spec, value] : settings)
    clear_list(*spec, options);
  for (const auto& [spec, value] : settings)
    assign(*spec, value, options);
}

void resolve_device(Options& options) {
  if (options.device == "auto") options.device = cuda_device_count() > 0 ? "cuda:0" : "cpu";
  Device device;
  try {
    device = Device::parse(options.device);
  } catch (const DeviceError&) {
    throw UsageError(
        cat("--device is \"", options.device, "\", expected auto, cpu, cuda or cuda:N"));
  }
  const int count = cuda_device_count();
  if (!device.is_cuda() || device.index < count) return;
  throw UsageError(
      count == 0 ? cat("--device is ", device, ", expected cpu (there is no CUDA device here)")
                 : cat("--device is ", device, ", expected an index below ", count));
}

/// Which of the sources of data is given; "" for none. Throws UsageError for two.
std::string_view source_in(const std::vector<Setting>& settings) {
  std::string_view source;
  for (const std::string_view name : {"data", "text", "corpus"}) {
    if (!has(settings, name)) continue;
    if (!source.empty()) {
      throw UsageError(cat("--", source, " and --", name, " are both given, expected one of them"));
    }
    source = name;
  }
  return source;
}

/// Makes the source of data one: a flag counts more than --config, and two flags are a mistake.
void resolve_data(Options& options, const std::vector<Setting>& config,
                  const std::vector<Setting>& flags) {
  const std::string_view flag = source_in(flags);
  const std::string_view source = flag.empty() ? source_in(config) : flag;
  if (source == "data" || source == "corpus") options.text.clear();
  if (source == "text" || source == "corpus") options.data.clear();
  if (options.random_tokens &&
      (flag == "corpus" || !options.text.empty() || !options.data.empty())) {
    throw UsageError(cat("--random-tokens and --",
                         !options.data.empty()   ? "data"
                         : !options.text.empty() ? "text"
                                                 : "corpus",
                         " are both given, expected one of them"));
  }
  if (!options.data.empty()) options.corpus.clear();
  if (options.text.empty()) {
    options.tokenizer.clear();
    for (const std::string_view name : {"level", "tokenizer"}) {
      if (!has(flags, name)) continue;
      throw UsageError(
          cat("--", name, " is given without --text, expected both (other data has its tokens)"));
    }
    return;
  }
  options.corpus.clear();
  if (!has(flags, "level")) return;
  if (has(flags, "tokenizer")) {
    throw UsageError("--level and --tokenizer are both given, expected one of them");
  }
  options.tokenizer.clear();
}

/// What --from brings itself.
void check_from(const Options& options, const std::vector<Setting>& flags) {
  if (options.from.empty()) return;
  for (const std::string_view name :
       {"layers", "heads", "width", "context", "bias", "level", "tokenizer"}) {
    if (!has(flags, name)) continue;
    throw UsageError(cat("--from and --", name, " are both given, expected one of them (the model ",
                         "and its vocabulary are what they are)"));
  }
}

void resolve(Options& options) {
  const bool on_cuda = Device::parse(options.device).is_cuda();
  if (options.dtype == "auto") options.dtype = on_cuda ? "bf16" : "f32";
  if (!on_cuda && options.dtype != "f32") {
    throw UsageError(cat("--dtype is ", options.dtype, " on ", options.device,
                         ", expected f32 (what the CPU computes in)"));
  }
  if (options.log_every == 0) options.log_every = on_cuda ? 50 : 10;
  if (options.profile == 1) {
    throw UsageError(
        "--profile is 1, expected 0 or at least 2 (the steps between are what a profiled step is "
        "compared with)");
  }
  std::int64_t step = 0;
  const char* const end = options.resume.data() + options.resume.size();
  const auto [stop, error] = std::from_chars(options.resume.data(), end, step);
  const bool is_step = error == std::errc() && stop == end && step >= 0;
  if (!is_step && options.resume != "auto" && options.resume != "never") {
    constexpr std::string_view kWords[] = {"auto", "never"};
    throw UsageError(cat("--resume is ", options.resume.empty() ? "empty" : options.resume,
                         ", expected auto, never or the step of a checkpoint",
                         suggestion(options.resume, kWords)));
  }
  if (is_step && options.out.empty()) {
    throw UsageError(
        cat("--resume is ", step, " without --out, expected both (whose checkpoint?)"));
  }
  if (options.width % options.heads != 0) {
    throw UsageError(
        cat("--heads is ", options.heads, ", expected a divisor of --width ", options.width));
  }
  if (options.min_lr > options.lr) {
    throw UsageError(cat("--min-lr is ", options.min_lr, ", expected at most --lr ", options.lr));
  }
}

}  // namespace

std::string_view name_of(Command command) {
  switch (command) {
    case Command::train:
      return "train";
    case Command::sample:
      return "sample";
    case Command::eval:
      return "eval";
    case Command::doctor:
      return "doctor";
    case Command::profile:
      return "profile";
    case Command::report:
      return "report";
    case Command::tokenizer:
      return "tokenizer";
    case Command::prepare:
      return "prepare";
    case Command::inspect:
      return "inspect";
    case Command::import_gpt2:
      return "import";
    case Command::export_gpt2:
      return "export";
  }
  return "";
}

Command parse_command(std::string_view name) {
  constexpr std::array kCommands = {Command::train,       Command::sample,  Command::eval,
                                    Command::doctor,      Command::profile, Command::report,
                                    Command::tokenizer,   Command::prepare, Command::import_gpt2,
                                    Command::export_gpt2, Command::inspect};
  std::vector<std::string_view> names;
  for (const Command command : kCommands) {
    if (name_of(command) == name) return command;
    names.push_back(name_of(command));
  }
  throw UsageError(
      cat("unknown command \"", name,
          "\", expected train, sample, eval, doctor, profile, report, tokenizer, prepare, import, ",
          "export or inspect", suggestion(name, names)));
}

Options parse_options(Command command, std::span<const std::string> arguments) {
  Options options = defaults_of(command);
  const std::vector<Setting> flags = read_flags(command, arguments, options);
  if (options.help) return options;
  if (!has_device(command)) {
    apply_settings(flags, options);
    return options;
  }
  Options given;
  apply_settings(flags, given);
  std::vector<Setting> config;
  if (!given.config.empty()) {
    config = read_config(command, given.config, "--config ");
    given = {};
    apply_settings(config, given);
    apply_settings(flags, given);
  }
  const std::vector<Setting> run = read_run(command, given);
  given = {};
  for (const auto* settings : {&run, &std::as_const(config), &flags})
    apply_settings(*settings, given);
  options.device = given.device;
  resolve_device(options);
  const std::string device = options.device;
  if (has_preset(command)) {
    const bool on_cuda = Device::parse(device).is_cuda();
    apply_preset(command,
                 !given.preset.empty() ? given.preset
                 : on_cuda             ? "toy"
                                       : "toy-cpu",
                 options);
  }
  for (const auto* settings : {&run, &std::as_const(config), &flags})
    apply_settings(*settings, options);
  options.device = device;
  const auto is_given = [&](std::string_view name) {
    return has(config, name) || has(flags, name);
  };
  if (is_given("lr") && !is_given("min-lr")) {
    options.min_lr = std::min(options.min_lr, options.lr / 10.0);
  }
  resolve_data(options, config, flags);
  check_from(options, flags);
  resolve(options);
  if (command == Command::doctor) options.device = given.device;
  return options;
}

std::string help_text(Command command) {
  std::string text = parser_of(command, true).help();
  if (command == Command::train) {
    text +=
        cat("\nExit status: 0 done, 1 failed, 2 wrong usage, 3 loss below the entropy floor, 130 "
            "Ctrl-C, "
            "143 SIGTERM, 129 SIGHUP\n");
  }
  return text;
}

Json to_json(const Options& options, Command command) {
  Json json = Json::object();
  for (const Spec& spec : specs()) {
    if (!belongs(spec, command)) continue;
    std::visit([&](auto field) { json[std::string(spec.name)] = options.*field; }, spec.member);
  }
  // What says nothing, and what a later run must choose for itself.
  for (auto it = json.begin(); it != json.end();) {
    const bool is_left_out = *it == "" || *it == Json::array() || it.key() == "out" ||
                             it.key() == "config" || it.key() == "resume";
    it = is_left_out ? json.erase(it) : std::next(it);
  }
  return json;
}

}  // namespace lamina::gpt
