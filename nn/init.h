// SPDX-License-Identifier: MIT
// Initial values of parameters. An Initializer fills a new f32 tensor from a generator.
#pragma once

#include "core/random.h"
#include "core/tensor.h"

#include <functional>

namespace lamina::init {

using Initializer = std::function<void(const Tensor& parameter, Generator& generator)>;

void zeros(const Tensor& parameter, Generator& generator);
void ones(const Tensor& parameter, Generator& generator);

/// Normal with mean 0 and the given standard deviation.
Initializer normal(double deviation);

/// Uniform in [-bound, bound).
Initializer uniform(double bound);

}  // namespace lamina::init
