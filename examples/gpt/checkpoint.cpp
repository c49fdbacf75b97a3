// SPDX-License-Identifier: MIT
#include "examples/gpt/checkpoint.h"

#include "core/text.h"
#include "examples/gpt/checkpoint_store.h"

#include <algorithm>
#include <charconv>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Json config_json(const GptConfig& config) {
  return {{"layers", config.layers}, {"heads", config.heads},
          {"width", config.width},   {"context", config.context},
          {"vocab", config.vocab},   {"dropout", config.dropout},
          {"bias", config.bias},     {"wide_residual", config.wide_residual}};
}

/// An integer of the configuration in [least, most].
std::int64_t extent_of(const Json& config, const char* key, std::int64_t least, std::int64_t most) {
  const Json value = config.value(key, Json());
  if (!value.is_number_integer() || value < least || value > most) {
    throw Error(cat(key, " is ", value.dump(), ", expected an integer from ", least, " to ", most));
  }
  return value.get<std::int64_t>();
}

GptConfig config_from(const Json& json) {
  if (!json.is_object()) throw Error("config is not a JSON object");
  constexpr std::int64_t kMostSymbols = 0x110000;  // code points of Unicode
  GptConfig config{.layers = static_cast<int>(extent_of(json, "layers", 1, 1000)),
                   .heads = static_cast<int>(extent_of(json, "heads", 1, 1000)),
                   .width = extent_of(json, "width", 1, 65536),
                   .context = extent_of(json, "context", 2, 65536),
                   .vocab = extent_of(json, "vocab", 1, kMostSymbols)};
  const Json dropout = json.value("dropout", Json()), bias = json.value("bias", Json());
  const Json wide_residual = json.value("wide_residual", Json(false));
  if (!dropout.is_number() || !(dropout >= 0.0 && dropout < 1.0)) {
    throw Error(cat("dropout is ", dropout.dump(), ", expected a number in [0, 1)"));
  }
  if (!bias.is_boolean()) throw Error(cat("bias is ", bias.dump(), ", expected true or false"));
  if (!wide_residual.is_boolean()) {
    throw Error(cat("wide_residual is ", wide_residual.dump(), ", expected true or false"));
  }
  if (config.width % config.heads != 0) {
    throw Error(cat("heads is ", config.heads, ", expected a divisor of width ", config.width));
  }
  config.dropout = dropout.get<double>();
  config.bias = bias.get<bool>();
  config.wide_residual = wide_residual.get<bool>();
  return config;
}

const std::string& entry_of(const nn::Metadata& metadata, const char* key) {
  const auto it = metadata.find(key);
  if (it == metadata.end()) throw Error(cat("there is no ", key));
  return it->second;
}

CheckpointInfo info_from(const nn::Metadata& metadata) {
  CheckpointInfo info;
  info.config = config_from(Json::parse(entry_of(metadata, "config"), nullptr, false));
  info.preset = entry_of(metadata, "preset");
  info.corpus = entry_of(metadata, "corpus");
  if (!info.corpus.empty() && info.corpus != "easy" && info.corpus != "standard") {
    throw Error(cat("corpus is ", info.corpus, ", expected easy, standard or nothing"));
  }
  const std::string& step = entry_of(metadata, "step");
  const char* const end = step.data() + step.size();
  const auto [stop, error] = std::from_chars(step.data(), end, info.step);
  if (error != std::errc() || stop != end || info.step < 0) {
    throw Error(cat("step is \"", step, "\", expected an integer from 0"));
  }
  if (const auto it = metadata.find("vocabulary"); it != metadata.end()) {
    info.vocabulary = data::Vocabulary::from_json(Json::parse(it->second, nullptr, false));
    if (info.vocabulary->size() != info.config.vocab) {
      throw Error(cat("the vocabulary has ", info.vocabulary->size(), " symbols, expected vocab ",
                      info.config.vocab));
    }
  }
  return info;
}

