// SPDX-License-Identifier: MIT
#include "examples/gpt/report.h"

#include "core/text.h"
#include "examples/gpt/ceiling_file.h"
#include "examples/gpt/log.h"
#include "examples/gpt/machine.h"
#include "examples/gpt/report_css.h"
#include "examples/gpt/report_page.h"
#include "examples/gpt/report_plot.h"
#include "examples/gpt/report_profile.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace lamina::gpt {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kMostPoints = 400;  // more than a curve has pixels on a phone
constexpr std::size_t kMostSampleBytes = 100'000;
constexpr double kMebibyte = 1024.0 * 1024.0;

/// A character class of the corpus, and what the model predicts there.
struct SkillText {
  const char* name;
  const char* target;
};

constexpr std::array<SkillText, 10> kSkills = {{
    {"open", "a new scene"},
    {"plan", "what comes next"},
    {"noun", "something new"},
    {"syntax", "fixed text"},
    {"turn", "whose turn it is"},
    {"mention", "a known thing"},
    {"recall", "a word said before"},
    {"count", "a difference"},
    {"agree", "singular or plural"},
    {"rhyme", "a word that rhymes"},
}};

std::string nats(double value, bool with_sign = false) {
  return std::isfinite(value) ? fixed(value, 4, with_sign) : "–";
}

std::string step_text(double step) {
  return number_text(step, 12);
}

template <class Record>
std::vector<Point> points_of(const std::vector<Record>& records, double Record::*y) {
  std::vector<Point> points;
  for (const Record& record : records)
    points.push_back({record.step, record.*y});
  return points;
}

std::vector<Bucket> curve_of(const std::vector<StepRecord>& steps, double StepRecord::*y) {
  return buckets_of(points_of(steps, y), kMostPoints);
}

/// What a curve leaves out: "" when every point is drawn.
std::string bucket_note(std::size_t points) {
  if (points <= kMostPoints) return "";
  return cat(" The ", number_text(static_cast<double>(points), 9), " logged values are drawn as ",
             kMostPoints, " means, with a band from the least to the most of each.");
}

double median(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value); });
  if (values.empty()) return kUnknown;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

/// Without the first record, which holds the warm-up, where there are others.
double median_of(const std::vector<StepRecord>& steps, double StepRecord::*member) {
  std::vector<double> values;
  for (std::size_t i = steps.size() > 1 ? 1 : 0; i < steps.size(); ++i)
    values.push_back(steps[i].*member);
  return median(std::move(values));
}

double floor_of(const RunRecord& run) {
  for (const EvalRecord& record : run.evaluations) {
    if (std::isfinite(record.floor)) return record.floor;
  }
  for (const StepRecord& record : run.steps) {
    if (std::isfinite(record.floor)) return record.floor;
  }
  return kUnknown;
}

bool has_ceilings(const RunRecord& run) {
  return !run.profile.empty() && run.profile.back().ceilings.are_known();
}

double matmul_ceiling(const RunRecord& run) {
  return (has_ceilings(run) ? run.profile.back().ceilings : run.kept).matmul_tflop_s;
}

/// The end of a sentence: who has measured the ceiling.
std::string measured_by(const RunRecord& run) {
  return has_ceilings(run) ? "" : " by another run with --profile";
}

double mfu_of(const RunRecord& run, double rate) {
  return mfu(rate, number_at(run.start, "flops_per_token"), matmul_ceiling(run));
}

double last_step(const RunRecord& run) {
  double step = number_at(run.end, "step");
  if (!run.steps.empty()) step = std::fmax(step, run.steps.back().step);
  return step;
}

std::string ending(const RunRecord& run) {
  const std::string event = text_at(run.end, "event"), at = step_text(last_step(run));
  if (event == "end") return cat("Finished after ", at, " steps.");
  if (event == "stop") {
    return cat("Stopped by signal ", number_text(number_at(run.end, "signal"), 4), " after step ",
               at, ".");
  }
  if (event == "error") return cat("Failed at step ", at, ": ", text_at(run.end, "what"));
  return std::isfinite(last_step(run))
             ? cat("No end is logged: the run goes on, or was killed, after step ", at, ".")
             : "No step is logged yet.";
}

