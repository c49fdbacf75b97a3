// SPDX-License-Identifier: MIT
#include "examples/gpt/train.h"

#include "autograd/watch.h"
#include "core/kernels/gemm_plans.h"
#include "core/random.h"
#include "core/step_graph.h"
#include "core/storage.h"
#include "core/text.h"
#include "examples/gpt/checkpoint.h"
#include "examples/gpt/checkpoint_writer.h"
#include "examples/gpt/data.h"
#include "examples/gpt/evaluate.h"
#include "examples/gpt/interrupt.h"
#include "examples/gpt/log.h"
#include "examples/gpt/machine.h"
#include "examples/gpt/memory_plan.h"
#include "examples/gpt/metrics.h"
#include "examples/gpt/run_directory.h"
#include "examples/gpt/sample.h"
#include "examples/gpt/shell_text.h"
#include "examples/gpt/training_profile.h"
#include "examples/gpt/training_state.h"
#include "examples/gpt/training_step.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <omp.h>
#include <optional>
#include <system_error>
#include <utility>

namespace lamina::gpt {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Trainer {
 public:
  /// Makes all but the run directory, so that a failed start leaves nothing behind.
  Trainer(const Options& options, const Checkpoint* start, Console& console,
          const Interrupt& interrupt)
      : options_(options),
        console_(console),
        interrupt_(interrupt),
        live_(console),
        graph_(Device::parse(options.device),
               options.eager ? std::numeric_limits<int>::max() : 2),  // eager: never ready
        work_(options, start) {
    evaluator_.emplace(loader_, data::Split::validation, options.eval_batches);
    plan_ = plan_memory();
  }

  /// Returns the exit status.
  int run() {
    if (interrupt_.signal() != 0) {
      live_.print("stopped before the first step; no run directory was made");
      return 128 + interrupt_.signal();
    }
    run_.emplace(options_);
    directory_ = run_->path();
    store_.emplace(disk_, directory_ / "checkpoints");
    const bool is_new = !resume();
    log_.emplace(directory_ / "log.jsonl");
    metrics_.emplace(directory_, options_.metrics);
    writer_.emplace(disk_, *store_, retention(), device_, checkpoint_bytes());
    try {
      return train(is_new);
    } catch (const std::exception& error) {
      try {
        log_->write({{"event", "error"}, {"step", step_}, {"what", error.what()}});
      } catch (const std::exception&) {
        // The log may be what failed: the first error counts.
      }
      throw;
    }
  }

 private:
  int train(bool is_new) {
    write_synced(disk_, directory_ / "config.json", options_json().dump(2) + "\n");
    describe();
    if (is_new) log_start();
    if (options_.profile > 0) profile_.emplace(options_, device_, directory_, step_, live_);
    mark_ = Clock::now();
    const std::int64_t first = step_ + 1;
    while (step_ < options_.steps && interrupt_.signal() == 0 && !is_out_of_time()) {
      const auto is_due_at = [](std::int64_t step, std::int64_t every) {
        return every > 0 && step % every == 0;
      };
      // Before the step that may end with the next checkpoint: no more than the steps since the one
      // before can be lost.
      if (is_due_at(step_ + 1, options_.eval_every) ||
          is_due_at(step_ + 1, options_.checkpoint_every)) {
        report_failure(writer_->wait(), false);
      }
      train_step();
      const bool is_last = step_ == options_.steps;
      if (is_last || step_ == 1 || step_ % options_.log_every == 0) log_step();
      if (step_ == first) plans_.save(directory_ / "gemm_plans.txt");
      if (!is_last && is_due_at(step_, options_.eval_every)) evaluate();
      if (!is_last && (best_.step == step_ || is_due_at(step_, options_.checkpoint_every))) save();
    }
    if (profile_) profile_->finish();
    return interrupt_.signal() != 0 ? stop() : finish();
  }

  bool is_out_of_time() const {
    return options_.time_limit > 0.0 && seconds_since(session_start_) >= options_.time_limit;
  }

