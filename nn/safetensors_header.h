// SPDX-License-Identifier: MIT
// The header of a safetensors file: its strict parser, and the dtypes of the format. Internal to
// nn; what users call is in safetensors.h.
#pragma once

#include "nn/safetensors.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace lamina::nn {

/// A dtype of the format. Those of a wider element have the larger rank.
struct FormatDType {
  std::string_view name;
  int bits;
  std::optional<DType> dtype;  // Lamina's
};

/// nullptr for a name that the format does not know.
const FormatDType* find_format_dtype(std::string_view name);

const FormatDType& format_dtype_of(DType dtype);

/// The order in which a writer keeps tensors aligned: larger ranks first.
int rank_of(const FormatDType& dtype);

struct SafetensorsHeader {
  std::map<std::string, TensorEntry> tensors;
  Metadata metadata;
  std::uint64_t data_start = 0;  // bytes from the start of the file
};

inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;  // bytes; as in the reference
inline constexpr std::size_t kSafetensorsLengthBytes = 8;
inline constexpr std::string_view kSafetensorsMetadata = "__metadata__";

/// The header of a whole file in memory. Throws Error, with `path` and the numbers, unless the file
/// is one that the format allows: a header of at most 100 MB that begins with '{' and names
/// everything once, known dtypes, sizes that match, and tensors that cover the data without holes
/// or overlaps.
SafetensorsHeader parse_safetensors(std::string_view file, const std::string& path);

/// What an index says, {"weight_map": {tensor: file}, ...}: the name of the file of each tensor,
/// which lies beside the index. Throws Error, with `path`, for anything else and for names with a
/// folder in them.
std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                           const std::string& path);

}  // namespace lamina::nn
