// SPDX-License-Identifier: MIT
#include "nn/state_dict.h"

#include "core/error.h"
#include "core/text.h"

#include <algorithm>
#include <span>
#include <vector>

namespace lamina::nn {

namespace {

[[noreturn]] void fail_load(const std::string& path, const std::string& what) {
  throw Error(cat("safetensors: ", path, ": ", what));
}

bool has_shape(const TensorEntry& entry, const Shape& shape) {
  const std::span<const std::int64_t> extents = shape.extents();
  return std::equal(
      entry.shape.begin(), entry.shape.end(), extents.begin(), extents.end(),
      [](std::uint64_t a, std::int64_t b) { return a == static_cast<std::uint64_t>(b); });
}

std::string text_of(const std::vector<std::uint64_t>& shape) {
  std::string text;
  for (const std::uint64_t extent : shape)
    text += cat(text.empty() ? "" : ", ", extent);
  return cat("[", text, "]");
}

void expect_tensors(const NamedTensors& tensors, const TensorReader& reader,
                    const std::string& path) {
  auto unknown = reader.entries();
  for (const auto& [name, tensor] : tensors) {
    const auto it = reader.entries().find(name);
    if (it == reader.entries().end()) {
      fail_load(path, cat("tensor ", name, " ", tensor.shape(),
                          " is missing; the file is of another model"));
    }
    if (!has_shape(it->second, tensor.shape())) {
      fail_load(path, cat(name, " has shape ", text_of(it->second.shape), ", expected ",
                          tensor.shape(), " (the model's)"));
    }
    unknown.erase(name);
  }
  if (!unknown.empty()) {
    fail_load(path, cat("tensor ", unknown.begin()->first,
                        " is in the file, but the model has no such tensor"));
  }
}

}  // namespace

NamedTensors parameters_of(Module& module) {
  NamedTensors tensors;
  for (const auto& [name, var] : module.named_parameters())
    tensors.emplace_back(name, var->value());
  return tensors;
}

void save_parameters(Module& module, const std::string& path, const Metadata& metadata) {
  save_tensors(parameters_of(module), path, metadata);
}

Metadata load_parameters(Module& module, const std::string& path) {
  return load_into(parameters_of(module), path);
}

Metadata load_into(const NamedTensors& into, const std::string& path) {
  const TensorReader reader(path);
  expect_tensors(into, reader, path);
  std::vector<Tensor> values;
  for (const auto& [name, tensor] : into)
    values.push_back(reader.read(name));
  for (std::size_t i = 0; i < into.size(); ++i)
    into[i].second.copy_from(values[i]);
  return reader.metadata();
}

Metadata read_metadata(const std::string& path) {
  return TensorReader(path).metadata();
}

}  // namespace lamina::nn
