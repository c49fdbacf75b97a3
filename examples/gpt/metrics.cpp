// SPDX-License-Identifier: MIT
#include "examples/gpt/metrics.h"

#include "core/error.h"
#include "core/text.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>

namespace lamina::gpt {
namespace {

using Json = nlohmann::json;

void add_numbers(const Json& object, const std::string& prefix, std::vector<Scalar>& to) {
  for (const auto& [name, value] : object.items()) {
    if (value.is_number()) to.push_back({prefix + name, value.get<double>()});
    if (value.is_object()) add_numbers(value, prefix + name + "/", to);
  }
}

/// As short as it can be read back; empty for one that is not there.
std::string cell(const std::vector<Scalar>& scalars, const std::string& column) {
  const auto found = std::find_if(scalars.begin(), scalars.end(),
                                  [&](const Scalar& scalar) { return scalar.tag == column; });
  if (found == scalars.end()) return "";
  if (std::isnan(found->value)) return "nan";
  if (std::isinf(found->value)) return found->value > 0.0 ? "inf" : "-inf";
  constexpr double kExact = 9007199254740992;  // 2^53
  const bool is_count = std::abs(found->value) < kExact && std::trunc(found->value) == found->value;
  return is_count ? cat(static_cast<std::int64_t>(found->value)) : Json(found->value).dump();
}

/// Of the first line; none when there is no such file.
std::vector<std::string> columns_of(const std::filesystem::path& path) {
  std::vector<std::string> columns;
  std::string line;
  std::getline(std::ifstream(path), line);
  std::istringstream cells(line);
  for (std::string column; std::getline(cells, column, ',');)
    columns.push_back(column);
  return columns;
}

}  // namespace

Metrics::Metrics(const std::filesystem::path& directory, std::string_view formats)
    : directory_(directory), has_csv_(formats.find("csv") != std::string_view::npos) {
  if (formats.find("tensorboard") != std::string_view::npos) events_.emplace(directory);
}

void Metrics::write(const Json& record) {
  const auto event = record.at("event").get<std::string>();
  if (event != "step" && event != "eval") return;
  std::vector<Scalar> scalars;
  add_numbers(record, "", scalars);
  if (has_csv_) write_row(event, scalars);
  if (!events_) return;
  std::erase_if(scalars, [](const Scalar& scalar) { return scalar.tag == "step"; });
  for (Scalar& scalar : scalars)
    scalar.tag = cat(event == "step" ? "train/" : "eval/", scalar.tag);
  events_->write(record.at("step").get<std::int64_t>(), scalars);
}

void Metrics::write_row(const std::string& event, const std::vector<Scalar>& scalars) {
  const auto [place, is_new] = tables_.try_emplace(event);
  Table& table = place->second;
  std::string line;
  if (is_new) {
    table.path = directory_ / cat(event, "s.csv");
    table.columns = columns_of(table.path);
    table.file.open(table.path, std::ios::app);
    if (!table.file) {
      throw Error(cat("log: ", table.path.string(),
                      " cannot be written: ", std::generic_category().message(errno)));
    }
  }
  if (table.columns.empty()) {
    table.columns.emplace_back("step");
    for (const Scalar& scalar : scalars)
      if (scalar.tag != "step") table.columns.push_back(scalar.tag);
    for (const std::string& column : table.columns)
      line += cat(line.empty() ? "" : ",", column);
    line += '\n';
  }
  for (const std::string& column : table.columns)
    line += cat(&column == table.columns.data() ? "" : ",", cell(scalars, column));
  table.file << line << std::endl;
  if (!table.file) {
    throw Error(cat("log: writing ", table.path.string(),
                    " failed: ", std::generic_category().message(errno)));
  }
}

}  // namespace lamina::gpt