std::string key_figure(const std::string& name, const std::string& value, const std::string& note) {
  if (value == "–") return "";
  return cat("<div><dt>", escape(name), "</dt><dd>", escape(value), "<small>", escape(note),
             "</small></dd></div>\n");
}

std::string header_html(const RunRecord& run) {
  const double rate = median_of(run.steps, &StepRecord::rate);
  double memory = kUnknown, seconds = number_at(run.end, "elapsed_s");
  for (const StepRecord& record : run.steps)
    memory = std::fmax(memory, record.memory);
  std::string figures;
  if (!run.evaluations.empty()) {
    const EvalRecord& last = run.evaluations.back();
    figures += key_figure("Validation loss", nats(last.loss),
                          cat("nats per token at step ", step_text(last.step)));
    figures += key_figure("Above the floor", nats(last.excess, true),
                          cat("± ", nats(last.excess_sigma), ", floor ", nats(last.floor)));
  } else if (!run.steps.empty()) {
    figures += key_figure("Training loss", nats(run.steps.back().loss),
                          cat("nats per token at step ", step_text(run.steps.back().step)));
  }
  figures += key_figure(
      "Speed", std::isfinite(rate) ? prefix_text(rate) : "–",
      cat("tokens/s, ", number_text(median_of(run.steps, &StepRecord::ms), 3), " ms per step"));
  const double share = mfu_of(run, rate);
  figures += key_figure(
      "MFU", std::isfinite(share) ? fixed(100.0 * share, 1) + "%" : "–",
      cat("of ", number_text(matmul_ceiling(run), 3), " TFLOP/s, measured", measured_by(run)));
  figures += key_figure("Memory",
                        std::isfinite(memory) ? bytes_text(static_cast<std::size_t>(memory)) : "–",
                        "most that was reserved");
  figures += key_figure("Time", std::isfinite(seconds) ? duration_text(seconds) : "–",
                        "from start to end");
  const double parameters = number_at(run.start, "parameters");
  std::string about = text_at(run.start, "preset");
  if (std::isfinite(parameters)) {
    about += cat(about.empty() ? "" : ", ", prefix_text(parameters), " parameters");
  }
  const std::string data = text_at(run.start, "data");
  if (!data.empty()) about += cat(about.empty() ? "" : ", ", data);
  return cat("<header>\n<p class='kicker'>Lamina training run</p>\n<h1>", escape(run.name),
             "</h1>\n<p class='lead'>", escape(about), about.empty() ? "" : ". ",
             escape(ending(run)), "</p>\n<dl class='figures'>\n", figures, "</dl>\n</header>\n");
}

