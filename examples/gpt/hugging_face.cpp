// SPDX-License-Identifier: MIT
#include "examples/gpt/hugging_face.h"

#include "core/text.h"
#include "examples/gpt/bpe.h"
#include "examples/gpt/log.h"
#include "examples/gpt/tokenizer_file.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kPrefix = "transformer.";
constexpr std::string_view kHead = "lm_head.weight";

/// Lamina's name of a parameter in transformers' words, without the prefix.
std::string their_name(std::string name) {
  static constexpr std::pair<std::string_view, std::string_view> kWords[] = {
      {"blocks.", "h."},           {"tokens.", "wte."},
      {"positions.", "wpe."},      {"norm_1.", "ln_1."},
      {"norm_2.", "ln_2."},        {"attention.qkv.", "attn.c_attn."},
      {"mlp.up.", "mlp.c_fc."},    {"attention.project.", "attn.c_proj."},
      {"mlp.down.", "mlp.c_proj."}};
  if (name.starts_with("norm.")) return name.replace(0, 5, "ln_f.");
  for (const auto& [ours, theirs] : kWords) {
    const std::size_t at = name.find(ours);
    if (at != std::string::npos) name.replace(at, ours.size(), theirs);
  }
  return name;
}

/// Matrices of the blocks are Conv1D there: [in, out] instead of [out, in].
bool is_transposed(const std::string& their_name) {
  return their_name.starts_with("h.") && their_name.ends_with(".weight") &&
         their_name.find(".ln_") == std::string::npos;
}

/// Attention masks, which some files hold.
bool is_mask(std::string_view name) {
  return name.starts_with("h.") &&
         (name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"));
}

/// The shape of a parameter in the file.
Shape their_shape(const Gpt& model, const std::string& name, const Shape& ours) {
  if (name == "wte.weight") return {model.config.vocab, model.config.width};
  return is_transposed(name) ? Shape{ours[1], ours[0]} : ours;
}

bool has_shape(const nn::TensorEntry& entry, const Shape& shape) {
  const auto extents = shape.extents();
  return std::equal(
      entry.shape.begin(), entry.shape.end(), extents.begin(), extents.end(),
      [](std::uint64_t a, std::int64_t b) { return a == static_cast<std::uint64_t>(b); });
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text;
  for (const std::uint64_t extent : shape)
    text += cat(text.empty() ? "" : ", ", extent);
  return cat("[", text, "]");
}

/// "; missing: a, b, c and 9 more" or "".
std::string list_text(std::string_view what, const std::vector<std::string>& names) {
  constexpr std::size_t kMost = 5;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kMost); ++i)
    text += cat(text.empty() ? "" : ", ", names[i]);
  if (names.size() > kMost) text += cat(" and ", names.size() - kMost, " more");
  return names.empty() ? "" : cat("; ", what, ": ", text);
}

class Importer {
 public:
  Importer(const fs::path& file, Gpt& model) : reader_(file.string()), model_(model) {
    for (const auto& [name, entry] : reader_.entries()) {
      const bool has_prefix = name.starts_with(kPrefix);
      const std::string bare = has_prefix ? name.substr(kPrefix.size()) : name;
      if (is_mask(bare)) continue;
      const auto [it, is_new] = names_.emplace(bare, name);
      if (!is_new) {
        throw Error(cat("import: ", file.string(), " has ", it->second, " and ", name,
                        ", expected one of them"));
      }
    }
    expect_tensors(file);
  }

  /// Fills the model. Nothing of it has changed before everything was checked.
  void load() {
    for (const auto& [ours, var] : model_.named_parameters()) {
      const std::string name = their_name(ours);
      const Tensor value = read(name);
      var->value().fill(0.0);  // rows that pad the token embedding
      const Tensor real =
          var->value().slice(0, 0, is_transposed(name) ? value.dim(1) : value.dim(0));
      real.copy_from(is_transposed(name) ? value.transpose(0, 1).contiguous() : value);
    }
  }

 private:
  Tensor read(const std::string& bare) const { return reader_.read(names_.at(bare)); }

  void expect_tensors(const fs::path& file) {
    std::vector<std::string> missing, unexpected, other_shape;
    auto left = names_;
    for (const auto& [ours, var] : model_.named_parameters()) {
      const std::string name = their_name(ours);
      const auto found = names_.find(name);
      if (found == names_.end()) {
        missing.push_back(name);
        continue;
      }
      const nn::TensorEntry& entry = reader_.entries().at(found->second);
      const Shape expected = their_shape(model_, name, var->shape());
      if (!has_shape(entry, expected)) {
        other_shape.push_back(cat(name, " ", shape_text(entry.shape), " instead of ", expected));
      } else if (entry.dtype != "F32" && entry.dtype != "F16" && entry.dtype != "BF16") {
        other_shape.push_back(cat(name, " ", entry.dtype, " instead of F32, F16 or BF16"));
      }
      left.erase(name);
    }
    const bool has_head = left.erase(std::string(kHead)) > 0;
    for (const auto& [bare, name] : left)
      unexpected.push_back(name);
    if (!missing.empty() || !unexpected.empty() || !other_shape.empty()) {
      throw Error(cat("import: ", file.string(), " does not hold the tensors of its config.json",
                      list_text("missing", missing), list_text("unexpected", unexpected),
                      list_text("of another form", other_shape)));
    }
    if (has_head) expect_tied_head(file);
  }

