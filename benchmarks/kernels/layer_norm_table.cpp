// SPDX-License-Identifier: MIT
#include "benchmarks/kernels/layer_norm_table.h"

#include "core/error.h"
#include "core/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <iomanip>
#include <ostream>
#include <set>
#include <sstream>
#include <string_view>
#include <tuple>
#include <utility>

namespace lamina::bench {
namespace {

using kernels::tuning::kAnyRows;
using kernels::tuning::RowPolicy;
using kernels::tuning::RowProblem;
using kernels::tuning::RowVariant;
using Json = nlohmann::ordered_json;
using Pass = SweptProblem::Pass;

constexpr double kAsGood = 1.01;  // times the best

// Of a problem with many rows: a kernel is part of a long training step then, where power is short
// and the fewest instructions win, which no kernel alone shows (docs/kernels/layer_norm.md, 25).
constexpr std::int64_t kManyRows = 8192;
constexpr double kAsGoodOfManyRows = 1.015;

struct VariantName {
  RowVariant variant;
  std::string_view name;
};

constexpr std::array<VariantName, 4> kVariants = {{{RowVariant::held, "held"},
                                                   {RowVariant::ring, "ring"},
                                                   {RowVariant::cluster, "cluster"},
                                                   {RowVariant::streamed, "streamed"}}};

std::string_view name_of(RowVariant variant) {
  for (const VariantName& known : kVariants) {
    if (known.variant == variant) return known.name;
  }
  return "?";
}

RowVariant variant_named(std::string_view name) {
  for (const VariantName& known : kVariants) {
    if (known.name == name) return known.variant;
  }
  throw Error(
      cat("layer_norm_sweep: variant is '", name, "', expected held, ring, cluster or streamed"));
}

Json to_json(const RowPolicy& policy) {
  return {name_of(policy.variant), policy.packs,  policy.block_threads,
          policy.cluster,          policy.stages, policy.blocks_per_sm};
}

RowPolicy policy_of(const Json& fields) {
  return {.variant = variant_named(fields.at(0).get<std::string>()),
          .packs = fields.at(1),
          .block_threads = fields.at(2),
          .cluster = fields.at(3),
          .stages = fields.at(4),
          .blocks_per_sm = fields.at(5)};
}

double rounded(double us) {
  return std::round(us * 1e3) / 1e3;
}

Json to_json(const SweptProblem& swept) {
  const RowProblem& problem = swept.problem;
  Json points = Json::array();
  for (const MeasuredPolicy& point : swept.points) {
    points.push_back({to_json(point.policy), rounded(point.median_us), rounded(point.p20_us),
                      rounded(point.p80_us), point.replays});
  }
  return {{"run", swept.run},
          {"pass", swept.pass == Pass::forward ? "forward" : "backward"},
          {"rows", problem.rows},
          {"cols", problem.cols},
          {"element_bytes", problem.element_bytes},
          {"stream_bytes", problem.stream_bytes},
          {"has_residual", problem.has_residual},
          {"has_tail", problem.has_tail},
          {"sm", problem.sm},
          {"multiprocessors", problem.multiprocessors},
          {"max_rows", swept.max_rows == kAnyRows ? Json(nullptr) : Json(swept.max_rows)},
          {"bytes", swept.bytes},
          {"sets", swept.sets},
          {"copy_us", rounded(swept.copy_us)},
          {"rule", to_json(swept.rule)},
          {"points", points}};
}

SweptProblem problem_of(const Json& json) {
  SweptProblem swept;
  swept.run = json.at("run");
  swept.pass = json.at("pass") == "forward" ? Pass::forward : Pass::backward;
  swept.problem = {.rows = json.at("rows"),
                   .cols = json.at("cols"),
                   .element_bytes = json.at("element_bytes"),
                   .stream_bytes = json.at("stream_bytes"),
                   .has_vectors = true,
                   .has_residual = json.at("has_residual"),
                   .has_tail = json.at("has_tail"),
                   .sm = json.at("sm"),
                   .multiprocessors = json.at("multiprocessors")};
  const Json& max_rows = json.at("max_rows");
  swept.max_rows = max_rows.is_null() ? kAnyRows : max_rows.get<std::int64_t>();
  swept.bytes = json.at("bytes");
  swept.sets = json.at("sets");
  swept.copy_us = json.at("copy_us");
  swept.rule = policy_of(json.at("rule"));
  for (const Json& point : json.at("points")) {
    swept.points.push_back({.policy = policy_of(point.at(0)),
                            .median_us = point.at(1),
                            .p20_us = point.at(2),
                            .p80_us = point.at(3),
                            .replays = point.at(4)});
  }
  if (swept.points.empty()) {
    throw Error(cat("layer_norm_sweep: ", swept.problem.rows, " x ", swept.problem.cols,
                    " has no measurement, expected at least one"));
  }
  return swept;
}

/// What an entry of the table is looked up by, but for the columns: those of one key are searched
/// for the first with enough columns, so few rows come before any number of rows.
auto key_of(const SweptProblem& swept) {
  return std::tuple(swept.problem.element_bytes, swept.problem.stream_bytes,
                    swept.problem.has_residual, swept.problem.has_tail, swept.max_rows);
}

const MeasuredPolicy& best_of(const SweptProblem& swept) {
  return *std::min_element(swept.points.begin(), swept.points.end(),
                           [](const auto& a, const auto& b) { return a.median_us < b.median_us; });
}

const MeasuredPolicy* find(const SweptProblem& swept, const RowPolicy& policy) {
  for (const MeasuredPolicy& point : swept.points) {
    if (point.policy == policy) return &point;
  }
  return nullptr;
}

/// What a policy asks of the whole GPU: first, instructions of a row, in those that a pack takes
/// (what a thread does once counts as two); then, of a persistent grid, how few threads hide what
/// the others wait for.
std::pair<std::int64_t, int> cost_of(const RowPolicy& policy, const RowProblem& problem) {
  const int block_threads = policy.threads_per_row(problem) * policy.rows_per_block(problem);
  const std::int64_t threads = std::int64_t{policy.threads_per_row(problem)} * policy.cluster;
  const std::int64_t span = threads * problem.width();
  const std::int64_t packs = policy.packs == 0 ? (problem.cols + span - 1) / span : policy.packs;
  return {threads * (packs + 2), -block_threads * policy.blocks_per_sm};
}

bool is_legal(const RowPolicy& policy, const SweptProblem& swept) {
  return swept.pass == Pass::forward ? kernels::tuning::is_legal_forward(policy, swept.problem)
                                     : kernels::tuning::is_legal_backward(policy, swept.problem);
}

/// The policies as good as the best. Of many rows: those of them with the least cost.
std::vector<MeasuredPolicy> good_policies(const SweptProblem& swept) {
  const bool has_many_rows = swept.problem.rows >= kManyRows;
  const double bound = best_of(swept).median_us * (has_many_rows ? kAsGoodOfManyRows : kAsGood);
  std::vector<MeasuredPolicy> good = swept.points;
  std::erase_if(good, [&](const MeasuredPolicy& point) { return point.median_us > bound; });
  if (!has_many_rows) return good;
  const auto cost = [&](const MeasuredPolicy& point) {
    return cost_of(point.policy, swept.problem);
  };
  const auto least = cost(*std::ranges::min_element(good, {}, cost));
  std::erase_if(good, [&](const MeasuredPolicy& point) { return cost(point) > least; });
  return good;
}

/// An entry of the table: neighbouring numbers of columns, the last of them in `widest`.
struct Entry {
  const SweptProblem* widest;
  std::vector<MeasuredPolicy> good;  // policies that are good for each; times of `widest`
  std::vector<double> excess;        // their summed ratios to the best of each

