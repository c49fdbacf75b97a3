// SPDX-License-Identifier: MIT
#include "autograd/gradcheck.h"

#include "autograd/record.h"
#include "core/expect.h"

#include <algorithm>
#include <cmath>

namespace lamina {

GradcheckResult gradcheck(const std::function<Var(std::span<const Var>)>& f,
                          const std::vector<Tensor>& inputs, const GradcheckOptions& options) {
  std::vector<Var> parameters;
  for (const Tensor& input : inputs) {
    expect_dtype("gradcheck", "an input", input, DType::f64, "differences need its 53 bits");
    if (input.device() != kCpu) {
      throw DeviceError(cat("gradcheck: an input is on ", input.device(), ", expected cpu"));
    }
    parameters.push_back(Var::parameter(input.clone()));
  }

  // The output is projected on random weights: one backward pass then checks all of it.
  const Var out = f(parameters);
  Generator generator(options.seed);
  const Tensor weights = uniform(out.shape(), -1.0, 1.0, generator, DType::f64);
  const std::vector<double> w = weights.to_vector<double>();
  if (out.requires_grad()) backward(out, weights);

  std::vector<Var> constants;
  for (const Var& parameter : parameters)
    constants.emplace_back(parameter.value());
  GradcheckResult result{.passed = true, .worst = 0.0, .message = ""};
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Tensor value = parameters[i].value(), grad = parameters[i].grad();
    auto* const x = value.data<double>();
    const std::vector<double> analytic =
        grad ? grad.to_vector<double>()
             : std::vector<double>(static_cast<std::size_t>(value.elements()), 0.0);
    std::vector<double> differences(analytic.size());
    double largest = 1e-3;  // below this the differences are noise
    for (std::size_t j = 0; j < analytic.size(); ++j) {
      const double saved = x[j], step = options.step * std::max(1.0, std::abs(saved));
      x[j] = saved + step;
      const std::vector<double> above = f(constants).value().to_vector<double>();
      x[j] = saved - step;
      const std::vector<double> below = f(constants).value().to_vector<double>();
      x[j] = saved;
      double numeric = 0.0;
      for (std::size_t k = 0; k < w.size(); ++k)
        numeric += w[k] * (above[k] - below[k]);
      differences[j] = numeric / (2.0 * step);
      largest = std::max(largest, std::abs(differences[j]));
    }
    for (std::size_t j = 0; j < analytic.size(); ++j) {
      const double error = std::abs(differences[j] - analytic[j]) / largest;
      if (error <= result.worst) continue;  // false for NaN, which must be reported
      result.worst = error;
      result.passed = error <= options.tolerance;
      result.message = cat("gradcheck: input ", i, ", element ", j, " of ", value.shape(),
                           ": backward gives ", analytic[j], ", differences give ", differences[j]);
      if (std::isnan(error)) return result;
    }
  }
  return result;
}

GradcheckResult gradcheck(const std::function<Var(const Var&)>& f, const Tensor& input,
                          const GradcheckOptions& options) {
  return gradcheck([&f](std::span<const Var> x) { return f(x[0]); }, std::vector<Tensor>{input},
                   options);
}

}  // namespace lamina
