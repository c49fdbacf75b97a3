// SPDX-License-Identifier: MIT
// Parameters of a module in a safetensors file.
#pragma once

#include "nn/module.h"
#include "nn/safetensors.h"

#include <string>

namespace lamina::nn {

/// Every parameter under its name.
NamedTensors parameters_of(Module& module);

/// Writes every parameter under its name in its dtype, as save_tensors() does.
void save_parameters(Module& module, const std::string& path, const Metadata& metadata = {});

/// Reads every parameter by name, converting the dtype if needed, and returns the metadata. `path`
/// is a file or an index, as for TensorReader. Everything is checked first: a missing or unknown
/// name, a wrong shape, or a damaged file throws Error and leaves the module as it was. An AdamW of
/// 16-bit parameters that exists already needs its refresh_master() afterwards.
Metadata load_parameters(Module& module, const std::string& path);

/// The same for any tensors: `into` names them, and their elements are overwritten.
Metadata load_into(const NamedTensors& into, const std::string& path);

/// The metadata alone.
Metadata read_metadata(const std::string& path);

}  // namespace lamina::nn