std::string loss_section(const RunRecord& run) {
  const double floor = floor_of(run);
  const std::vector<Bucket> training = curve_of(run.steps, &StepRecord::loss);
  const std::vector<Bucket> validation =
      buckets_of(points_of(run.evaluations, &EvalRecord::loss), kMostPoints);
  if (training.empty() && validation.empty()) {
    return section("loss", "Loss", paragraph("No loss is logged yet."));
  }
  LinePlot plot{.text = {.id = "loss-plot",
                         .title = "Loss over steps",
                         .description = "",
                         .x_label = "step",
                         .y_label = "nats per token, logarithmic"},
                .lines = {{"training", "one", training}, {"validation", "two", validation, true}},
                .y_scale = Scale::log};
  std::string caption = "Loss of a training batch, and on the fixed validation windows.";
  plot.text.description =
      cat("Training loss from ", nats(training.empty() ? kUnknown : training.front().mean), " to ",
          nats(training.empty() ? kUnknown : training.back().mean), ".");
  if (std::isfinite(floor)) {
    const double end = std::fmax(last_step(run), 1.0);
    plot.lines.push_back(
        {"entropy floor", "three", {{0.0, floor, floor, floor, 1}, {end, floor, floor, floor, 1}}});
    caption += cat(" The floor, ", nats(floor),
                   " nats, is the entropy of those windows: no model is expected below it.");
    plot.text.description += cat(" Entropy floor ", nats(floor), ".");
  }
  caption += bucket_note(run.steps.size());
  Table table{
      .caption = "training loss by step", .header = {"step", "mean", "least", "most"}, .rows = {}};
  for (const Bucket& bucket : training)
    table.rows.push_back(
        {number_text(bucket.x, 7), nats(bucket.mean), nats(bucket.low), nats(bucket.high)});
  std::string html = figure(svg(plot), caption, table);

  Table evaluations{.caption = "evaluations",
                    .header = {"step", "validation loss", "± standard error", "floor", "excess",
                               "± standard error"},
                    .rows = {}};
  std::vector<Bucket> excess;
  for (const EvalRecord& record : run.evaluations) {
    evaluations.rows.push_back({step_text(record.step), nats(record.loss), nats(record.sigma),
                                nats(record.floor), nats(record.excess, true),
                                nats(record.excess_sigma)});
    if (!std::isfinite(record.excess)) continue;
    const double sigma = std::isfinite(record.excess_sigma) ? record.excess_sigma : 0.0;
    excess.push_back({record.step, record.excess - sigma, record.excess, record.excess + sigma, 2});
  }
  if (excess.empty()) return section("loss", "Loss", html + folded_table(evaluations));
  const LinePlot above{.text = {.id = "excess-plot",
                                .title = "Validation loss above the entropy floor",
                                .description = cat("From ", nats(excess.front().mean, true), " to ",
                                                   nats(excess.back().mean, true), "."),
                                .x_label = "step",
                                .y_label = "nats per token above the floor, logarithmic"},
                       .lines = {{"excess, with its standard error", "two", excess, true}},
                       .y_scale = Scale::log};
  return section("loss", "Loss",
                 html + "<h3>Above the floor</h3>\n" +
                     figure(svg(above),
                            "Validation loss minus floor, window by window; the band is one "
                            "standard error to both sides. 0 would be a perfect model.",
                            evaluations));
}

std::string skills_section(const RunRecord& run) {
  std::vector<const EvalRecord*> records;
  for (const EvalRecord& record : run.evaluations) {
    if (!record.skills.empty()) records.push_back(&record);
  }
  if (records.empty()) return "";
  const EvalRecord& last = *records.back();
  double targets = 0.0;
  for (const auto& [name, skill] : last.skills)
    targets += skill.targets;
  BarPlot plot{.text = {.id = "skills-plot",
                        .title = "What is left to learn, by skill",
                        .description = "Horizontal bars: what each skill adds to the excess.",
                        .x_label = "",
                        .y_label = ""},
               .bars = {}};
  Table table{.caption = cat("skills at step ", step_text(last.step)),
              .header = {"skill", "what it predicts", "share of targets", "loss", "floor", "excess",
                         "excess so far"},
              .rows = {},
              .text_columns = 2,
              .html_columns = 1};
  for (const auto& [name, target] : kSkills) {
    const auto at = last.skills.find(name);
    if (at == last.skills.end()) continue;
    const Skill& skill = at->second;
    const double part = skill.targets / targets * skill.excess();
    plot.bars.push_back({cat(name, " · ", target),
                         nats(part, true),
                         {{part, "two", cat(name, ": ", nats(part, true))}}});
    std::vector<Point> history;
    for (const EvalRecord* record : records) {
      const auto then = record->skills.find(name);
      if (then != record->skills.end()) history.push_back({record->step, then->second.excess()});
    }
    table.rows.push_back({name, target, fixed(100.0 * skill.targets / targets, 1) + "%",
                          nats(skill.loss), nats(skill.floor), nats(skill.excess(), true),
                          sparkline(history)});
  }
  return section("skills", "Skills",
                 paragraph("The grammar of the built-in corpus knows what it takes to predict each "
                           "character. The bars add "
                           "up to the excess: where the model still loses against the floor.") +
                     cat("<figure>\n", svg(plot), "<figcaption>Nats per token at step ",
                         escape(step_text(last.step)),
                         ": excess on the targets of a skill times their share.</figcaption>\n",
                         table_html(table), "</figure>\n"));
}

