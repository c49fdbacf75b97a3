// SPDX-License-Identifier: MIT
#include "examples/gpt/ceiling_file.h"

#include "core/error.h"
#include "core/text.h"
#include "examples/gpt/cache.h"

#include <fstream>
#include <omp.h>
#include <optional>
#include <sstream>
#include <string>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "cpu";
}

/// What the figures belong to.
std::string name_of(Device device) {
  return device.is_cuda() ? device_info(device).name
                          : cat(cpu_model(), ", ", omp_get_max_threads(), " threads");
}

/// Lines of "dtype copy_gb_s matmul_tflop_s device"; others are passed over.
std::optional<Ceilings> find(const std::string& text, const std::string& dtype,
                             const std::string& device) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    Ceilings found;
    std::string name;
    words >> found.dtype >> found.copy_gb_s >> found.matmul_tflop_s >> std::ws;
    std::getline(words, name);
    if (words && found.are_known() && found.dtype == dtype && name == device) return found;
  }
  return std::nullopt;
}

fs::path path_of_file() {
  const fs::path cache = cache_directory();
  return cache.empty() ? cache : cache / "ceilings.txt";
}

}  // namespace

std::optional<Ceilings> kept_ceilings(Device device, const std::string& dtype) {
  return find(text_of(path_of_file()), dtype, name_of(device));
}

Ceilings known_ceilings(Device device, DType dtype, bool allow_tf32) {
  const fs::path path = path_of_file();
  const std::string name = name_of(device);
  const std::string text = text_of(path);
  if (const std::optional<Ceilings> known = find(text, allow_tf32 ? "tf32" : cat(dtype), name))
    return *known;
  const Ceilings measured = measure_ceilings(device, dtype, allow_tf32);
  try {
    if (!path.empty()) {
      replace_file(path, cat(text, measured.dtype, " ", measured.copy_gb_s, " ",
                             measured.matmul_tflop_s, " ", name, "\n"));
    }
  } catch (const Error&) {
    // Without the cache each run measures.
  }
  return measured;
}

}  // namespace lamina::gpt
