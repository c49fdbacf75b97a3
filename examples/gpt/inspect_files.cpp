// SPDX-License-Identifier: MIT
// The formats of single files.
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "examples/gpt/bpe.h"
#include "examples/gpt/checkpoint_store.h"
#include "examples/gpt/event_file.h"
#include "examples/gpt/hugging_face.h"
#include "examples/gpt/inspect_formats.h"
#include "examples/gpt/meta_pickle.h"
#include "examples/gpt/report_run.h"
#include "examples/gpt/shard.h"
#include "examples/gpt/token_directory.h"
#include "examples/gpt/tokenizer_file.h"
#include "examples/gpt/training_state.h"
#include "nn/safetensors.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <map>
#include <numeric>
#include <set>
#include <system_error>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kIndexEnd = ".index.json";
constexpr std::size_t kSignatureBytes = 4096;  // bytes in which a format shows

// ---- safetensors

struct Sum {
  std::uint64_t tensors = 0, bytes = 0;
};

std::uint64_t elements_of(const nn::TensorEntry& entry) {
  std::uint64_t elements = 1;  // the reader has seen that nothing overflows
  for (const std::uint64_t extent : entry.shape)
    elements *= extent;
  return elements;
}

Document tensors_document(const fs::path& path) {
  const nn::TensorReader reader(path.string());
  const bool is_index = path.string().ends_with(kIndexEnd);
  std::map<std::string, Sum> shards;
  std::set<std::string> dtypes;
  std::uint64_t bytes = 0, parameters = 0;
  Document tensors = Document::array();
  for (const auto& [name, entry] : reader.entries()) {
    const std::uint64_t size = entry.end - entry.begin;
    const std::string shard = fs::path(reader.file_of(name)).filename().string();
    ++shards[shard].tensors;
    shards[shard].bytes += size;
    dtypes.insert(entry.dtype);
    bytes += size;
    parameters += elements_of(entry);
    tensors.push_back(
        {{"name", name}, {"dtype", entry.dtype}, {"shape", entry.shape}, {"bytes", size}});
    if (is_index) tensors.back()["shard"] = shard;
  }
  Document document = {{"parameters", parameters},
                       {"tensor_count", tensors.size()},
                       {"tensor_bytes", bytes},
                       {"dtypes", dtypes}};
  if (is_index) {
    document["shards"] = Document::array();
    for (const auto& [shard, sum] : shards)
      document["shards"].push_back(
          {{"file", shard}, {"tensors", sum.tensors}, {"bytes", sum.bytes}});
  } else {
    document["metadata"] = reader.metadata();
  }
  document["tensors"] = tensors;
  return document;
}

/// By its name, or by the length of a header and how that begins.
bool is_safetensors(const Subject& subject) {
  constexpr std::uint64_t kMostHeader = 100'000'000;  // of the format
  if (subject.name().ends_with(".safetensors")) return true;
  std::uint64_t length = 0;
  const std::string_view bytes = subject.bytes();
  if (bytes.size() < sizeof length + 2) return false;
  std::memcpy(&length, bytes.data(), sizeof length);
  return length <= kMostHeader && bytes[sizeof length] == '{' &&
         std::string_view("\"} \n").find(bytes[sizeof length + 1]) != std::string_view::npos;
}

Document describe_safetensors(const Subject& subject) {
  return tensors_document(subject.path());
}

Document describe_index(const Subject& subject) {
  if (!subject.name().ends_with(kIndexEnd)) {
    throw Error(cat("inspect: ", subject.path().string(), " is an index by its content, expected ",
                    "a name that ends with ", kIndexEnd, " (readers know it by that)"));
  }
  return tensors_document(subject.path());
}

// ---- JSON

/// Of an object; false of anything else.
bool has_keys(const Json& json, std::initializer_list<const char*> keys) {
  return std::all_of(keys.begin(), keys.end(), [&](const char* key) { return json.contains(key); });
}

