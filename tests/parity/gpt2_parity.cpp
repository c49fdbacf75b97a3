// SPDX-License-Identifier: MIT
// One forward and backward pass of the example's GPT on given weights and tokens, for
// gpt2_parity.py, which compares it with PyTorch's GPT-2.
// Usage: gpt2_parity INPUT.safetensors OUTPUT.safetensors DEVICE DTYPE LAYERS HEADS
// Input: the parameters by Lamina's names, "ids" and "targets" (i32). Output: "logits", "loss" and
// the gradient of each parameter under its name, in f32.
#include "tests/parity/parity_model.h"

#include <cstdio>
#include <exception>

namespace {

using namespace lamina;

void compare(char** argv) {
  const parity::Tensors input = parity::load(argv[1]);
  const Device device = Device::parse(argv[3]);
  const auto model = parity::make_model(input, std::stoi(argv[5]), std::stoi(argv[6]));
  model->to(device, parity::dtype_named(argv[4]));

  const Var logits = (*model)(input.at("ids").to(device));
  const Var loss =
      cross_entropy(logits, input.at("targets").to(device), {.classes = model->config.vocab});
  backward(loss);

  nn::NamedTensors output;
  const auto real_rows = [&](const Tensor& tensor, const std::string& name) {
    return tensor.slice(0, 0, input.at(name).dim(0)).to(kCpu).to(DType::f32).contiguous();
  };
  output.emplace_back("logits",
                      logits.value().slice(2, 0, model->config.vocab).to(DType::f32).to(kCpu));
  output.emplace_back("loss", loss.value().to(kCpu).to(DType::f32));
  for (const auto& [name, var] : model->named_parameters()) {
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
