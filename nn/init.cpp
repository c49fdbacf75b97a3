// SPDX-License-Identifier: MIT
#include "nn/init.h"

namespace lamina::init {

void zeros(const Tensor& parameter, Generator& /*generator*/) {
  parameter.fill(0.0);
}

void ones(const Tensor& parameter, Generator& /*generator*/) {
  parameter.fill(1.0);
}

Initializer normal(double deviation) {
  return [deviation](const Tensor& parameter, Generator& generator) {
    const PhiloxKey key = generator.next();
    auto* const out = parameter.data<float>();
    const auto count = static_cast<std::uint64_t>(parameter.elements());
    for (std::uint64_t i = 0; i < count; ++i) {
      out[i] = static_cast<float>(deviation * normal_at(key, i));
    }
  };
}

Initializer uniform(double bound) {
  return [bound](const Tensor& parameter, Generator& generator) {
    parameter.copy_from(
        lamina::uniform(parameter.shape(), -bound, bound, generator, parameter.dtype()));
  };
}

}  // namespace lamina::init