  std::size_t checkpoint_bytes() const {
    std::size_t bytes = 0;
    for (const nn::NamedTensors& tensors : {nn::parameters_of(*model_), optimizer_->tensors()})
      for (const auto& [name, tensor] : tensors)
        bytes += tensor.bytes();
    return bytes;
  }

  Retention retention() const { return {options_.keep, options_.keep_every}; }

  /// As a file gives them back.
  Json options_json() const {
    const Json json = to_json(options_, Command::train);
    return Json::parse(json.dump(-1, ' ', false, Json::error_handler_t::replace));
  }

  std::string data_text() const {
    return cat(data_.source->description(), ", checksum ", data_.checksum);
  }

  /// The checkpoint to go on from; nothing for a run that has none yet.
  std::optional<std::int64_t> checkpoint_to_resume() {
    store_->clean();
    const std::vector<std::int64_t> steps = store_->steps();
    if (options_.resume == "auto") {
      const auto report = [this](const std::string& what) { live_.print("damaged " + what); };
      if (const std::string lost = store_->dangling("latest"); !lost.empty()) {
        if (steps.empty()) {
          throw Error(cat("train: ", lost, ", nor is any other checkpoint, expected one; to start ",
                          "again, give another --out, or --resume never"));
        }
        report(lost);
      }
      const auto newest = store_->newest_intact(report);
      if (newest || steps.empty()) return newest;
      throw Error(cat("train: no checkpoint in ", directory_.string(), " is intact, expected one; ",
                      "to start again, give another --out"));
    }
    if (options_.resume == "never") return std::nullopt;
    const std::int64_t step = std::stoll(options_.resume);
    const std::string fault = store_->fault(step);
    if (fault.empty()) return step;
    std::string others;
    for (const std::int64_t other : steps)
      others += cat(others.empty() ? "; there are " : ", ", other);
    throw Error(cat("--resume is ", step, ": ", fault, others));
  }

  /// Takes everything back to where a checkpoint was made, the logs as well. False when there is
  /// none.
  bool resume() {
    const std::optional<std::int64_t> step = checkpoint_to_resume();
    if (!step) {
      cut_logs(directory_, {});
      return false;
    }
    const fs::path path = store_->path_of(*step);
    const TrainingState state = read_state(path / "state.json");
    const std::vector<std::string> changes = expect_same_run(state.options, options_json());
    if (state.data != data_text()) {
      throw Error(cat("train: the data is ", data_text(), ", expected ", state.data,
                      " (that of the run in ", directory_.string(), ")"));
    }
    if (*step > options_.steps) {
      throw UsageError(cat("--steps is ", options_.steps, ", expected at least ", *step,
                           " (those that the run in --out has done)"));
    }
    nn::load_parameters(*model_, path / "model.safetensors");
    nn::load_into(optimizer_->tensors(), path / "optimizer.safetensors");
    reported_skipped_ = optimizer_->state().skipped;
    default_generator() = Generator(state.seed);
    default_generator().skip(state.random_offset);
    step_ = saved_step_ = state.step;
    evaluated_step_ = state.evaluated_step;
    best_ = {state.best, state.best_step};
    trained_seconds_ = state.trained_seconds;
    start_ -= std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(state.elapsed_seconds));
    if (options_.resume == "auto") {
      store_->point("latest", *step);
    } else {
      store_->go_back_to(*step);
    }
    if (store_->target("best") == step_ && best_.step != step_ && state.options["steps"] == step_) {
      // Evaluated when all steps were done, behind this checkpoint.
      best_ = {(*evaluator_)(*model_).loss.mean, step_};
    } else if (const auto steps = store_->steps();
               std::find(steps.begin(), steps.end(), best_.step) != steps.end()) {
      store_->point("best", best_.step);  // of a later step that is gone
    }
    for (const std::string& line : cut_logs(directory_, state.logs))
      live_.print("damaged " + line);
    live_.print(cat("resume  step ", step_, ", from ", path.string()));
    for (const std::string& change : changes)
      live_.print("change  " + change);
    return true;
  }

