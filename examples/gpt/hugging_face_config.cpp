// SPDX-License-Identifier: MIT
#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "examples/gpt/bpe_files.h"
#include "examples/gpt/hugging_face.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace lamina::gpt {

namespace {

using Json = nlohmann::json;

std::string value_text(const Json& value) {
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 60) + "..." : text;
}

[[noreturn]] void refuse(const char* key, const Json& value, const std::string& expected) {
  throw Error(cat("config.json: ", key, " is ", value_text(value), ", expected ", expected));
}

std::int64_t extent_of(const Json& config, const char* key, std::int64_t usual, std::int64_t least,
                       std::int64_t most) {
  const Json value = config.value(key, Json(usual));
  if (!value.is_number_integer() || value < least || value > most)
    refuse(key, value, cat("an integer from ", least, " to ", most));
  return value.get<std::int64_t>();
}

/// A field that decides what the model computes, of which one value is implemented. It is the usual
/// one.
void expect_value(const Json& config, const char* key, const Json& usual) {
  const Json value = config.value(key, usual);
  if (value != usual) refuse(key, value, usual.dump() + " (no other is implemented)");
}

/// The probabilities of dropout, which must be one here.
double dropout_of(const Json& config) {
  constexpr double kUsual = 0.1;
  const Json dropout = config.value("resid_pdrop", Json(kUsual));
  for (const char* key : {"resid_pdrop", "embd_pdrop", "attn_pdrop"}) {
    const Json value = config.value(key, Json(kUsual));
    if (!value.is_number() || !(value >= 0.0 && value < 1.0))
      refuse(key, value, "a number in [0, 1)");
    if (value != dropout)
      refuse(key, value, cat("that of resid_pdrop, ", dropout.dump(), " (there is one dropout)"));
  }
  return dropout.get<double>();
}

}  // namespace

GptConfig config_from_hugging_face(std::string_view text) {
  const Json config = parse_json(text, "config.json");
  if (!config.is_object()) throw Error("config.json is no object, expected that of a GPT-2");
  const Json kind = config.value("model_type", Json());
  if (kind != "gpt2") refuse("model_type", kind, "\"gpt2\"");
  constexpr std::int64_t kMostSymbols = 0x110000, kMostLayers = 1000, kMostWidth = 65536;
  GptConfig result{.layers = static_cast<int>(extent_of(config, "n_layer", 12, 1, kMostLayers)),
                   .heads = static_cast<int>(extent_of(config, "n_head", 12, 1, kMostLayers)),
                   .width = extent_of(config, "n_embd", 768, 1, kMostWidth),
                   .context = extent_of(config, "n_positions", 1024, 2, kMostWidth),
                   .vocab = extent_of(config, "vocab_size", 50257, 1, kMostSymbols),
                   .dropout = dropout_of(config)};
  if (result.width % result.heads != 0) {
    throw Error(cat("config.json: n_head is ", result.heads, ", expected a divisor of n_embd ",
                    result.width));
  }
  const Json inner = config.value("n_inner", Json());
  if (!inner.is_null() && inner != 4 * result.width)
    refuse("n_inner", inner, cat("null or ", 4 * result.width, " (4 n_embd)"));
  const Json activation = config.value("activation_function", Json("gelu_new"));
  if (activation != "gelu_new" && activation != "gelu_pytorch_tanh")  // two names of one function
    refuse("activation_function", activation, "\"gelu_new\" (no other is implemented)");
  expect_value(config, "layer_norm_epsilon", 1e-5);
  expect_value(config, "scale_attn_weights", true);
  expect_value(config, "scale_attn_by_inverse_layer_idx", false);
  expect_value(config, "reorder_and_upcast_attn", false);
  expect_value(config, "add_cross_attention", false);
  expect_value(config, "tie_word_embeddings", true);
  return result;
}

}  // namespace lamina::gpt