Document describe_hugging_face_config(const Subject& subject) {
  return hugging_face_config_document(subject.bytes());
}

Document describe_options(const Subject& subject) {
  return {{"options", subject.json()}};
}

Document describe_state(const Subject& subject) {
  Document state = to_json(read_state(subject.path()));
  return state;
}

Document describe_manifest(const Subject& subject) {
  const data::Manifest manifest = data::parse_manifest(subject.bytes());
  Document shards = Document::array();
  for (const auto& [part, records] :
       {std::pair("train", &manifest.train), std::pair("validation", &manifest.validation)}) {
    for (const data::ShardRecord& record : *records)
      shards.push_back({{"file", record.file},
                        {"part", part},
                        {"tokens", record.tokens},
                        {"bytes", record.bytes},
                        {"crc32c", record.crc32c}});
  }
  return {{"format", subject.json().at("format")},
          {"vocabulary_size", manifest.vocabulary_size},
          {"shards", shards}};
}

Document describe_tokenizer_json(const Subject& subject) {
  return vocabulary_document(data::vocabulary_from_tokenizer(subject.json()));
}

// ---- tokens

/// There is nothing in a file of nanoGPT that says what it is; a zip file is one of PyTorch.
bool is_shard(const Subject& subject) {
  return data::has_shard_header(subject.bytes()) ||
         (subject.name().ends_with(".bin") && !subject.bytes().starts_with("PK\3\4"));
}

/// The largest of some ids, or of all where everything is to be read.
Document describe_shard(const Subject& subject) {
  constexpr std::uint64_t kSome = 4096;
  const data::ShardLayout layout = data::shard_layout(subject.bytes(), subject.path().string());
  const std::uint64_t count = subject.check() ? layout.tokens : std::min(layout.tokens, kSome);
  std::uint32_t largest = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint32_t id = 0;
    std::memcpy(&id, subject.bytes().data() + layout.start + i * layout.id_bytes, layout.id_bytes);
    largest = std::max(largest, id);
  }
  return {{"format", layout.start > 0 ? "llm.c" : "nanogpt (by its name: there is no header)"},
          {"tokens", layout.tokens},
          {"bytes_per_token", layout.id_bytes},
          {"largest_id", largest},
          {"of_first_tokens", count}};
}

// ---- vocabularies

bool is_merges(const Subject& subject) {
  return subject.bytes().starts_with("#version") || subject.name() == "merges.txt";
}

Document describe_merges(const Subject& subject) {
  return vocabulary_document(data::read_tokenizer(subject.path()));
}

bool is_pickle_of(const Subject& subject, std::string_view key) {
  return subject.bytes().starts_with('\x80') &&
         subject.bytes().substr(0, kSignatureBytes).find(key) != std::string_view::npos;
}

Document describe_meta_pickle(const Subject& subject) {
  return vocabulary_document(data::vocabulary_from_meta(subject.bytes()));
}

// ---- logs

/// The record that a file of lines begins with; null when it begins with something else.
Json first_record(const Subject& subject) {
  constexpr std::size_t kMostLine = std::size_t{1} << 20U;
  const std::string_view begin = subject.bytes().substr(0, kMostLine);
  if (!begin.starts_with('{')) return nullptr;
  return Json::parse(begin.substr(0, begin.find('\n')), nullptr, false);
}

Document describe_records(const Subject& subject) {
  return records_document(subject.path());
}

Document describe_events(const Subject& subject) {
  const EventRecords records = scan_records(subject.bytes(), subject.check());
  if (!records.fault.empty()) subject.fault(records.fault);
  return {{"records", records.count},
          {"checksums_of", subject.check() ? "lengths and data" : "lengths"},
          {"bytes_cut_off", records.cut_off}};
}