std::string speed_section(const RunRecord& run) {
  const std::vector<Bucket> rate = curve_of(run.steps, &StepRecord::rate);
  if (rate.empty()) return "";
  LinePlot plot{
      .text = {.id = "speed-plot",
               .title = "Speed over steps",
               .description = cat("Median ", prefix_text(median_of(run.steps, &StepRecord::rate)),
                                  " tokens per second."),
               .x_label = "step",
               .y_label = "tokens/s"},
      .lines = {{"tokens/s", "one", rate}},
      .from_zero = true};
  std::string caption = "Between log lines; evaluations and checkpoints are not counted.";
  const double per_token = mfu_of(run, 1.0);
  if (std::isfinite(per_token) && per_token > 0.0) {
    plot.right_factor = 100.0 * per_token;
    plot.right_label = "MFU, %";
    caption += cat(" MFU: ", prefix_text(number_at(run.start, "flops_per_token")),
                   "FLOP per token (6 N + 12 layers × width × context) times speed, over the ",
                   number_text(matmul_ceiling(run), 3),
                   " TFLOP/s that large matrix products were measured to reach here",
                   measured_by(run), ".");
  } else {
    caption += " MFU is not shown: the ceiling of this device was not measured (train --profile).";
  }
  caption += bucket_note(run.steps.size());
  Table table{.caption = "speed by step",
              .header = {"step", "tokens/s", "least", "most", "MFU"},
              .rows = {}};
  for (const Bucket& bucket : rate) {
    const double share = mfu_of(run, bucket.mean);
    table.rows.push_back({number_text(bucket.x, 7), prefix_text(bucket.mean),
                          prefix_text(bucket.low), prefix_text(bucket.high),
                          std::isfinite(share) ? fixed(100.0 * share, 1) + "%" : "–"});
  }
  return section("speed", "Speed", figure(svg(plot), caption, table));
}

std::string memory_section(const RunRecord& run) {
  std::vector<StepRecord> steps = run.steps;
  for (StepRecord& record : steps)
    record.memory /= kMebibyte;
  const std::vector<Bucket> memory = curve_of(steps, &StepRecord::memory);
  std::string html;
  if (!memory.empty()) {
    const LinePlot plot{
        .text = {.id = "memory-plot",
                 .title = "Memory over steps",
                 .description = cat("From ", number_text(memory.front().mean, 4), " to ",
                                    number_text(memory.back().mean, 4), " MiB."),
                 .x_label = "step",
                 .y_label = "MiB"},
        .lines = {{"reserved, most so far", "one", memory}},
        .from_zero = true};
    Table table{.caption = "memory by step", .header = {"step", "MiB"}, .rows = {}};
    for (const Bucket& bucket : memory)
      table.rows.push_back({number_text(bucket.x, 7), number_text(bucket.mean, 6)});
    html += figure(svg(plot),
                   cat("What the allocators had taken from the device at most until then.",
                       bucket_note(run.steps.size())),
                   table);
  }
  const Json plan = run.start.is_object() ? run.start.value("memory_plan", Json()) : Json();
  BarPlot plot{.text = {.id = "memory-plan",
                        .title = "What a step needs",
                        .description = "Horizontal bars by kind of memory.",
                        .x_label = "",
                        .y_label = ""},
               .bars = {}};
  for (const char* kind : {"weights", "gradients", "optimizer", "activations", "logits"}) {
    const double bytes = number_at(plan, kind);
    if (!(bytes >= 0.0)) continue;
    const std::string text = bytes_text(static_cast<std::size_t>(bytes));
    plot.bars.push_back({kind, text, {{bytes, "one", cat(kind, " ", text)}}});
  }
  if (!plot.bars.empty()) {
    html += "<h3>What a step needs</h3>\n<figure>\n" + svg(plot) +
            "<figcaption>Measured before the first step.</figcaption>\n</figure>\n";
  }
  return html.empty() ? "" : section("memory", "Memory", html);
}

