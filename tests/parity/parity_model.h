// SPDX-License-Identifier: MIT
// The example's GPT with weights from a file, for the programs that a Python script compares with
// PyTorch.
#pragma once

#include "examples/gpt/model.h"

#include <map>
#include <memory>
#include <string>

namespace lamina::parity {

using Tensors = std::map<std::string, Tensor>;

inline Tensors load(const std::string& path) {
  Tensors tensors;
  for (auto& [name, tensor] : nn::load_tensors(path))
    tensors[name] = tensor;
  return tensors;
}

inline DType dtype_named(const std::string& name) {
  return name == "bf16" ? DType::bf16 : name == "f64" ? DType::f64 : DType::f32;
}

/// `input` holds the parameters by Lamina's names; their shapes give all sizes but these.
inline std::unique_ptr<gpt::Gpt> make_model(const Tensors& input, int layers, int heads,
                                            bool wide_residual = false) {
  const Tensor& embedding = input.at("tokens.weight");
  auto model =
      std::make_unique<gpt::Gpt>(gpt::GptConfig{.layers = layers,
                                                .heads = heads,
                                                .width = embedding.dim(1),
                                                .context = input.at("positions.weight").dim(0),
                                                .vocab = embedding.dim(0),
                                                .wide_residual = wide_residual});
  for (const auto& [name, var] : model->named_parameters()) {
    const Tensor& value = input.at(name);
    var->value().fill(0.0);  // the padding rows of the token embedding
    var->value().slice(0, 0, value.dim(0)).copy_from(value);
  }
  return model;
}

}  // namespace lamina::parity
