// SPDX-License-Identifier: MIT
// One forward and backward pass of the example's GPT on given weights and tokens, for
// gpt2_parity.py, which compares it with PyTorch's GPT-2.
// Usage: gpt2_parity INPUT.safetensors OUTPUT.safetensors DEVICE DTYPE LAYERS HEADS
// Input: the parameters by Lamina's names, "ids" and "targets" (i32). Output: "logits", "loss" and
// the gradient of each parameter under its name, in f32.
#include "examples/gpt/model.h"

#include <cstdio>
#include <map>
#include <string>

namespace {

using namespace lamina;

void compare(char** argv) {
  std::map<std::string, Tensor> input;
  for (auto& [name, tensor] : nn::load_tensors(argv[1]))
    input[name] = tensor;
  const Device device = Device::parse(argv[3]);
  const std::string dtype_name = argv[4];
  const DType dtype = dtype_name == "bf16"  ? DType::bf16
                      : dtype_name == "f64" ? DType::f64
                                            : DType::f32;

  const Tensor& embedding = input.at("tokens.weight");
  gpt::Gpt model({.layers = std::stoi(argv[5]),
                  .heads = std::stoi(argv[6]),
                  .width = embedding.dim(1),
                  .context = input.at("positions.weight").dim(0),
                  .vocab = embedding.dim(0)});
  for (const auto& [name, var] : model.named_parameters()) {
    const Tensor& value = input.at(name);
    var->value().fill(0.0);  // the padding rows of the token embedding
    var->value().slice(0, 0, value.dim(0)).copy_from(value);
  }
  model.to(device, dtype);

  const Var logits = model(input.at("ids").to(device));
  const Var loss =
      cross_entropy(logits, input.at("targets").to(device), {.classes = model.config.vocab});
  backward(loss);

  nn::NamedTensors output;
  const auto real_rows = [&](const Tensor& tensor, const std::string& name) {
    return tensor.slice(0, 0, input.at(name).dim(0)).to(kCpu).to(DType::f32).contiguous();
  };
  output.emplace_back("logits",
                      logits.value().slice(2, 0, model.config.vocab).to(DType::f32).to(kCpu));
  output.emplace_back("loss", loss.value().to(kCpu).to(DType::f32));
  for (const auto& [name, var] : model.named_parameters()) {
    output.emplace_back(name, real_rows(var->grad(), name));
  }
  nn::save_tensors(output, argv[2]);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fprintf(stderr, "usage: %s INPUT OUTPUT DEVICE f32|bf16|f64 LAYERS HEADS\n", argv[0]);
    return 2;
  }
  try {
    compare(argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpt2_parity: %s\n", error.what());
    return 1;
  }
  return 0;
}