  void describe() {
    const std::string parameters = count_text(static_cast<double>(model_->parameter_count()));
    live_.print(cat("model   ", options_.layers, " x ", options_.width, ", ", options_.heads,
                    " heads, context ", options_.context, ": ", parameters, " parameters, ",
                    options_.dtype));
    live_.print(cat("data    ", data_.source->description()));
    live_.print(cat(
        "device  ", device_, ", ",
        device_.is_cuda() ? device_info(device_).name : cat(omp_get_max_threads(), " threads")));
    live_.print(cat("run     ", directory_.string(), ": ", options_.steps, " steps of ",
                    tokens_per_step(), " tokens, ", options_.schedule, " schedule, peak lr ",
                    scientific(options_.lr)));
    live_.print(cat("memory  ", plan_.text()));
  }

  void log_start() {
    log_->write({{"event", "start"},
                 {"preset", options_.preset},
                 {"parameters", model_->parameter_count()},
                 {"data", data_.source->description()},
                 {"device", cat(device_)},
                 {"dtype", options_.dtype},
                 {"tokens_per_step", tokens_per_step()},
                 {"flops_per_token", flops_per_token(*model_)},
                 {"machine", machine_facts(device_)},
                 {"memory_plan",
                  {{"weights", plan_.parameters.weights},
                   {"gradients", plan_.parameters.gradients},
                   {"optimizer", plan_.parameters.master + plan_.parameters.moments},
                   {"activations", plan_.blocks + plan_.rest},
                   {"logits", plan_.head},
                   {"needed", plan_.needed()},
                   {"largest_batch", plan_.largest_batch()}}}});
  }

  std::int64_t tokens_per_step() const { return loader_.tokens_per_batch() * options_.accumulate; }

  /// Throws Error with the batch that would fit when this one does not.
  MemoryPlan plan_memory() {
    const TimeGemms timed(plans_.is_used());
    const Tensor tokens = tokens_.slice(0, 0, 1).reshape(tokens_.shape().sub(1, tokens_.rank()));
    tokens.fill(0.0);
    const auto plan_of = [this](const Tensor& of) {
      return gpt::plan_memory(*model_, *optimizer_, batch_of(of));
    };
    const auto largest_batch = [&] {
      return plan_of(tokens.slice(1, 0, 1).contiguous()).largest_batch();
    };
    const auto too_large = [&](std::int64_t most, const std::string& why) {
      return Error(cat("--batch ", options_.batch, " does not fit in the ",
                       bytes_text(device_info(device_).total_memory), " of ", device_,
                       ", expected at most some ", most,
                       " (or try --recompute and --logit-rows 8192)", why));
    };
    if (!device_.is_cuda() && options_.batch > 1) {
      // A host without memory ends the process instead of saying so.
      const std::int64_t most = largest_batch();
      if (most < options_.batch) throw too_large(most, "");
    }
    try {
      return plan_of(tokens);
    } catch (const OutOfMemory& error) {
      if (options_.batch == 1) throw;
      throw too_large(largest_batch(), cat(": ", error.what()));
    }
  }

  /// Queues the next step.
  void train_step() {
    work_.upload(step_);
    const auto work = [this] { work_.run(); };
    if (profile_) {
      profile_->step(graph_, work);
    } else {
      graph_.run(work);
    }
    ++step_;
    ++unlogged_;
  }

