// SPDX-License-Identifier: MIT
#include "benchmarks/kernels/run_record.h"

#include "core/cuda/check.h"
#include "core/device.h"

#include <cuda_runtime_api.h>

#include <array>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <sstream>

namespace lamina::bench {
namespace {

/// One line of comma-separated answers, empty when there is no nvidia-smi.
std::string ask_nvidia_smi(const std::string& fields, int device) {
  std::array<char, 32> bus{};
  LAMINA_CUDA_CHECK(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device));
  const std::string command = "nvidia-smi --query-gpu=" + fields + " --id=" + bus.data() +
                              " --format=csv,noheader,nounits 2>/dev/null";
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::array<char, 256> line{};
  if (pipe == nullptr ||
      std::fgets(line.data(), static_cast<int>(line.size()), pipe.get()) == nullptr)
    return {};
  return line.data();
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::array<char, 16> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d", &utc);
  return text.data();
}

std::string command_text(int argc, const char* const* argv) {
  std::string text;
  for (int i = 0; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool is_path = argument.find('/') != std::string::npos;
    text += (i > 0 ? " " : "") +
            (is_path ? std::filesystem::path(argument).filename().string() : argument);
  }
  return text;
}

}  // namespace

nlohmann::ordered_json run_record(int argc, const char* const* argv, const std::string& commit,
                                  CudaStream stream) {
  const DeviceInfo& info = device_info({DeviceKind::cuda, stream.device});
  int runtime = 0;
  int driver = 0;
  LAMINA_CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
  LAMINA_CUDA_CHECK(cudaDriverGetVersion(&driver));
  nlohmann::ordered_json machine = {{"gpu", info.name},
                                    {"multiprocessors", info.multiprocessors},
                                    {"cuda_runtime", version_text(runtime)},
                                    {"cuda_of_driver", version_text(driver)}};
  const std::array<const char*, 4> names = {"driver", "sm_clock_max_mhz", "memory_clock_max_mhz",
                                            "power_limit_w"};
  std::istringstream answers(
      ask_nvidia_smi("driver_version,clocks.max.sm,clocks.max.memory,power.limit", stream.device));
  std::string answer;
  for (const char* name : names) {
    if (std::getline(answers >> std::ws, answer, ',')) {
      while (!answer.empty() && (answer.back() == '\n' || answer.back() == ' '))
        answer.pop_back();
      machine[name] = answer;
    }
  }
  return {{"machine", machine},
          {"date", today()},
          {"command", command_text(argc, argv)},
          {"commit", commit}};
}

}  // namespace lamina::bench