/// A part of samples.txt without the blank lines around it.
std::string_view trimmed(std::string_view text) {
  const std::size_t start = text.find_first_not_of("\r\n"), end = text.find_last_not_of("\r\n");
  return start == std::string_view::npos ? "" : text.substr(start, end - start + 1);
}

/// samples.txt: a card for each sample, after heads of the form "sample 1 of 8", and what the
/// grammar of the built-in corpus says of them, its last line.
std::string samples_section(const RunRecord& run) {
  std::string_view rest = std::string_view(run.samples).substr(0, kMostSampleBytes);
  if (trimmed(rest).empty()) return "";
  std::string html, verdict;
  if (run.samples.size() > kMostSampleBytes) {
    verdict = paragraph(cat("The first ", kMostSampleBytes, " of ", run.samples.size(),
                            " bytes; samples.txt has the rest."));
  } else if (!text_at(run.config, "corpus").empty()) {
    const std::size_t last = trimmed(rest).rfind("\n\n");
    if (last != std::string_view::npos) {
      verdict = paragraph(std::string(trimmed(rest.substr(last))));
      rest = rest.substr(0, last);
    }
  }
  const std::string_view head = rest.substr(0, rest.find('\n'));
  const std::string total(head.substr(head.rfind(' ') + 1));
  for (std::size_t i = 1; !rest.empty(); ++i) {
    const std::string title = cat("sample ", i, " of ", total, "\n\n");
    if (rest.starts_with(title)) rest.remove_prefix(title.size());
    const std::size_t next =
        std::min(rest.size(), rest.find(cat("\n\nsample ", i + 1, " of ", total, "\n\n")));
    html += cat("<pre tabindex='0' role='region' aria-label='sample ", i, "'>\n",
                escape(trimmed(rest.substr(0, next))), "</pre>\n");
    rest.remove_prefix(std::min(rest.size(), next + 2));
  }
  return section("samples", "Samples", "<div class='samples'>\n" + html + "</div>\n" + verdict);
}