  explicit Entry(const SweptProblem& swept) : widest(&swept) {
    for (const MeasuredPolicy& point : good_policies(swept))
      keep(swept, point, 0);
  }

  /// False, and nothing is changed, when no policy is good for `swept` too.
  bool extend(const SweptProblem& swept) {
    Entry extended(*this);
    extended.widest = &swept;
    extended.good.clear();
    extended.excess.clear();
    for (const MeasuredPolicy& point : good_policies(swept)) {
      for (std::size_t i = 0; i < good.size(); ++i) {
        if (good[i].policy == point.policy) extended.keep(swept, point, excess[i]);
      }
    }
    if (extended.good.empty()) return false;
    *this = std::move(extended);
    return true;
  }

  const MeasuredPolicy& choice() const {
    const auto least = std::min_element(excess.begin(), excess.end());
    return good[static_cast<std::size_t>(least - excess.begin())];
  }

 private:
  void keep(const SweptProblem& swept, const MeasuredPolicy& point, double before) {
    good.push_back(point);
    excess.push_back(before + point.median_us / best_of(swept).median_us);
  }
};

std::vector<Entry> entries_of(const std::vector<const SweptProblem*>& sorted) {
  std::vector<Entry> entries;
  for (const SweptProblem* swept : sorted) {
    const bool is_extended = !entries.empty() && key_of(*entries.back().widest) == key_of(*swept) &&
                             entries.back().extend(*swept);
    if (!is_extended) entries.emplace_back(*swept);
  }
  return entries;
}

/// "1.07x the rule", or how the runner-up compares where the rule was not measured.
std::string gain_text(const SweptProblem& swept, const MeasuredPolicy& choice) {
  std::ostringstream text;
  text << std::fixed << std::setprecision(2);
  if (choice.policy == swept.rule) return "the rule";
  if (const MeasuredPolicy* const rule = find(swept, swept.rule)) {
    text << "rule " << rule->median_us / choice.median_us << "x";
    return text.str();
  }
  const MeasuredPolicy* next = nullptr;
  for (const MeasuredPolicy& point : swept.points) {
    const bool is_other = !(point.policy == choice.policy);
    if (is_other && (next == nullptr || point.median_us < next->median_us)) next = &point;
  }
  if (next == nullptr) return "no other";
  text << "next " << next->median_us / choice.median_us << "x";
  return text.str();
}

void write_entry(std::ostream& to, const Entry& entry) {
  const SweptProblem& swept = *entry.widest;
  const RowProblem& problem = swept.problem;
  const MeasuredPolicy& choice = entry.choice();
  std::ostringstream row;
  row << "    {" << problem.element_bytes << ", " << problem.stream_bytes << ", "
      << (problem.has_residual ? "true, " : "false, ") << (problem.has_tail ? "true, " : "false, ")
      << problem.cols << ", ";
  if (swept.max_rows == kAnyRows) {
    row << "kAnyRows";
  } else {
    row << swept.max_rows;
  }
  row << ", {RowVariant::" << text_of(choice.policy).substr(1) << "},";
  to << std::left << std::setw(88) << row.str() << std::right << std::fixed << "// " << problem.rows
     << " rows: " << std::setprecision(2) << choice.median_us << " us, " << std::setprecision(0)
     << static_cast<double>(swept.bytes) / choice.median_us / 1e3 << " GB/s, "
     << 100 * swept.copy_us / choice.median_us << " % of copy, " << gain_text(swept, choice)
     << '\n';
}

/// "NVIDIA H200, 2026-11-22, commit 066c1a51b8".
std::string text_of_run(const Json& run) {
  return cat(run.at("machine").at("gpu").get<std::string>(), ", ",
             run.at("date").get<std::string>(), ", commit ",
             run.at("commit").get<std::string>().substr(0, 10));
}

void write_table(std::ostream& to, Pass pass, std::string_view name,
                 const std::vector<SweptProblem>& problems) {
  std::vector<SweptProblem> legal;  // a run may be older than what is legal
  for (const SweptProblem& swept : problems) {
    if (swept.pass == pass) legal.push_back(swept);
  }
  std::vector<const SweptProblem*> sorted;
  for (SweptProblem& swept : legal) {
    std::erase_if(swept.points,
                  [&](const MeasuredPolicy& point) { return !is_legal(point.policy, swept); });
    if (!swept.points.empty()) sorted.push_back(&swept);
  }
  if (sorted.empty()) {
    throw Error(cat("layer_norm_sweep: no ", pass == Pass::forward ? "forward" : "backward",
                    " pass was measured, expected both (the header holds both tables); add it"
                    " with --from"));
  }
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
    return std::tuple(key_of(*a), a->problem.cols) < std::tuple(key_of(*b), b->problem.cols);
  });
  to << "inline constexpr TunedRow " << name << "[] = {\n";
  for (const Entry& entry : entries_of(sorted))
    write_entry(to, entry);
  to << "};\n";
}

}  // namespace

