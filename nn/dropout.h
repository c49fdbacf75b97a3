// SPDX-License-Identifier: MIT
// Dropout: zeroes each element with probability p in training mode, does nothing in evaluation
// mode. Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html.
#pragma once

#include "autograd/ops.h"
#include "nn/module.h"

namespace lamina::nn {

struct Dropout : Layer<Dropout> {
  explicit Dropout(double p, Generator* generator = nullptr) : p(p), generator(generator) {}

  const double p;
  Generator* const generator;  // nullptr: the default generator of the calling thread

  Var forward(const Var& x) const {
    return is_training() ? dropout(x, p, generator ? *generator : default_generator()) : x;
  }
};

}  // namespace lamina::nn