  void log_step() {
    const auto loss = work_.loss().item<double>();  // waits for the device
    const kernels::StepState state = optimizer_->state();
    const double seconds = seconds_since(mark_);
    trained_seconds_ += seconds;
    const double ms = 1e3 * seconds / static_cast<double>(unlogged_);
    smooth_ms_ =
        smooth_ms_ == 0.0 || step_ <= 2 * options_.log_every ? ms : 0.8 * smooth_ms_ + 0.2 * ms;
    const double rate = 1e3 * static_cast<double>(tokens_per_step()) / ms;
    const std::size_t memory =
        current_allocator(device_).stats().peak_reserved + graph_.memory().peak_reserved;
    Json record = {{"event", "step"},  {"step", step_},
                   {"loss", loss},     {"grad_norm", state.grad_norm},
                   {"lr", state.lr},   {"skipped", state.skipped},
                   {"tok_s", rate},    {"ms", ms},
                   {"memory", memory}, {"elapsed_s", seconds_since(start_)}};
    std::string floor;
    if (const std::optional<double> known = evaluator_->floor()) {
      floor = cat(" (floor ", fixed(*known, 4), " ", fixed(loss - *known, 4, true), ")");
      record["floor"] = *known;
      record["excess"] = loss - *known;
    }
    if (scales_loss()) record["loss_scale"] = state.loss_scale;
    log_->write(record);
    metrics_->write(record);
    const double left = static_cast<double>(options_.steps - step_) * smooth_ms_ / 1e3;
    live_.update(
        cat(fixed(100.0 * static_cast<double>(step_) / static_cast<double>(options_.steps), 0),
            "%  step ", step_, "/", options_.steps, "  loss ", fixed(loss, 4), floor, "  |g| ",
            fixed(static_cast<double>(state.grad_norm), 2), "  lr ",
            scientific(static_cast<double>(state.lr)), "  ", fixed(ms, 1), " ms/step  ",
            count_text(rate), " tok/s  ", bytes_text(memory), "  ETA ", duration_text(left)));
    unlogged_ = 0;
    mark_ = Clock::now();
    report_skipped(state);
  }

  bool scales_loss() const { return compute_dtype(options_) == DType::f16; }

  /// Steps that changed no weight, because their gradient was not finite. Throws Error when there
  /// were too many one after the other. A loss scale that can still become smaller may be why: in
  /// f16 those count only that come after it is 1.
  void report_skipped(const kernels::StepState& state) {
    constexpr std::int32_t kMost = 5;
    if (state.skipped > reported_skipped_) {
      live_.print(cat("warning ", state.skipped - reported_skipped_, " of the steps up to ", step_,
                      " were skipped: their gradient was not finite",
                      scales_loss() ? cat("; the loss scale is now ",
                                          fixed(static_cast<double>(state.loss_scale), 0))
                                    : ""));
      reported_skipped_ = state.skipped;
    }
    if (state.skipped_in_a_row < kMost) return;
    throw Error(cat("train: the last ", state.skipped_in_a_row, " steps, up to ", step_,
                    ", had a gradient that is not finite, and were skipped: ", find_fault(),
                    "; try a smaller --lr, a longer --warmup or --clip 1"));
  }

  /// The op that makes a value that is not finite when the last batch runs again.
  std::string find_fault() {
    FindNotFinite find;
    const WatchOps watch(find);
    try {
      work_.run();
    } catch (const NotFiniteError& error) {
      return error.what();
    } catch (const OutOfMemory&) {
      return "there is not enough memory to look for the op";
    }
    return "all values are finite when the last batch runs again (the norm may have overflowed)";
  }

  /// Adds the time of steps that no line of the log has covered yet.
  void count_unlogged() {
    if (unlogged_ == 0) return;
    synchronize(device_);
    trained_seconds_ += seconds_since(mark_);
    unlogged_ = 0;
  }

  void evaluate() {
    count_unlogged();
    last_ = (*evaluator_)(*model_);
    const bool is_best = last_.loss.mean < best_.loss;
    Json record = {{"event", "eval"},
                   {"step", step_},
                   {"val_loss", last_.loss.mean},
                   {"val_sigma", last_.loss.standard_error},
                   {"elapsed_s", seconds_since(start_)}};
    if (last_.has_floor) {
      record["floor"] = last_.floor;
      record["excess"] = last_.excess.mean;
      record["excess_sigma"] = last_.excess.standard_error;
      record["skills"] = last_.skills();
    }
    log_->write(record);
    metrics_->write(record);
    live_.print_bold(cat("step ", step_, "  ", last_.text(), is_best ? "  best" : ""));
    if (is_best) {
      earlier_best_ = best_;
      best_ = {last_.loss.mean, step_};
    }
    evaluated_step_ = step_;
    last_.check();
    mark_ = Clock::now();
  }

