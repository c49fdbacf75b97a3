// SPDX-License-Identifier: MIT
#include "examples/gpt/checkpoint.h"

#include "core/text.h"

#include <iomanip>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <utility>

namespace lamina::gpt {

namespace {

using Json = nlohmann::json;

Json config_json(const GptConfig& config) {
  return {{"layers", config.layers},   {"heads", config.heads}, {"width", config.width},
          {"context", config.context}, {"vocab", config.vocab}, {"dropout", config.dropout},
          {"bias", config.bias}};
}

GptConfig config_from(const Json& json) {
  return {.layers = json.at("layers").get<int>(),
          .heads = json.at("heads").get<int>(),
          .width = json.at("width").get<std::int64_t>(),
          .context = json.at("context").get<std::int64_t>(),
          .vocab = json.at("vocab").get<std::int64_t>(),
          .dropout = json.at("dropout").get<double>(),
          .bias = json.at("bias").get<bool>()};
}

CheckpointInfo info_from(const nn::Metadata& metadata) {
  CheckpointInfo info;
  info.config = config_from(Json::parse(metadata.at("config")));
  info.preset = metadata.at("preset");
  info.corpus = metadata.at("corpus");
  info.step = std::stoll(metadata.at("step"));
  if (const auto it = metadata.find("vocabulary"); it != metadata.end()) {
    info.vocabulary = data::Vocabulary::from_json(Json::parse(it->second));
  }
  return info;
}

std::filesystem::path checkpoint_file(const std::filesystem::path& run) {
  namespace fs = std::filesystem;
  if (fs::is_regular_file(run)) return run;
  for (const char* name : {"best.safetensors", "last.safetensors"}) {
    if (fs::is_regular_file(run / name)) return run / name;
  }
  throw Error(cat("checkpoint: ", run.string(),
                  " is neither a run directory with best.safetensors ",
                  "or last.safetensors nor a file; lamina-gpt train makes one"));
}

}  // namespace

void save_checkpoint(Gpt& model, const CheckpointInfo& info, const std::filesystem::path& path) {
  nn::Metadata metadata = {{"format", "lamina-gpt"},
                           {"config", config_json(info.config).dump()},
                           {"preset", info.preset},
                           {"corpus", info.corpus},
                           {"step", std::to_string(info.step)}};
  if (info.vocabulary) metadata["vocabulary"] = info.vocabulary->to_json().dump();
  nn::save_parameters(model, path.string(), metadata);
}

Checkpoint load_checkpoint(const std::filesystem::path& run) {
  Checkpoint checkpoint;
  checkpoint.path = checkpoint_file(run);
  const nn::Metadata metadata = nn::read_metadata(checkpoint.path.string());
  try {
    checkpoint.info = info_from(metadata);
  } catch (const std::exception& error) {
    throw Error(cat("checkpoint: ", checkpoint.path.string(), " has no usable metadata (",
                    error.what(), "), expected a file of lamina-gpt train"));
  }
  checkpoint.model = std::make_unique<Gpt>(checkpoint.info.config);
  nn::load_parameters(*checkpoint.model, checkpoint.path.string());
  return checkpoint;
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