bool SweptProblem::is_same_problem(const SweptProblem& other) const {
  return pass == other.pass && key_of(*this) == key_of(other) && problem.cols == other.problem.cols;
}

std::string text_of(const RowPolicy& policy) {
  return cat("{", name_of(policy.variant), ", ", policy.packs, ", ", policy.block_threads, ", ",
             policy.cluster, ", ", policy.stages, ", ", policy.blocks_per_sm, "}");
}

void write_json(std::ostream& to, const Json& runs, const std::vector<SweptProblem>& problems) {
  to << "{\n\"runs\": [\n";
  for (std::size_t i = 0; i < runs.size(); ++i)
    to << runs[i].dump() << (i + 1 < runs.size() ? ",\n" : "],\n");
  to << R"("statistic": "median, p20 and p80 over replays of the mean device time per call, us",)"
     << '\n'
     << R"("policy": ["variant", "packs", "block_threads", "cluster", "stages", "blocks_per_sm"],)"
     << '\n'
     << R"("point": ["policy", "median", "p20", "p80", "replays"],)" << '\n'
     << R"("problems": [)" << '\n';
  for (std::size_t i = 0; i < problems.size(); ++i)
    to << to_json(problems[i]).dump() << (i + 1 < problems.size() ? ",\n" : "\n");
  to << "]}\n";
}

