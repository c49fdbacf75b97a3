// SPDX-License-Identifier: MIT
#include "examples/gpt/machine.h"

#include "core/text.h"

#include <array>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <omp.h>
#include <sstream>
#if LAMINA_WITH_CUDA
#include "core/cuda/cupti.h"
#include "core/cuda/gpu_status.h"
#endif

extern "C" char* openblas_get_config() __attribute__((weak));

namespace lamina::gpt {

namespace {

/// The value of the first line of a /proc file that starts with `key`, or "unknown".
std::string proc_value(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t start = line.find_first_not_of(": \t", key.size());
    return start == std::string::npos ? "unknown" : line.substr(start);
  }
  return "unknown";
}

std::string available_memory() {
  const std::string text = proc_value("/proc/meminfo", "MemAvailable");  // "16384256 kB"
  if (text == "unknown") return text;
  return bytes_text(static_cast<std::size_t>(std::stoull(text)) * 1024);
}

std::string compiler() {
#if defined(__clang__)
  return cat("clang ", __clang_major__, ".", __clang_minor__);
#else
  return cat("g++ ", __GNUC__, ".", __GNUC_MINOR__);
#endif
}

}  // namespace

std::string vector_features(std::string_view flags) {
  constexpr std::array kWanted = {"sse4_2",   "avx",         "avx2",     "fma",     "avx512f",
                                  "avx512bw", "avx512_bf16", "amx_bf16", "asimdhp", "sve"};
  std::istringstream words{std::string(flags)};
  std::string found;
  for (std::string word; words >> word;) {
    for (const std::string_view wanted : kWanted) {
      if (word == wanted) found += cat(found.empty() ? "" : " ", word);
    }
  }
  return found.empty() ? "none" : found;
}

Facts host_facts() {
  const DeviceInfo& host = device_info(kCpu);
  const bool is_x86 = proc_value("/proc/cpuinfo", "flags") != "unknown";
  return {
      {"lamina", cat(LAMINA_VERSION, ", ", LAMINA_BUILD_TYPE, ", ", compiler(),
                     ", tuned for this CPU: ", LAMINA_NATIVE_BUILD ? "yes" : "no",
                     ", CUDA backend: ", LAMINA_WITH_CUDA ? "yes" : "no")},
      {"cpu", cat(proc_value("/proc/cpuinfo", "model name"), ", ", host.multiprocessors,
                  " cores, OpenMP ", omp_get_max_threads(), " threads")},
      {"features", vector_features(proc_value("/proc/cpuinfo", is_x86 ? "flags" : "Features"))},
      {"memory", cat(bytes_text(host.total_memory), ", available ", available_memory())},
      {"blas", openblas_get_config != nullptr ? openblas_get_config() : LAMINA_BLAS},
  };
}

Facts gpu_facts(Device device) {
  Facts facts;
#if LAMINA_WITH_CUDA
  if (!device.is_cuda()) return facts;
  const DeviceInfo& info = device_info(device);
  facts.emplace_back(cat(device),
                     cat(info.name, ", sm_", info.compute_capability, ", ", info.multiprocessors,
                         " multiprocessors, ", bytes_text(info.total_memory)));
  const cuda::GpuStatus status = cuda::gpu_status(device.index);
  const auto clock = [](const cuda::ClockRates& rates) {
    return rates.most == 0 ? std::string("unknown")
                           : cat(rates.now, " of at most ", rates.most, " MHz");
  };
  facts.emplace_back("clocks", cat("multiprocessors ", clock(status.multiprocessors), ", memory ",
                                   clock(status.memory)));
  facts.emplace_back("cuda", cat("toolkit ", cuda::toolkit_version(), ", driver ",
                                 status.driver.empty() ? "unknown" : status.driver,
                                 " (runs CUDA up to ", cuda::driver_cuda_version(), ")"));
#else
  (void)device;
#endif
  return facts;
}

nlohmann::json machine_facts(Device device) {
  nlohmann::json all = nlohmann::json::object();
  for (const Facts& facts : {host_facts(), gpu_facts(device)}) {
    for (const auto& [name, text] : facts)
      all[name] = text;
  }
  return all;
}

std::vector<std::string> missing_things() {
  std::vector<std::string> missing;
  const std::string_view build_type = LAMINA_BUILD_TYPE;
  if (build_type != "Release" && build_type != "RelWithDebInfo") {
    missing.push_back(cat("an optimised build (this one is \"", build_type,
                          "\"): cmake --preset cpu, or -DCMAKE_BUILD_TYPE=Release"));
  }
  if (!LAMINA_NATIVE_BUILD) {
    missing.emplace_back("code tuned for this CPU: configure with -DLAMINA_NATIVE=ON");
  }
  if (openblas_get_config == nullptr) {
    missing.push_back(cat("OpenBLAS (matrix products on the CPU use ", LAMINA_BLAS,
                          "): apt-get install libopenblas-dev, then configure anew"));
  }
#if LAMINA_WITH_CUDA
  if (const std::string why = cuda::why_no_device(); !why.empty()) {
    const std::string newest = cuda::driver_cuda_version();
    missing.push_back(cat("a CUDA device (", why, "; built with toolkit ", cuda::toolkit_version(),
                          newest.empty() ? ", no driver" : cat(", the driver runs up to ", newest),
                          "): install a driver for that toolkit, nvidia-smi must list the GPU"));
  }
  if (const std::string why = cuda::why_no_cupti(); !why.empty()) {
    missing.push_back(cat("what profile needs on CUDA: ", why));
  }
#else
  std::error_code ignored;
  if (std::filesystem::exists("/proc/driver/nvidia/version", ignored)) {
    missing.emplace_back(
        "the CUDA backend, though this machine has an NVIDIA driver: install the "
        "CUDA toolkit 12.4 or later and configure with -DLAMINA_CUDA=ON");
  }
#endif
  return missing;
}

}  // namespace lamina::gpt