  /// Begins to write a checkpoint.
  void save() {
    TrainingState state;
    state.step = saved_step_ = step_;
    state.seed = default_generator().seed();
    state.random_offset = default_generator().offset();
    state.evaluated_step = evaluated_step_;
    state.best = best_.loss;
    state.best_step = best_.step;
    state.trained_seconds = trained_seconds_ + (unlogged_ > 0 ? seconds_since(mark_) : 0.0);
    state.elapsed_seconds = seconds_since(start_);
    state.logs = log_sizes(directory_);
    state.data = data_text();
    state.options = options_json();
    state.version = LAMINA_VERSION;
    std::vector<fs::path> relied_on;
    for (const auto& [name, size] : state.logs)
      relied_on.push_back(directory_ / name);
    if (const fs::path plans = directory_ / "gemm_plans.txt"; fs::exists(plans)) {
      relied_on.push_back(plans);
    }
    const nn::Metadata metadata =
        metadata_of({.config = model_->config,
                     .vocabulary = data_.vocabulary,
                     .preset = options_.preset,
                     .corpus = options_.random_tokens ? "" : options_.corpus,
                     .step = step_});
    writer_->begin(
        {.step = step_,
         .model = nn::tensor_file(nn::parameters_of(*model_), "model.safetensors", metadata),
         .optimizer = nn::tensor_file(optimizer_->tensors(), "optimizer.safetensors"),
         .state = to_json(state).dump(2) + "\n",
         .is_best = best_.step == step_},
        std::move(relied_on));
  }

  /// The last checkpoint of this process, if it is not there yet. Throws Error when it cannot be
  /// written.
  void save_and_wait() {
    report_failure(writer_->wait(), saved_step_ == step_);
    if (saved_step_ == step_) return;
    save();
    const std::string failure = writer_->wait();
    if (!failure.empty()) {
      throw Error(cat("train: the checkpoint of step ", step_, " is not written: ", failure));
    }
  }

  /// Of a checkpoint that training does not depend on.
  void report_failure(const std::string& what, bool is_tried_again) {
    if (what.empty()) return;
    live_.print(cat("warning the checkpoint of step ", saved_step_, " is not written: ", what));
    if (best_.step == saved_step_ && !is_tried_again) best_ = earlier_best_;
    saved_step_ = -1;
  }

  std::string resume_command() const {
    return cat(console_.program, " train --out ", shell_quoted(directory_.string()));
  }

  /// After Ctrl-C, SIGTERM or SIGHUP. Returns the exit status.
  int stop() {
    const int signal = interrupt_.signal();
    count_unlogged();
    save_and_wait();
    log_->write({{"event", "stop"}, {"step", step_}, {"signal", signal}});
    live_.print(cat("stopped after step ", step_, " of ", options_.steps,
                    "; go on with: ", resume_command()));
    return 128 + signal;
  }

