// SPDX-License-Identifier: MIT
// lamina-gpt report: the arithmetic of its plots and profile, what it makes of damaged run
// directories, and that nothing in a run becomes markup.
#include "examples/gpt/report.h"

#include "core/text.h"
#include "examples/gpt/report_plot.h"
#include "examples/gpt/report_profile.h"
#include "tests/examples/gpt_case.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

namespace lamina::gpt {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++found;
  return found;
}

// ---- Texts

TEST(ReportText, EscapesMarkupControlsAndBytesThatAreNotUtf8) {
  EXPECT_EQ(escape("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(escape("é\n\t–"), "é\n\t–");
  EXPECT_EQ(escape(std::string_view("\0\x1b\x7f", 3)), "␀␛␡");
  EXPECT_EQ(escape("a\xff<"), "a\xef\xbf\xbd&lt;");
  EXPECT_EQ(escape("\xe2\x90"), "\xef\xbf\xbd");  // cut off
}

TEST(ReportText, WritesNumbersAsPeopleReadThem) {
  EXPECT_EQ(number_text(0.0), "0");
  EXPECT_EQ(number_text(12.5), "12.5");
  EXPECT_EQ(number_text(0.012345), "0.01235");
  EXPECT_EQ(number_text(1000.0), "1,000");
  EXPECT_EQ(number_text(-1234567.0, 9), "-1,234,567");
  EXPECT_EQ(number_text(-123.0), "-123");
  EXPECT_EQ(number_text(4.1e-7), "4.1e-07");
  EXPECT_EQ(number_text(kUnknown), "–");
  EXPECT_EQ(prefix_text(12'500.0), "12.5 k");
  EXPECT_EQ(prefix_text(999.9), "1 k");
  EXPECT_EQ(prefix_text(3.2e12), "3.2 T");
}

// ---- Points and axes

TEST(ReportBuckets, KeepEveryPointWhereTheyAreFew) {
  const std::vector<Point> points = {{1, 5}, {2, kUnknown}, {3, 7}, {4, kInfinity}};
  const std::vector<Bucket> buckets = buckets_of(points, 400);
  ASSERT_EQ(buckets.size(), 2U);
  EXPECT_EQ(buckets[1].x, 3);
  EXPECT_EQ(buckets[1].low, 7);
  EXPECT_EQ(buckets[1].mean, 7);
  EXPECT_EQ(buckets[1].high, 7);
  EXPECT_EQ(buckets[1].points, 1U);
  EXPECT_TRUE(buckets_of({}, 400).empty());
}

TEST(ReportBuckets, HoldLeastMeanAndMostOfEveryPoint) {
  std::vector<Point> points;
  for (int i = 0; i < 1003; ++i)
    points.push_back({static_cast<double>(i), i == 495 ? 1000.0 : i == 496 ? -1000.0 : 1.0});
  const std::vector<Bucket> buckets = buckets_of(points, 100);
  ASSERT_EQ(buckets.size(), 100U);
  std::size_t all = 0;
  double low = kInfinity, high = -kInfinity, sum = 0.0;
  for (const Bucket& bucket : buckets) {
    all += bucket.points;
    low = std::min(low, bucket.low);
    high = std::max(high, bucket.high);
    sum += bucket.mean * static_cast<double>(bucket.points);
    EXPECT_TRUE(bucket.points == 10 || bucket.points == 11);
  }
  EXPECT_EQ(all, points.size());
  EXPECT_EQ(low, -1000.0);
  EXPECT_EQ(high, 1000.0);
  EXPECT_NEAR(sum, 1001.0, 1e-9);
}

TEST(ReportAxis, LinearEndsAreRoundAndHoldTheData) {
  const Axis axis(std::vector<double>{3.0, 487.0, kUnknown}, Scale::linear);
  EXPECT_THAT(axis.ticks(), ElementsAre(0.0, 100.0, 200.0, 300.0, 400.0, 500.0));
  EXPECT_DOUBLE_EQ(axis.at(0.0), 0.0);
  EXPECT_DOUBLE_EQ(axis.at(125.0), 0.25);
  EXPECT_DOUBLE_EQ(axis.at(500.0), 1.0);
}

TEST(ReportAxis, LogScaleHasRoundEndsAndEqualRatios) {
  const Axis narrow(std::vector<double>{0.17, 4.6, 0.0, -1.0}, Scale::log);
  ASSERT_EQ(narrow.ticks().size(), 6U);
  for (std::size_t i = 0; i < 6; ++i)
    EXPECT_NEAR(narrow.ticks()[i], (std::vector{0.1, 0.2, 0.5, 1.0, 2.0, 5.0})[i], 1e-12);
  EXPECT_NEAR(narrow.at(1.0) - narrow.at(0.5), narrow.at(0.2) - narrow.at(0.1), 1e-12);
  EXPECT_LT(narrow.at(0.0), 0.0);

  const Axis wide(std::vector<double>{0.3, 9e5}, Scale::log);
  EXPECT_NEAR(wide.low(), 0.2, 1e-12);
  EXPECT_NEAR(wide.high(), 1e6, 1e-3);
  ASSERT_EQ(wide.ticks().size(), 7U);
  EXPECT_NEAR(wide.ticks().front(), 1.0, 1e-12);

  const Axis widest(std::vector<double>{1e-300, 1e300}, Scale::log);
  EXPECT_LE(widest.ticks().size(), 9U);
}

TEST(ReportAxis, StandsOnOneValueAndOnNone) {
  for (const Scale scale : {Scale::linear, Scale::log}) {
    for (const std::vector<double>& values : {std::vector<double>{}, {7.0}, {kUnknown}, {0.0}}) {
      const Axis axis(values, scale);
      EXPECT_GE(axis.ticks().size(), 2U);
      EXPECT_LT(axis.low(), axis.high());
    }
  }
}

TEST(ReportSvg, PlacesCurvesAndMarks) {
  const LinePlot plot{.text = {"id", "a < b", "says", "step", "nats"},
                      .lines = {{"one", "one", {{0, 0, 0, 0, 1}, {50, 25, 25, 25, 1}}, true},
                                {"two", "two", {{0, 0, 50, 100, 2}, {100, 0, 50, 100, 2}}}}};
  const std::string text = svg(plot);
  EXPECT_THAT(text, HasSubstr("d='M0.0 1000.0L500.0 750.0'"));
  EXPECT_THAT(text, HasSubstr("d='M0.0 0.0L1000.0 0.0L1000.0 1000.0L0.0 1000.0Z'"));  // the band
  EXPECT_THAT(text, HasSubstr("cx='50.00%' cy='75.00%'"));
  EXPECT_THAT(text, HasSubstr("<title id='id-title'>a &lt; b</title>"));
  EXPECT_EQ(count(text, "class='band"), 1U);
}

TEST(ReportSvg, BarsShareAZeroAlsoWhereSomeAreNegative) {
  const BarPlot plot{.text = {"id", "bars", "", "", ""},
                     .bars = {{"a", "3", {{1.0, "forward", "f"}, {2.0, "backward", "b"}}},
                              {"b", "-1", {{-1.0, "forward", "f"}}}}};
  const std::string text = svg(plot);
  EXPECT_THAT(text, HasSubstr("x='25.00%' y='23' width='25.00%'"));
  EXPECT_THAT(text, HasSubstr("x='50.00%' y='23' width='50.00%'"));
  EXPECT_THAT(text, HasSubstr("x='0.00%' y='63' width='25.00%'"));
}

// ---- Profile

Profile profile() {
  constexpr Direction kForward = Direction::forward;
  return {.step = 50,
          .step_ms = 10.0,
          .profiled_ms = 10.4,
          .ceilings = {.copy_gb_s = 1000.0, .matmul_tflop_s = 100.0, .dtype = "bf16"},
          .rows = {{"blocks.0.mlp", kForward, "gemm", 1, 1.0, 1e6, 5e10},
                   {"blocks.0.mlp", kForward, "gelu", 1, 0.5, 2e8, 0.0},
                   {"blocks.0.mlp", Direction::backward, "gemm", 2, 2.0, 2e6, 1e11},
                   {"blocks.1.mlp", kForward, "gemm", 1, 1.5, 1e6, 5e10},
                   {"norm", kForward, "layer_norm", 1, 4.0, 2e9, 1e9},
                   {"", kForward, "fill", 1, 0.25, 0.0, 0.0}}};
}

TEST(ReportProfile, AddsKernelsUpByLayerAndDirection) {
  const std::vector<LayerWork> layers = work_by_layer(profile());
  ASSERT_EQ(layers.size(), 4U);
  EXPECT_EQ(layers[0].layer, "norm");  // the slowest
  EXPECT_EQ(layers[1].layer, "blocks.0.mlp");
  EXPECT_DOUBLE_EQ(layers[1].forward().ms, 1.5);
  EXPECT_DOUBLE_EQ(layers[1].forward().bytes, 2.01e8);
  EXPECT_DOUBLE_EQ(layers[1].backward().calls, 2.0);
  EXPECT_EQ(layers[3].layer, "(fill)");
  EXPECT_EQ(layers[3].forward().bytes, 0.0);
}

TEST(ReportProfile, AddsEqualLayersUp) {
  const std::vector<LayerWork> groups = fold(work_by_layer(profile()));
  ASSERT_EQ(groups.size(), 3U);
  EXPECT_EQ(groups[0].layer, "blocks.*.mlp");
  EXPECT_EQ(groups[0].layers, 2U);
  EXPECT_DOUBLE_EQ(groups[0].ms(), 5.0);
}

TEST(ReportProfile, MfuIsNotKnownWithoutACeiling) {
  EXPECT_DOUBLE_EQ(mfu(1e6, 1e7, 100.0), 0.1);
  EXPECT_TRUE(std::isnan(mfu(1e6, 1e7, 0.0)));
  EXPECT_TRUE(std::isnan(mfu(1e6, 1e7, kUnknown)));
  EXPECT_TRUE(std::isnan(mfu(1e6, kUnknown, 100.0)));
}

TEST(ReportProfile, ShowsSharesOfTheStepWithoutInstrumentation) {
  const std::string html = profile_sections({profile()});
  EXPECT_THAT(html, AllOf(HasSubstr("account for 92.5%"), HasSubstr("add up to 9.25 ms"),
                          HasSubstr("5 ms, 50.0%"), HasSubstr("50.0% of the limit")));
  // Forward and backward of block 0, forward of block 1 and of the norm, and as many numbered.
  EXPECT_EQ(count(html, "<g class='dot"), 4U + 3U);
}

TEST(ReportProfile, SumsUpWhatDoesNotFit) {
  Profile record = profile();
  record.rows.clear();
  for (char name = 'A'; name < 'A' + 40; ++name)
    record.rows.push_back({std::string(1, name), Direction::forward, "gemm", 1, 1.0, 1e6, 1e6});
  const std::string html = profile_sections({record});
  EXPECT_THAT(html, HasSubstr("17 other layers</text>"));
  EXPECT_THAT(html, HasSubstr("17 ms, 170.0%"));
}

TEST(ReportProfile, DrawsNoRoofWithoutCeilings) {
  Profile record = profile();
  record.ceilings.copy_gb_s = 0.0;
  EXPECT_THAT(profile_sections({record}), HasSubstr("no measured ceilings"));
  EXPECT_THAT(profile_sections({}), HasSubstr("train --profile"));
}

// ---- Run directories

TEST(ReportRun, NeedsTheLogAlone) {
  const TemporaryDirectory directory;
  std::ofstream(directory.file("log.jsonl"))
      << R"({"event":"step","step":1,"loss":4.5,"tok_s":100,"ms":5,"memory":1048576})" << '\n';
  const RunRecord run = read_run(directory.file(""));
  ASSERT_EQ(run.steps.size(), 1U);
  EXPECT_EQ(run.steps[0].loss, 4.5);
  EXPECT_TRUE(std::isnan(run.steps[0].floor));
  EXPECT_EQ(run.lines_left_out, 0U);
  const std::string html = report_html(run);
  EXPECT_THAT(html, AllOf(HasSubstr("No end is logged"), HasSubstr("id='loss-plot-title'"),
                          HasSubstr("id='speed-plot-title'"), Not(HasSubstr("id='skills'")),
                          Not(HasSubstr("id='samples'")), Not(HasSubstr("nan"))));
}

TEST(ReportRun, LeavesOutATornLineAndSaysSo) {
  const TemporaryDirectory directory;
  std::ofstream(directory.file("log.jsonl")) << R"({"event":"step","step":1,"loss":4.5})"
                                             << "\n[1]\n\n"
                                             << R"({"event":"step","step":2,"lo)";
  const RunRecord run = read_run(directory.file(""));
  EXPECT_EQ(run.steps.size(), 1U);
  EXPECT_EQ(run.lines_left_out, 2U);
  EXPECT_THAT(report_html(run), HasSubstr("2 lines of its logs"));
}

TEST(ReportRun, StandsValuesOfAnotherKind) {
  const TemporaryDirectory directory;
  std::ofstream(directory.file("log.jsonl"))
      << R"({"event":"start","machine":7,"memory_plan":"none","parameters":"many"})" << '\n'
      << R"({"event":"step","step":1,"loss":null,"tok_s":"fast"})" << '\n'
      << R"({"event":"eval","step":null,"val_loss":1,"skills":[1,2]})" << '\n'
      << R"({"event":5})" << '\n'
      << R"({"event":"end","step":"x"})" << '\n';
  std::ofstream(directory.file("profile.jsonl")) << R"({"rows":{"a":1},"ceilings":3})" << '\n'
                                                 << R"({"rows":[1,{"layer":2,"ms":"x"}]})" << '\n';
  std::ofstream(directory.file("config.json")) << "not json";
  const std::string html = report_html(read_run(directory.file("")));
  EXPECT_THAT(html, AllOf(HasSubstr("</html>"), Not(HasSubstr("nan")), Not(HasSubstr("inf%"))));
}

TEST(ReportRun, WarnsOfALogWithNothingToPlot) {
  const TemporaryDirectory directory;
  const std::string log = directory.file("log.jsonl");
  const auto warning = [&](const std::string& text) {
    write(log, text);
    const Outcome outcome = run({"report", directory.file("")});
    EXPECT_EQ(outcome.status, 0);
    return outcome.errors;
  };
  EXPECT_THAT(warning(""), HasSubstr("lamina-gpt: warning: report: " + log +
                                     " has no step and no evaluation, expected records"));
  EXPECT_THAT(warning("some\ntext\n"),
              HasSubstr("(2 lines of the run's logs are no JSON objects)"));
  EXPECT_EQ(warning(R"({"event":"step","step":1,"loss":4.5})"), "");
}

TEST(ReportRun, RefusesWhatIsNotARun) {
  const TemporaryDirectory directory;
  const Outcome empty = run({"report", directory.file("")});
  EXPECT_EQ(empty.status, 1);
  EXPECT_THAT(empty.errors, HasSubstr("log.jsonl cannot be read, expected a run directory"));
  EXPECT_FALSE(fs::exists(directory.file("report.html")));
  const Outcome none = run({"report"});
  EXPECT_EQ(none.status, 2);
  EXPECT_THAT(none.errors, HasSubstr("no run given"));
  EXPECT_EQ(run({"report", "a", "b"}).status, 2);
  EXPECT_THAT(run({"report", "--help"}).out, HasSubstr("RUN_DIR/report.html"));
  EXPECT_EQ(run({"report", "a", "--steps", "3"}).status, 2);
}

RunRecord hostile() {
  const std::string text = "</script></pre></style><img src=x onerror=alert(1)>\x1b\"'&";
  RunRecord run;
  run.name = text;
  run.start = {{"event", "start"},
               {"preset", text},
               {"data", text},
               {"device", text},
               {"machine", {{text, text}}}};
  run.config = {{text, text}, {"list", {text}}};
  run.end = {{"event", "error"}, {"step", 3}, {"what", text}};
  run.steps = {{.step = 1, .loss = 4.0}};
  run.samples = cat("sample 1 of 2\n\n", text, "\n\nsample 2 of 2\n\n", text, "\n\n");
  Profile sampled = profile();
  sampled.ceilings.dtype = sampled.rows[0].layer = sampled.rows[0].kernel = text;
  run.profile = {sampled};
  return run;
}

TEST(Report, TurnsNothingOfARunIntoMarkup) {
  const std::string html = report_html(hostile());
  EXPECT_EQ(count(html, "<img"), 0U);
  EXPECT_EQ(count(html, "<script"), 0U);
  EXPECT_EQ(count(html, "</script"), 0U);
  EXPECT_EQ(count(html, "</style>"), 1U);
  EXPECT_EQ(count(html, "\x1b"), 0U);
  EXPECT_EQ(count(html, "<pre "), 2U);
  EXPECT_EQ(count(html, "</pre>"), 2U);
  EXPECT_THAT(html, HasSubstr("Failed at step 3: &lt;/script&gt;"));
}

TEST(Report, NamesNoOtherPlace) {
  const std::string html = report_html(hostile());
  for (const char* way : {"http://", "https://", "src=", "url(", "@import", "<link"})
    EXPECT_EQ(count(html, way), way == std::string("src=") ? count(html, "img src=") : 0U) << way;
}

TEST(Report, BarsOfTheSkillsAddUpToTheExcess) {
  RunRecord run;
  EvalRecord record{.step = 10, .loss = 0.5, .floor = 0.4, .excess = 0.1, .skills = {}};
  record.skills["recall"] = {.targets = 100, .loss = 1.2, .floor = 1.0};
  record.skills["syntax"] = {.targets = 300, .loss = 0.0667, .floor = 0.0};
  run.evaluations = {record};
  const std::string html = report_html(run);
  EXPECT_THAT(html, HasSubstr("recall · a word said before"));
  EXPECT_EQ(count(html, ">+0.0500</text>"), 2U);  // 100 / 400 * 0.2 and 300 / 400 * 0.0667
  EXPECT_THAT(html, HasSubstr("<td>25.0%</td><td>1.2000</td><td>1.0000</td><td>+0.2000</td>"));
}

TEST(Report, ShowsMfuWhereTheCeilingIsKnown) {
  RunRecord run;
  run.start = {{"flops_per_token", 1e8}};
  run.steps = {{.step = 1, .loss = 1, .rate = 1.0}, {.step = 2, .loss = 1, .rate = 5e5}};
  EXPECT_THAT(report_html(run), AllOf(HasSubstr("MFU is not shown"), Not(HasSubstr("<dt>MFU"))));
  run.profile = {profile()};
  // Without the first record, which holds the warm-up.
  EXPECT_THAT(report_html(run),
              AllOf(HasSubstr("<dt>MFU</dt><dd>50.0%"), Not(HasSubstr("by another run"))));
  run.profile[0].ceilings = {};
  EXPECT_THAT(report_html(run), HasSubstr("MFU is not shown"));
  run.kept = {.copy_gb_s = 1.0, .matmul_tflop_s = 200.0, .dtype = "bf16"};
  EXPECT_THAT(report_html(run), AllOf(HasSubstr("<dt>MFU</dt><dd>25.0%"),
                                      HasSubstr("reach here by another run with --profile.")));
}

TEST(Report, TakesTheCeilingsThatAnotherRunHasMeasuredHere) {
  const TemporaryDirectory directory;
  const std::string profiled = directory.file("profiled"), plain = directory.file("plain");
  const std::vector<std::string> arguments = {"--steps", "4", "--log-every", "1"};
  ASSERT_EQ(train_tiny(plain, arguments).status, 0);
  ASSERT_EQ(train_tiny(profiled, {"--steps", "4", "--log-every", "1", "--profile=2"}).status, 0);
  const auto page_of = [](const std::string& path) {
    EXPECT_EQ(run({"report", path}).status, 0);
    return contents(path + "/report.html");
  };
  EXPECT_THAT(page_of(profiled), AllOf(HasSubstr("<dt>MFU"), Not(HasSubstr("by another run"))));
  EXPECT_THAT(page_of(plain), AllOf(HasSubstr("<dt>MFU"), HasSubstr("by another run")));
  std::string log = contents(plain + "/log.jsonl");
  log.replace(log.find("\"cpu\":\"") + 7, 0, "another ");
  write(plain + "/log.jsonl", log);
  EXPECT_THAT(page_of(plain), Not(HasSubstr("<dt>MFU")));
}

TEST(Report, StaysSmallForALongRun) {
  RunRecord run = hostile();
  for (int step = 1; step <= 5000; ++step) {
    run.steps.push_back({.step = static_cast<double>(step),
                         .loss = 1.0 + std::sin(step),
                         .floor = 0.1,
                         .rate = 1e6 + step,
                         .ms = 5.0,
                         .memory = 1e9});
  }
  run.profile[0].rows.clear();
  for (int layer = 0; layer < 48 * 9; ++layer) {
    for (const Direction direction : {Direction::forward, Direction::backward}) {
      const std::string name = cat("blocks.", layer / 9, ".attention.part_", layer % 9);
      run.profile[0].rows.push_back({name, direction, "gemm", 1, 0.1, 1e6, 1e9});
    }
  }
  run.samples = "sample 1 of 1\n\n" + std::string(5'000'000, '<');
  const std::string html = report_html(run);
  EXPECT_LT(html.size(), 2'000'000U);
  EXPECT_THAT(html, HasSubstr("The 5,001 logged values are drawn as 400 means"));
  EXPECT_THAT(html, HasSubstr("The first 100000 of 5000015 bytes"));
}

TEST(Report, OfATrainingHasItsParts) {
  const TemporaryDirectory directory;
  const std::string out = directory.file("run");
  ASSERT_EQ(train_tiny(out, {"--steps", "20", "--eval-every", "10", "--log-every", "1"}).status, 0);
  const RunRecord record = read_run(out);
  // 6 N + 12 layers * width * context, N = vocabulary, blocks and last norm, without positions.
  const double parameters = 96 * 32 + 2 * (12 * 32 * 32 + 13 * 32) + 2 * 32;
  EXPECT_EQ(number_at(record.start, "flops_per_token"), 6 * parameters + 12 * 2 * 32 * 32);
  ASSERT_EQ(record.evaluations.size(), 2U);
  double targets = 0.0, excess = 0.0;
  for (const auto& [name, skill] : record.evaluations[1].skills) {
    targets += skill.targets;
    excess += skill.targets * skill.excess();
  }
  EXPECT_EQ(targets, 2 * 8 * 32);  // batches of windows of targets
  EXPECT_NEAR(excess / targets, record.evaluations[1].excess, 1e-9);

  const Outcome outcome = run({"report", out});
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.out, HasSubstr("run/report.html: "));
  const std::string html = contents(out + "/report.html");
  EXPECT_THAT(html,
              AllOf(HasSubstr("Finished after 20 steps."), HasSubstr("id='excess-plot-title'"),
                    HasSubstr("id='skills-plot-title'"), HasSubstr("id='memory-plan-title'"),
                    HasSubstr("aria-label='sample 1'"), HasSubstr("<dt>blas</dt>")));
  EXPECT_EQ(count(html, "class='spark'"), count(html, "class='track'") - 5);  // 5 of the memory
  const std::string other = directory.file("other.html");
  EXPECT_EQ(run({"report", out, "--out", other}).status, 0);
  EXPECT_EQ(contents(other), html);
  EXPECT_EQ(run({"report", out, "--out", directory.file("none/x.html")}).status, 1);
  EXPECT_THAT(run({"report", out, "--out", directory.file("")}).errors,
              HasSubstr("failed: Is a directory"));
}

}  // namespace
}  // namespace lamina::gpt
