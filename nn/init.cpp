// SPDX-License-Identifier: MIT
#include "nn/init.h"

#include "core/kernels/random_fill.h"

namespace lamina::init {

void zeros(const Tensor& parameter, Generator& /*generator*/) {
  parameter.fill(0.0);
}

void ones(const Tensor& parameter, Generator& /*generator*/) {
  parameter.fill(1.0);
}

Initializer normal(double deviation) {
  return [deviation](const Tensor& parameter, Generator& generator) {
    run(kernels::RandomFill{.y = flat(parameter),
                            .region = generator.next(),
                            .kind = kernels::RandomKind::normal,
                            .scale = deviation},
        CpuStream{});
  };
}

Initializer uniform(double bound) {
  return [bound](const Tensor& parameter, Generator& generator) {
    parameter.copy_from(
        lamina::uniform(parameter.shape(), -bound, bound, generator, parameter.dtype()));
  };
}

}  // namespace lamina::init