  void expect_tied_head(const fs::path& file) const {
    const Tensor head = read(std::string(kHead)), embedding = read("wte.weight");
    const bool is_same =
        head.shape() == embedding.shape() &&
        head.to(DType::f32).to_vector<float>() == embedding.to(DType::f32).to_vector<float>();
    if (is_same) return;
    throw Error(cat("import: ", kHead, " of ", file.string(),
                    " differs from wte.weight, expected the same (the head is tied)"));
  }

  nn::TensorReader reader_;
  Gpt& model_;
  std::map<std::string, std::string> names_;  // in the file, by name without prefix
};

fs::path weights_file(const fs::path& directory) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    if (fs::is_regular_file(directory / name)) return directory / name;
  }
  throw Error(cat("import: ", directory.string(),
                  " has neither model.safetensors nor model.safetensors.index.json, expected one",
                  fs::exists(directory / "pytorch_model.bin")
                      ? "; load pytorch_model.bin with transformers and save_pretrained() it again"
                      : ""));
}

std::optional<data::Vocabulary> read_vocabulary(const fs::path& directory, std::int64_t size) {
  if (!fs::exists(directory / "tokenizer.json") && !fs::exists(directory / "merges.txt"))
    return std::nullopt;
  data::Vocabulary vocabulary = data::read_tokenizer(directory);
  if (vocabulary.size() == size) return vocabulary;
  throw Error(cat("import: the tokenizer of ", directory.string(), " has ", vocabulary.size(),
                  " tokens, expected vocab_size ", size,
                  "; without tokenizer files the weights are imported alone"));
}

/// The token that ends a text, or null.
Json end_token(const CheckpointInfo& info) {
  const data::Bpe* const bpe = info.vocabulary ? info.vocabulary->bpe() : nullptr;
  if (bpe == nullptr || bpe->parts().special.empty()) return nullptr;
  return bpe->parts().special.front();
}

Json config_json(const CheckpointInfo& info) {
  const GptConfig& config = info.config;
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"vocab_size", config.vocab},
          {"n_positions", config.context},
          {"n_ctx", config.context},
          {"n_embd", config.width},
          {"n_layer", config.layers},
          {"n_head", config.heads},
          {"n_inner", nullptr},
          {"activation_function", "gelu_new"},
          {"resid_pdrop", config.dropout},
          {"embd_pdrop", config.dropout},
          {"attn_pdrop", config.dropout},
          {"layer_norm_epsilon", 1e-5},
          {"initializer_range", 0.02},
          {"scale_attn_weights", true},
          {"scale_attn_by_inverse_layer_idx", false},
          {"reorder_and_upcast_attn", false},
          {"tie_word_embeddings", true},
          {"bos_token_id", end_token(info)},
          {"eos_token_id", end_token(info)},
          {"torch_dtype", "float32"}};
}

nn::NamedTensors tensors_of(Gpt& model) {
  nn::NamedTensors tensors;
  const auto add = [&](const std::string& name, const Tensor& value) {
    tensors.emplace_back(cat(kPrefix, name), value);
  };
  for (const auto& [ours, var] : model.named_parameters()) {
    const std::string name = their_name(ours);
    const Tensor value = var->value().to(kCpu).to(DType::f32);
    if (is_transposed(name)) {
      add(name, value.transpose(0, 1).contiguous());
    } else {
      add(name, name == "wte.weight" ? value.slice(0, 0, model.config.vocab) : value);
    }
    const bool has_bias = !name.starts_with("wte.") && !name.starts_with("wpe.");
    if (model.config.bias || !has_bias) continue;
    const Tensor bias = empty({value.dim(0)}, DType::f32);  // of matrices: the rows are outputs
    bias.fill(0.0);
    add(name.substr(0, name.size() - std::string_view("weight").size()) + "bias", bias);
  }
  return tensors;
}

void write_json(const fs::path& path, const Json& json) {
  write_file(path, json.dump(2) + "\n");
}

void write_tokenizer(const CheckpointInfo& info, const fs::path& directory) {
  write_json(directory / "tokenizer.json", data::tokenizer_json(*info.vocabulary));
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"model_max_length", info.config.context}};
  if (const Json end = end_token(info); !end.is_null())
    config["bos_token"] = config["eos_token"] =
        info.vocabulary->decode(std::vector{end.get<std::int32_t>()});
  write_json(directory / "tokenizer_config.json", config);
}

}  // namespace

Checkpoint import_gpt2(const fs::path& directory) {
  const fs::path config = directory / "config.json";
  if (!fs::is_regular_file(config)) {
    throw Error(cat("import: ", directory.string(),
                    " has no config.json, expected a directory that save_pretrained() wrote"));
  }
  Checkpoint checkpoint;
  checkpoint.path = directory;
  try {
    checkpoint.info.config = config_from_hugging_face(data::read_text_files(std::vector{config}));
  } catch (const Error& error) {
    throw Error(cat("import: ", directory.string(), "/", error.what()));
  }
  const fs::path weights = weights_file(directory);
  checkpoint.info.vocabulary = read_vocabulary(directory, checkpoint.info.config.vocab);
  checkpoint.model = std::make_unique<Gpt>(checkpoint.info.config);
  Importer(weights, *checkpoint.model).load();
  return checkpoint;
}

void export_gpt2(Gpt& model, const CheckpointInfo& info, const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) throw Error(cat("export: ", directory.string(), " cannot be made: ", error.message()));
  nn::save_tensors(tensors_of(model), (directory / "model.safetensors").string(),
                   {{"format", "pt"}});
  if (info.vocabulary) write_tokenizer(info, directory);
  write_json(directory / "generation_config.json",
             {{"bos_token_id", end_token(info)}, {"eos_token_id", end_token(info)}});
  write_json(directory / "config.json", config_json(info));
}

}  // namespace lamina::gpt