std::string setting_text(const Json& value) {
  return value.is_string() ? value.get<std::string>()
                           : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// style: a class of report.css for the list.
std::string facts_section(const std::string& id, const std::string& title, const Json& facts,
                          const char* style) {
  if (!facts.is_object() || facts.empty()) return "";
  std::string html = cat("<dl class='", style, "'>\n");
  for (const auto& [name, value] : facts.items()) {
    html +=
        cat("<div><dt>", escape(name), "</dt><dd>", escape(setting_text(value)), "</dd></div>\n");
  }
  return section(id, title, html + "</dl>\n");
}

Json machine_of(const RunRecord& run) {
  if (!run.start.is_object()) return {};
  Json machine = run.start.value("machine", Json::object());
  if (!machine.is_object()) machine = Json::object();
  for (const char* key : {"device", "dtype"}) {
    if (run.start.contains(key)) machine[key] = run.start[key];
  }
  return machine;
}

/// The ceilings that another run has left here; unknown when this run was on another machine.
Ceilings ceilings_of_its_device(const RunRecord& run) {
  if (!run.start.is_object()) return {};
  try {
    const Device device = Device::parse(text_at(run.start, "device"));
    if (device.is_cuda() && device.index >= cuda_device_count()) return {};
    const std::string name = cat(device);  // of the fact, too
    const std::string there = text_at(run.start.value("machine", Json()), name);
    if (there.empty() || there != text_at(machine_facts(device), name)) return {};
    return kept_ceilings(device, text_at(run.start, "dtype")).value_or(Ceilings());
  } catch (const Error&) {
    return {};  // the log names no device, or it cannot be asked
  }
}

/// What a terminal should say of a log without anything to plot; "" of others.
std::string emptiness(const RunRecord& run, const std::string& log) {
  if (!run.steps.empty() || !run.evaluations.empty()) return "";
  const std::string left_out =
      run.lines_left_out == 0
          ? ""
          : cat(" (", run.lines_left_out, " lines of the run's logs are no JSON objects)");
  return cat("report: ", log, " has no step and no evaluation", left_out,
             ", expected records of lamina-gpt train; the page has no curves");
}

/// Links to the sections that the page has.
std::string navigation(const std::string& main) {
  constexpr std::array<std::pair<const char*, const char*>, 9> kSections = {
      {{"loss", "Loss"},
       {"skills", "Skills"},
       {"speed", "Speed"},
       {"step", "Step"},
       {"roofline", "Roofline"},
       {"memory", "Memory"},
       {"samples", "Samples"},
       {"configuration", "Configuration"},
       {"machine", "Machine"}}};
  std::string links;
  for (const auto& [id, name] : kSections) {
    if (main.find(cat("<section id='", id, "'")) == std::string::npos) continue;
    links += cat("<li><a href='#", id, "'>", name, "</a></li>");
  }
  return cat("<nav aria-label='Sections'><ul>", links, "</ul></nav>\n");
}

}  // namespace

std::string report_html(const RunRecord& run) {
  const std::string main = loss_section(run) + skills_section(run) + speed_section(run) +
                           profile_sections(run.profile) + memory_section(run) +
                           samples_section(run) +
                           facts_section("configuration", "Configuration", run.config, "facts") +
                           facts_section("machine", "Machine", machine_of(run), "facts wide");
  std::string footer = "Made by lamina-gpt report from the files of the run directory.";
  if (run.lines_left_out > 0) {
    footer += cat(" ", run.lines_left_out, run.lines_left_out == 1 ? " line" : " lines",
                  " of its logs could not be read and was left out: the last one is torn when a "
                  "run is killed.");
  }
  return cat("<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n",
             "<meta name='viewport' content='width=device-width, initial-scale=1'>\n",
             // The page asks for nothing, and nothing in a run can make it.
             "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; ",
             "style-src 'unsafe-inline'\">\n<meta name='color-scheme' content='light dark'>\n",
             "<title>", escape(run.name), " · Lamina report</title>\n<style>\n", kReportCss,
             "</style>\n</head>\n<body>\n<a class='skip' href='#main'>Skip to the figures</a>\n",
             header_html(run), navigation(main), "<main id='main'>\n", main, "</main>\n<footer>",
             escape(footer), "</footer>\n</body>\n</html>\n");
}

int report(const Options& options, Console& console) {
  if (options.run.empty()) {
    throw UsageError(
        "report: no run given, expected lamina-gpt report RUN_DIR (of lamina-gpt train)");
  }
  const std::filesystem::path directory = options.run;
  const std::filesystem::path path =
      options.out.empty() ? directory / "report.html" : std::filesystem::path(options.out);
  RunRecord run = read_run(directory);
  if (!has_ceilings(run)) run.kept = ceilings_of_its_device(run);
  const std::string html = report_html(run);
  write_file(path, html);
  if (const std::string what = emptiness(run, (directory / "log.jsonl").string()); !what.empty()) {
    console.errors << "lamina-gpt: warning: " << what << std::endl;
  }
  console.out << path.string() << ": " << bytes_text(html.size()) << std::endl;
  return 0;
}

}  // namespace lamina::gpt