/// Of --log-probs: a record for each token of the samples.
Document describe_log_probs(const Subject& subject) {
  std::int64_t tokens = 0, samples = 0;
  double sum = 0.0;
  const std::size_t left_out = for_each_record(subject.path(), [&](const Json& record) {
    const Json sample = record.value("sample", Json());
    const double log_prob = number_at(record, "log_prob");
    if (!sample.is_number_integer() || !std::isfinite(log_prob)) return;
    ++tokens;
    samples = std::max(samples, sample.get<std::int64_t>());
    sum += log_prob;
  });
  const Json mean = tokens > 0 ? Json(sum / static_cast<double>(tokens)) : Json();
  return {{"tokens", tokens},
          {"samples", samples},
          {"lines_left_out", left_out},
          {"mean_log_prob", mean}};
}

bool is_metrics(const Subject& subject) {
  return subject.bytes().starts_with("step,") || subject.name() == "steps.csv" ||
         subject.name() == "evals.csv";
}

/// A CSV file of --metrics. Its last line is torn when a run is killed.
Document describe_metrics(const Subject& subject) {
  std::string_view rest = subject.bytes();
  const auto next_line = [&] {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return line;
  };
  const std::string_view header = next_line();
  const auto commas = std::count(header.begin(), header.end(), ',');
  std::uint64_t rows = 0, left_out = 0;
  Json first, last;  // null until there is one
  while (!rest.empty()) {
    const bool is_whole = rest.find('\n') != std::string_view::npos;
    const std::string_view line = next_line();
    std::int64_t step = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), step);
    if (!is_whole || error != std::errc() || std::count(line.begin(), line.end(), ',') != commas) {
      ++left_out;
      continue;
    }
    last = step;
    if (rows++ == 0) first = step;
  }
  return {{"columns", header},
          {"rows", rows},
          {"lines_left_out", left_out},
          {"first_step", first},
          {"last_step", last}};
}

// ---- checkpoints

bool is_checkpoint_manifest(const Subject& subject) {
  return manifest_step(subject.bytes()).has_value();
}

/// The directory of a checkpoint is compared with what its MANIFEST says; the file alone is not.
Document describe_checkpoint_manifest(const Subject& subject) {
  const std::string_view text = subject.bytes();
  const std::int64_t step = manifest_step(text).value();
  const auto records = parse_manifest(step, text);
  if (!records) subject.fault(cat(subject.path().string(), " is damaged"));
  Document files = Document::array();
  for (const FileRecord& record : records.value_or(std::vector<FileRecord>()))
    files.push_back({{"file", record.name}, {"bytes", record.bytes}, {"crc32c", record.checksum}});
  return {{"step", step}, {"files", files}};
}

// ---- what other programs open

bool is_trace(const Subject& subject) {
  return subject.bytes().starts_with('{') &&
         subject.bytes().substr(0, kSignatureBytes).find("\"traceEvents\"") !=
             std::string_view::npos;
}

}  // namespace

Document weights_document(const fs::path& path) {
  Document document = tensors_document(path);
  document.erase("tensors");
  return document;
}

Document hugging_face_config_document(std::string_view text) {
  std::string import = "possible";
  try {
    (void)config_from_hugging_face(text);
  } catch (const Error& error) {
    import = cat("refused: ", error.what());
  }
  return {{"import", import}, {"config", parse_json(text, "config.json")}};
}

Document vocabulary_document(const data::Vocabulary& vocabulary) {
  if (const data::Bpe* const bpe = vocabulary.bpe()) {
    std::vector<std::string> special;
    for (const std::int32_t id : bpe->parts().special)
      special.push_back(bpe->parts().tokens[static_cast<std::size_t>(id)]);
    return {{"level", "byte-pair"},
            {"tokens", bpe->size()},
            {"merges", bpe->parts().merges.size()},
            {"special_tokens", special}};
  }
  if (vocabulary.level() == data::Level::byte)
    return {{"level", "byte"}, {"tokens", vocabulary.size()}};
  std::vector<std::int32_t> ids(static_cast<std::size_t>(vocabulary.size()));
  std::iota(ids.begin(), ids.end(), 0);
  return {{"level", "character"},
          {"tokens", vocabulary.size()},
          {"characters", vocabulary.decode(ids)}};
}