  /// After the last step. Returns the exit status.
  int finish() {
    count_unlogged();
    save_and_wait();
    if (evaluated_step_ != step_) {
      evaluate();
      if (best_.step == step_) {
        store_->point("best", step_);
        if (step_ == options_.steps) store_->prune(retention());  // else it may be the best again
      }
    } else if (last_.windows == 0) {
      last_ = (*evaluator_)(*model_);  // that of the log
    }
    if (options_.gemm_report) console_.out << gemm_report(device_) << std::flush;
    if (interrupt_.signal() != 0) return stop();
    const double tokens = static_cast<double>(step_ * tokens_per_step());
    const double rate = trained_seconds_ > 0.0 ? tokens / trained_seconds_ : 0.0;
    if (data_.vocabulary && options_.samples > 0) {
      const std::vector<std::string> samples = generate_text(
          *model_, *data_.vocabulary, "",
          {.count = options_.samples,
           .length = sample_length(options_.sample_chars, options_.corpus, options_.context),
           .temperature = options_.temperature,
           .top_k = options_.top_k,
           .top_p = options_.top_p,
           .repetition_penalty = options_.repetition_penalty,
           .seed = static_cast<std::uint64_t>(options_.seed),
           .is_stopped = [this] { return interrupt_.signal() != 0; }});
      if (interrupt_.signal() != 0) return stop();
      const std::string text = samples_text(samples, options_.corpus);
      write_file(directory_ / "samples.txt", text);
      console_.out << '\n' << text << '\n';
    }
    const std::string hash = hash_text(weights_hash(*model_));
    const bool is_cut = step_ < options_.steps;
    const kernels::StepState state = optimizer_->state();
    log_->write({{"event", "end"},
                 {"reason", is_cut ? "time limit" : "steps"},
                 {"step", step_},
                 {"best_val_loss", best_.loss},
                 {"best_step", best_.step},
                 {"skipped", state.skipped},
                 {"weights", hash},
                 {"graph_nodes", graph_.nodes()},  // kernels and copies of a step
                 {"tok_s", rate},
                 {"elapsed_s", seconds_since(start_)}});
    if (state.skipped > 0) {
      live_.print(cat(state.skipped, " steps were skipped: their gradient was not finite"));
    }
    live_.print_bold(cat("done    ", step_, " steps ", is_cut ? "(time limit) " : "", "in ",
                         duration_text(seconds_since(start_)), ", ", count_text(rate),
                         " tok/s in training; ", last_.text(), "; best ", fixed(best_.loss, 4),
                         " at step ", best_.step));
    live_.print(cat("weights ", hash));
    live_.print(cat("more    ", console_.program, " sample ", shell_quoted(directory_.string())));
    if (is_cut) live_.print(cat("go on   ", resume_command()));
    return 0;
  }

  const Options& options_;
  Console& console_;
  const Interrupt& interrupt_;
  LiveLine live_;
  StepGraph graph_;
  TrainingStep work_;
  const Device device_ = work_.device();
  const Data& data_ = work_.data();
  const TokenLoader& loader_ = work_.loader();
  const Tensor& tokens_ = work_.tokens();
  GemmPlanFile& plans_ = work_.plans();
  Gpt* const model_ = &work_.model();
  nn::AdamW* const optimizer_ = &work_.optimizer();
  std::optional<Evaluator> evaluator_;
  MemoryPlan plan_;
  std::optional<RunDirectory> run_;  // locked for longer than the writer lives
  fs::path directory_;
  SystemDisk disk_;
  std::optional<CheckpointStore> store_;
  std::optional<CheckpointWriter> writer_;
  std::optional<RunLog> log_;
  std::optional<Metrics> metrics_;

  std::int64_t step_ = 0, unlogged_ = 0, saved_step_ = -1, evaluated_step_ = -1;
  Evaluation last_;

  struct {
    double loss = std::numeric_limits<double>::infinity();
    std::int64_t step = -1;
  } best_, earlier_best_;

  Clock::time_point session_start_ = Clock::now(), start_ = session_start_, mark_ = start_;
  double trained_seconds_ = 0.0, smooth_ms_ = 0.0;
  std::int64_t reported_skipped_ = 0;
  std::optional<TrainingProfile> profile_;
};

}  // namespace

void set_threads(std::int64_t count) {
  if (count > 0) omp_set_num_threads(static_cast<int>(count));
}

int train(const Options& options, Console& console) {
  const Interrupt interrupt;
  expect_out(options);
  set_threads(options.threads);
  if (options.from.empty()) return Trainer(options, nullptr, console, interrupt).run();
  // A run that is gone on with has all that it needs itself.
  std::optional<Checkpoint> own;
  if (!options.out.empty() && options.resume != "never") own = load_newest(options.out);
  const Checkpoint start = own ? std::move(*own) : load_checkpoint(options.from);
  Options adapted = options;
  adapted.layers = start.info.config.layers;
  adapted.heads = start.info.config.heads;
  adapted.width = start.info.config.width;
  adapted.context = start.info.config.context;
  adapted.bias = start.info.config.bias;
  return Trainer(adapted, &start, console, interrupt).run();
}

}  // namespace lamina::gpt
