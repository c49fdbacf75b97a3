// SPDX-License-Identifier: MIT
// recompute(): trades time for memory. Chen et al. 2016, https://arxiv.org/abs/1604.06174,
// section 4.
#pragma once

#include "autograd/var.h"

#include <functional>
#include <vector>

namespace lamina {

using RecomputeFunction = std::function<std::vector<Var>(const std::vector<Var>& inputs)>;

/// f(inputs), of which only the inputs are kept for the backward pass: it runs f again first. Costs
/// another forward pass of f. f draws the same numbers from the default generator again, so
/// gradients have the same bits, except those of an input that f reads twice and others read, too:
/// they are added in another order. f must depend on nothing else that changes before the backward
/// pass, and must not draw from other generators. Values with a gradient that f reads are its
/// inputs or parameters: others throw Error in the backward pass. Without an input that requires a
/// gradient, or under NoGrad, f just runs. A hook of a parameter that is also used outside f may be
/// called before its gradient is complete.
std::vector<Var> recompute(const std::vector<Var>& inputs, const RecomputeFunction& f);

}  // namespace lamina