constexpr std::string_view kModel[] = {"model.safetensors"};

/// A file of a checkpoint, which MANIFEST beside it says the checksum of, or one without.
fs::path intact_file(const fs::path& file) {
  SystemDisk disk;
  const bool has_checksum =
      file.filename() == kModel[0] && fs::exists(file.parent_path() / "MANIFEST");
  const std::string fault = has_checksum ? fault_of_copy(disk, file.parent_path(), kModel) : "";
  if (!fault.empty()) throw Error(cat("checkpoint: ", fault, "; name another one"));
  return file;
}

fs::path checkpoint_file(const fs::path& run) {
  if (fs::is_regular_file(run)) return intact_file(run);
  if (fs::is_regular_file(run / kModel[0])) return intact_file(run / kModel[0]);
  SystemDisk disk;
  const CheckpointStore store(disk, run / "checkpoints");
  const std::vector<std::int64_t> steps = store.steps();
  if (steps.empty()) {
    throw Error(cat("checkpoint: ", run.string(), " is neither a run directory with checkpoints ",
                    "nor a file; lamina-gpt train makes one"));
  }
  const std::int64_t step =
      store.target("best").value_or(store.target("latest").value_or(steps.front()));
  const std::string fault = store.fault(step, kModel);
  if (fault.empty()) return store.path_of(step) / kModel[0];
  const auto other = std::find_if(steps.begin(), steps.end(), [&](std::int64_t candidate) {
    return store.fault(candidate, kModel).empty();
  });
  throw Error(cat("checkpoint: ", fault,
                  other == steps.end()
                      ? ""
                      : cat("; ", store.path_of(*other).string(), " is intact: name it instead")));
}

Checkpoint read_checkpoint(const fs::path& path) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  const nn::Metadata metadata = nn::read_metadata(path.string());
  try {
    checkpoint.info = info_from(metadata);
  } catch (const Error& error) {
    throw Error(cat("checkpoint: ", path.string(), " has no usable metadata (", error.what(),
                    "), expected a file of lamina-gpt train"));
  }
  checkpoint.model = std::make_unique<Gpt>(checkpoint.info.config);
  nn::load_parameters(*checkpoint.model, path.string());
  return checkpoint;
}

}  // namespace

nn::Metadata metadata_of(const CheckpointInfo& info) {
  nn::Metadata metadata = {{"format", "lamina-gpt"},
                           {"config", config_json(info.config).dump()},
                           {"preset", info.preset},
                           {"corpus", info.corpus},
                           {"step", std::to_string(info.step)}};
  if (info.vocabulary) metadata["vocabulary"] = info.vocabulary->to_json().dump();
  return metadata;
}

Checkpoint load_checkpoint(const fs::path& run) {
  return read_checkpoint(checkpoint_file(run));
}

std::optional<Checkpoint> load_newest(const fs::path& run) {
  SystemDisk disk;
  const CheckpointStore store(disk, run / "checkpoints");
  for (const std::int64_t step : store.steps())
    if (store.fault(step, kModel).empty()) return read_checkpoint(store.path_of(step) / kModel[0]);
  return std::nullopt;
}

std::uint64_t weights_hash(Gpt& model) {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a, 64 bits
  const auto add = [&](std::span<const unsigned char> bytes) {
    for (const unsigned char byte : bytes)
      hash = (hash ^ byte) * 0x100000001b3;
  };
  for (const NamedParameter& parameter : model.named_parameters()) {
    const Tensor host = parameter.var->value().to(kCpu).contiguous();
    add({reinterpret_cast<const unsigned char*>(parameter.name.data()), parameter.name.size()});
    add({static_cast<const unsigned char*>(host.data()), host.bytes()});
  }
  return hash;
}

std::string hash_text(std::uint64_t hash) {
  std::ostringstream text;
  text << "0x" << std::hex << std::setfill('0') << std::setw(16) << hash;
  return text.str();
}

}  // namespace lamina::gpt