Document records_document(const fs::path& path) {
  std::map<std::string, std::uint64_t> events;
  std::uint64_t count = 0;
  Json first, last, loss, best, best_step;  // null until there is one
  const std::size_t left_out = for_each_record(path, [&](const Json& record) {
    ++count;
    if (const std::string event = text_at(record, "event"); !event.empty()) ++events[event];
    if (record.contains("step")) last = record["step"];
    if (record.contains("step") && first.is_null()) first = record["step"];
    if (text_at(record, "event") == "step") loss = record.value("loss", Json());
    const double value = number_at(record, "val_loss");
    if (std::isfinite(value) && (best.is_null() || value < best.get<double>())) {
      best = value;
      best_step = record.value("step", Json());
    }
  });
  Document document = {
      {"records", count}, {"lines_left_out", left_out}, {"first_step", first}, {"last_step", last}};
  if (!events.empty()) {
    document["last_loss"] = loss;
    document["best_val_loss"] = best;
    document["best_step"] = best_step;
    document["events"] = events;
  }
  return document;
}

std::span<const Format> file_formats() {
  static constexpr Format kFormats[] = {
      {"TensorBoard event file",
       [](const Subject& subject) { return begins_with_record(subject.bytes()); }, describe_events},
      {"safetensors file", is_safetensors, describe_safetensors},
      {"token shard of llm.c or nanoGPT (.bin)", is_shard, describe_shard},
      {"memory history for https://pytorch.org/memory_viz",
       [](const Subject& subject) { return is_pickle_of(subject, "device_traces"); },
       [](const Subject& /*subject*/) { return Document::object(); }},
      {"meta.pkl of nanoGPT",
       [](const Subject& subject) {
         return subject.name() == "meta.pkl" || is_pickle_of(subject, "itos");
       },
       describe_meta_pickle},
      {"merges.txt of a byte-pair tokenizer", is_merges, describe_merges},
      {"trace of kernels for https://ui.perfetto.dev", is_trace,
       [](const Subject& /*subject*/) { return Document::object(); }},
      {"log.jsonl of a run",
       [](const Subject& subject) {
         return subject.name() == "log.jsonl" || has_keys(first_record(subject), {"event"});
       },
       describe_records},
      {"profile.jsonl of a run",
       [](const Subject& subject) {
         return subject.name() == "profile.jsonl" ||
                has_keys(first_record(subject), {"step", "step_ms", "rows"});
       },
       describe_records},
      {"log-probabilities of lamina-gpt sample",
       [](const Subject& subject) {
         return has_keys(first_record(subject), {"sample", "token", "log_prob"});
       },
       describe_log_probs},
      {"metrics of a run (steps.csv, evals.csv)", is_metrics, describe_metrics},
      {"MANIFEST of a checkpoint", is_checkpoint_manifest, describe_checkpoint_manifest},
      {"safetensors index (*.index.json)",
       [](const Subject& subject) { return has_keys(subject.json(), {"weight_map"}); },
       describe_index},
      {"config.json of a Hugging Face model",
       [](const Subject& subject) { return has_keys(subject.json(), {"model_type"}); },
       describe_hugging_face_config},
      {"tokenizer.json",
       [](const Subject& subject) {
         return has_keys(subject.json(), {"model", "added_tokens"});
       },
       describe_tokenizer_json},
      {"config.json of a run",
       [](const Subject& subject) {
         return has_keys(subject.json(), {"preset", "layers"});
       },
       describe_options},
      {"state.json of a checkpoint",
       [](const Subject& subject) {
         return has_keys(subject.json(), {"random_offset", "logs"});
       },
       describe_state},
      {"manifest.json of token shards",
       [](const Subject& subject) {
         return has_keys(subject.json(), {"format", "train"});
       },
       describe_manifest}};
  return kFormats;
}

}  // namespace lamina::gpt