void add_sweep(const Json& document, Json& runs, std::vector<SweptProblem>& problems) {
  try {
    const std::size_t before = runs.size();
    for (const Json& run : document.at("runs"))
      runs.push_back(run);
    for (const Json& json : document.at("problems")) {
      SweptProblem swept = problem_of(json);
      swept.run += before;
      std::erase_if(problems,
                    [&](const SweptProblem& there) { return there.is_same_problem(swept); });
      problems.push_back(swept);
    }
  } catch (const nlohmann::json::exception& error) {
    throw Error(cat("layer_norm_sweep: the JSON is not that of a sweep (", error.what(),
                    "), expected what --json writes"));
  }
}

void write_header(std::ostream& to, const Json& runs, const std::vector<SweptProblem>& problems) {
  to << "// SPDX-License-Identifier: MIT\n"
        "// Policies of the row kernels, measured in\n";
  std::set<std::size_t> used;
  for (const SweptProblem& swept : problems)
    used.insert(swept.run);
  for (const std::size_t i : used)
    to << "//   " << text_of_run(runs.at(i)) << '\n';
  to << "// Written by benchmarks/kernels/layer_norm_sweep --header: run it again, do not edit. "
        "The\n"
        "// entry of a problem is the first of its types and operands with as many columns and "
        "rows.\n"
        "// Each was measured cold at its own number of columns; the narrower ones back to the "
        "entry\n"
        "// before are within 1 % of their best with it, where 8192 rows or more were measured "
        "within\n"
        "// 1.5 % and of the least cost. \"rule\" and \"next\": how much longer the rule of thumb "
        "and\n"
        "// the runner-up take.\n"
        "#pragma once\n\n"
        "#include \"cuda_kernels/tuning/row_policy.h\"\n\n"
        "namespace lamina::kernels::tuning {\n\n"
        "// clang-format off\n"
        "// element bytes, stream bytes, has residual, has tail, columns and rows up to, policy\n";
  write_table(to, Pass::forward, "kForwardSm90", problems);
  to << '\n';
  write_table(to, Pass::backward, "kBackwardSm90", problems);
  to << "// clang-format on\n\n"
        "}  // namespace lamina::kernels::tuning\n";
}

}  // namespace lamina::bench
