// SPDX-License-Identifier: MIT
// Parameters of a module in a safetensors file: 8 bytes little-endian header length, a JSON header
// with dtype, shape and byte range per name, then the data. Format:
// https://github.com/huggingface/safetensors.
#pragma once

#include "nn/module.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace lamina::nn {

/// Free text that travels in the file's "__metadata__".
using Metadata = std::map<std::string, std::string>;

/// Tensors with their names; load_tensors() gives them sorted by name.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// Writes tensors. The file appears whole or not at all: it is written beside its place, synced and
/// renamed. Throws Error with the path and the system's reason.
void save_tensors(const NamedTensors& tensors, const std::string& path,
                  const Metadata& metadata = {});

/// Reads all tensors of a file to the CPU. Throws Error for a damaged file.
NamedTensors load_tensors(const std::string& path);

/// Writes every parameter under its name in its dtype, as save_tensors() does.
void save_parameters(Module& module, const std::string& path, const Metadata& metadata = {});

/// Reads every parameter by name, converting the dtype if needed, and returns the metadata. The
/// whole file is checked first: a missing or unknown name, a wrong shape, or a damaged file throws
/// Error and leaves the module as it was. An AdamW of 16-bit parameters that exists already needs
/// its refresh_master() afterwards.
Metadata load_parameters(Module& module, const std::string& path);

/// The metadata alone.
Metadata read_metadata(const std::string& path);

}  // namespace lamina::nn
