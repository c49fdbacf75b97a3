// SPDX-License-Identifier: MIT
#include "examples/gpt/gemm_plan_file.h"

#include "core/error.h"
#include "core/kernels/gemm_plans.h"
#include "core/text.h"
#include "examples/gpt/cache.h"
#include "examples/gpt/log.h"

#include <fstream>
#include <system_error>
#include <variant>

namespace lamina::gpt {

namespace fs = std::filesystem;

GemmPlanFile::GemmPlanFile(const std::string& option, Device device, const fs::path& of_run)
    : stream_(current_stream(device)) {
  if (!device.is_cuda() || option == "none") return;
  is_asked_for_ = option != "auto";
  const fs::path cache = cache_directory();
  path_ = is_asked_for_ ? fs::path(option) : cache.empty() ? cache : cache / "gemm_plans.txt";
  if (!is_used()) return;
  try {
    load(text_of(of_run));  // the first plan of a problem counts
  } catch (const Error& bad) {
    throw Error(cat(of_run.string(), ": ", bad.what()));
  }
  load();
  saved_ = text_of(path_);
}

void GemmPlanFile::load(const std::string& text) const {
  std::visit([&](auto typed) { kernels::load_gemm_plans(text, typed); }, stream_);
}

void GemmPlanFile::load() const {
  std::error_code error;
  const bool exists = fs::exists(path_, error);
  if (is_asked_for_ && exists && (!fs::is_regular_file(path_, error) || !std::ifstream(path_))) {
    throw Error(cat("--gemm-plans ", path_.string(),
                    " cannot be read, expected a file of plans or a name for a new one"));
  }
  try {
    load(text_of(path_));
  } catch (const Error& bad) {
    // The cache is made anew; what the user names is not.
    if (is_asked_for_) throw Error(cat("--gemm-plans ", path_.string(), ": ", bad.what()));
  }
}

void GemmPlanFile::save(const fs::path& copy) {
  if (!is_used()) return;
  const auto plans = [&] {
    return std::visit([](auto typed) { return kernels::gemm_plans(typed); }, stream_);
  };
  replace_file(copy, plans());
  if (plans() == saved_) return;
  load();  // what another process has written since
  saved_ = plans();
  try {
    replace_file(path_, saved_);
  } catch (const Error& error) {
    if (is_asked_for_) throw Error(cat("--gemm-plans ", error.what()));
  }
}

std::string gemm_report(Device device) {
  return std::visit([](auto typed) { return kernels::gemm_report(typed); }, current_stream(device));
}

}  // namespace lamina::gpt
