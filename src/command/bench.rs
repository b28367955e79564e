//! `trainer bench`: how fast and how large a training step is on this machine.
//!
//! It takes the steps of a run, on random tokens in place of rows.

use std::time::Instant;

use backbone::device::{self, DTypeName};
use backbone::ops::peak_flops;
use backbone::values;
use backbone::{AdapterSettings, Config, Decoder, INITIALIZER_RANGE, ModelFiles, Quantise, Source};
use burn::tensor::{DType, Device};
use checkpoints::Weights;
use clap::{Args, ValueEnum};
use datasets::{Example, Part};
use faults::{Fault, Faults};
use kernels::Quantisation;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{Outcome, argument, open_device, print};
use crate::engine::Trainee;
use crate::engine::backward::Recompute;
use crate::engine::batch::Batch;
use crate::engine::schedule::{Kind, Schedule};
use crate::engine::step::{StepSettings, Trainer};
use crate::plan::{Adaptation, Step, available, flop_per_token, native_attention, resident, room, wasted_rank};

/// Measure training steps; the last line of stdout is a JSON object.
///
/// Tokens per second, milliseconds per step (the median of all steps but the first) and of all processors together, the
/// process's largest resident size beside the plan's estimate, and the use of the processor's peak: `mfu` is the step's own
/// operations (4 per frozen weight that a token meets, the attention's and the adapter's on top, nothing for what is
/// recomputed) over those that all threads of this machine can do in registers in that time.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A base model: folder, `org/name` or `builtin:tiny`.
    #[arg(long, required_unless_present = "shape", conflicts_with = "shape")]
    model: Option<String>,
    /// A published model's shape, with random weights.
    #[arg(long, value_enum)]
    shape: Option<ModelShape>,
    /// Rows of a step.
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Tokens of a row.
    #[arg(long, default_value_t = 256)]
    seq: usize,
    /// Rank of the adapter, on every projection.
    #[arg(long, default_value_t = 16)]
    rank: usize,
    /// Steps that are measured, after one that is not.
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Precision of the frozen weights: auto, f32 or bf16; all measures both, one object each.
    #[arg(long, default_value = "auto", value_parser = ["auto", "f32", "bf16", "all"])]
    dtype: String,
    /// Keep the frozen weights in fewer bits.
    #[arg(long, value_enum)]
    quantize: Option<Bits>,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    device: String,
    /// What is kept of the way forward.
    #[arg(long, value_enum, default_value = "none")]
    recompute: Kept,
    /// Print the JSON object alone.
    #[arg(long)]
    json: bool,
}

/// Shapes with random weights.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModelShape {
    #[value(name = "smollm2-135m")]
    SmolLm2,
    #[value(name = "qwen2.5-7b")]
    Qwen2,
    #[value(name = "llama-3.1-8b")]
    Llama3,
}

/// Fewer bits for the frozen weights, embedding and head among them.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bits {
    Int8,
    Nf4,
}

impl Bits {
    fn quantise(self) -> Quantise {
        let quantisation = match self {
            Self::Int8 => Quantisation::Int8,
            Self::Nf4 => Quantisation::Nf4,
        };
        // The time of a step does not depend on how codes were chosen.
        Quantise { quantisation, embeddings: true, rows: 0 }
    }
}

/// What is kept of the way forward.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kept {
    /// All activations.
    None,
    /// The input of each block.
    Blocks,
    /// All activations where they fit, else the input of each block.
    Auto,
}

impl ModelShape {
    /// The fields of the published `config.json` that decide the shape.
    fn config(self) -> Result<Config, Fault> {
        let value = match self {
            Self::SmolLm2 => json!({
                "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
                "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
                "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100_000.0,
                "tie_word_embeddings": true, "hidden_act": "silu",
            }),
            Self::Qwen2 => json!({
                "model_type": "qwen2", "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944,
                "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
                "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0,
                "tie_word_embeddings": false, "hidden_act": "silu",
            }),
            Self::Llama3 => json!({
                "model_type": "llama", "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336,
                "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
                "max_position_embeddings": 131_072, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0,
                "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
                "tie_word_embeddings": false, "hidden_act": "silu",
            }),
        };
        Config::parse(&value.to_string(), "--shape")
    }
}

/// Runs the command.
///
/// # Errors
/// Settings that are impossible, or a model that cannot be loaded.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    check(arguments)?;
    if arguments.dtype == "all" {
        return both(arguments).map_err(Into::into);
    }
    let device = open_device(&arguments.device)?;
    let dtype = match arguments.dtype.as_str() {
        "f32" => DTypeName::F32,
        "bf16" => DTypeName::Bf16,
        _ => DTypeName::Auto,
    };
    let dtype = device::dtype(dtype, &device);
    let (config, weights) = backbone(arguments)?;
    let trained = Adaptation::fresh(adapter(arguments), &config).parameters;
    let step = step(arguments, &config, trained, dtype, &device);
    let recompute = match arguments.recompute {
        Kept::None => Recompute::None,
        Kept::Blocks => Recompute::Blocks,
        Kept::Auto => step.recompute_that_fits(available(&device)),
    };
    let memory = step.memory(recompute);
    if let Some(fault) = wasted_rank(&adapter(arguments), &config, "--rank") {
        tracing::warn!("{}", fault.line());
    }
    let first = if recompute == Recompute::None { "`--recompute blocks`, or " } else { "" };
    let smaller = || format!("{first}lower `--batch`, `--seq` or `--rank`, or take a smaller model");
    if let Some(warning) = room(&memory, &device).map_err(|fault| fault.hint(smaller()))? {
        tracing::warn!("{warning}");
    }
    let attention = step.attention();
    let started = Instant::now();
    let mut trainee = build(arguments, config, weights, &device, dtype)?;
    let load_seconds = started.elapsed().as_secs_f64();
    let peak_before = peak_flops(&device, dtype);
    let times = measure(arguments, &mut trainee, recompute)?;
    // What else runs while one of the two is measured makes it too small.
    let peak = peak_before.zip(peak_flops(&device, dtype)).map(|(before, after)| before.max(after));
    let flop_per_token =
        flop_per_token(&trainee.decoder.config, arguments.seq, Recompute::None, false) + 6.0 * trained as f64;
    let bench = Bench { load_seconds, times, peak, flop_per_token, recompute, attention, estimated: memory.peak() };
    let report = bench.report(arguments, &mut trainee.decoder, dtype);
    if report["mfu"].as_f64().is_some_and(|mfu| mfu > 1.0) {
        tracing::warn!("`mfu` is above 1: other work kept the processors busy while their peak was measured");
    }
    if !arguments.json {
        super::tell(&format!(
            "{} tokens/s, {} ms a step, {} MiB at most",
            report["tokens_per_s"], report["step_ms"], report["peak_rss_mib"]
        ));
    }
    print(&format!("{report}\n"))?;
    Ok(Outcome::Done)
}

/// Measures f32 and bf16 in turn, each in a process of its own: the largest resident size is that of a process. Says what
/// one takes of the other.
fn both(arguments: &Arguments) -> Result<Outcome, Fault> {
    let device = open_device(&arguments.device)?;
    let mut reports = Vec::new();
    for dtype in ["f32", "bf16"] {
        let report = own_process(dtype)?;
        print(&format!("{report}\n"))?;
        reports.push(report);
    }
    if !arguments.json {
        let of = |key: &str| reports[1][key].as_f64().zip(reports[0][key].as_f64()).map(|(bf16, f32)| bf16 / f32);
        let parts = [("step_ms", "time of a step"), ("processor_ms", "processor time"), ("peak_rss_mib", "memory")];
        let parts = parts.iter().filter_map(|(key, name)| Some(format!("{:.2} of its {name}", of(key)?)));
        let auto = if device::dtype(DTypeName::Auto, &device) == DType::BF16 { "bf16" } else { "f32" };
        let parts = parts.collect::<Vec<_>>().join(", ");
        super::tell(&format!("bf16 beside f32: {parts}; `auto` takes {auto}"));
    }
    Ok(Outcome::Done)
}

/// What the same command prints with another `--dtype`.
fn own_process(dtype: &str) -> Result<Value, Fault> {
    let failed = |why: String| Fault::new(format!("the measurement in {dtype} gave nothing: {why}"));
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let given = std::env::args_os().skip(1);
    let mut command = std::process::Command::new(program);
    let mut own = false;
    for argument in given {
        let text = argument.to_string_lossy().into_owned();
        match (own, text.as_str()) {
            (true, _) => command.arg(dtype),
            (false, "--dtype=all") => command.arg(format!("--dtype={dtype}")),
            (false, _) => command.arg(&argument),
        };
        own = !own && text == "--dtype";
    }
    let output = command.stderr(std::process::Stdio::inherit()).output().map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| failed(format!("it ended with {}", output.status)))
}

/// Refuses sizes that no step can have.
fn check(arguments: &Arguments) -> Result<(), Fault> {
    let sizes = [
        ("batch", arguments.batch, 1 << 16),
        ("seq", arguments.seq, 1 << 20),
        ("rank", arguments.rank, 1 << 16),
        ("steps", arguments.steps, 1 << 20),
    ];
    match sizes.into_iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
        Some((name, value, most)) => {
            let fault = Fault::new(format!("`--{name}` cannot be {value}")).at(argument(name));
            Err(fault.hint(format!("from 1 to {most}")))
        }
        None => Ok(()),
    }
}

/// What the estimate of memory is made from.
fn step<'a>(arguments: &Arguments, config: &'a Config, trained: u64, dtype: DType, device: &'a Device) -> Step<'a> {
    let sizes = [arguments.batch, arguments.seq];
    Step {
        quantise: arguments.quantize.map(Bits::quantise),
        native_attention: native_attention(config, sizes, dtype, device),
        scoreless: backbone::ops::keeps_no_scores(device, dtype, &config.attention_heads()),
        held: resident(),
        ..Step::plain(config, trained, sizes, dtype, device)
    }
}

/// What was measured.
struct Bench {
    load_seconds: f64,
    times: Times,
    /// Operations in a second that the machine can do, where that is known.
    peak: Option<f64>,
    flop_per_token: f64,
    recompute: Recompute,
    /// Whose attention it was.
    attention: &'static str,
    /// Bytes at most, by the plan.
    estimated: u64,
}

impl Bench {
    /// The object that is printed.
    fn report(&self, arguments: &Arguments, decoder: &mut Decoder, dtype: DType) -> Value {
        let Times { seconds, processor } = &self.times;
        let mut sorted = seconds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (median, known) = (median(&sorted), !processor.is_empty());
        let tokens = (arguments.batch * arguments.seq) as f64;
        let mfu = self.peak.map(|peak| self.flop_per_token * tokens / median / peak);
        let rounded = |value: f64, digits: i32| (value * 10f64.powi(digits)).round() / 10f64.powi(digits);
        let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
        json!({
            "model": arguments.model,
            "shape": arguments.shape.and_then(|shape| shape.to_possible_value()).map(|name| name.get_name().to_owned()),
            "batch": arguments.batch,
            "seq": arguments.seq,
            "rank": arguments.rank,
            "steps": arguments.steps,
            "dtype": if dtype == DType::BF16 { "bf16" } else { "f32" },
            "quantize": arguments.quantize.map(|bits| bits.quantise().name()),
            "recompute": match self.recompute { Recompute::None => "none", Recompute::Blocks => "blocks" },
            "attention": self.attention,
            "load_s": rounded(self.load_seconds, 2),
            "tokens_per_s": rounded(tokens / median, 1),
            "step_ms": rounded(median * 1e3, 1),
            "mean_step_ms": rounded(mean(&sorted) * 1e3, 1),
            "best_step_ms": rounded(sorted[0] * 1e3, 1),
            "processor_ms": known.then(|| rounded(mean(processor) * 1e3, 0)),
            "best_processor_ms": known.then(|| rounded(least(processor) * 1e3, 0)),
            "base_mib": rounded(decoder.matrix_bytes() as f64 / f64::from(1 << 20), 1),
            "peak_rss_mib": peak_rss_mib(),
            "estimated_rss_mib": self.estimated >> 20,
            "peak_device_mib": device_mib(decoder.device()),
            "flop_per_token": self.flop_per_token.round(),
            "mfu": mfu.map(|mfu| rounded(mfu, 3)),
        })
    }
}

/// The shape to measure, and the weights if it has any.
fn backbone(arguments: &Arguments) -> Result<(Config, Option<Weights>), Faults> {
    let (config, weights) = match (&arguments.model, arguments.shape) {
        (Some(path), _) => {
            let files = ModelFiles::locate(path, None).map_err(|fault| fault.or_at(argument("model")))?;
            (files.config()?, Some(files.weights()?))
        }
        (None, shape) => (shape.expect("the command line asks for one of the two").config()?, None),
    };
    if arguments.seq > config.max_position_embeddings {
        let limit = config.max_position_embeddings;
        let hint = format!("lower it to {limit}");
        let fault = Fault::new(format!("`--seq` is more than the model's {limit} positions"));
        return Err(fault.at(argument("seq")).hint(hint).into());
    }
    Ok((config, weights))
}

fn adapter(arguments: &Arguments) -> AdapterSettings {
    AdapterSettings::new(arguments.rank, 2.0 * arguments.rank as f64)
}

fn build(
    arguments: &Arguments,
    config: Config,
    weights: Option<Weights>,
    device: &Device,
    dtype: DType,
) -> Result<Trainee, Faults> {
    let source = Source {
        weights: weights.as_ref(),
        dtype,
        device,
        trained: false,
        quantise: arguments.quantize.map(Bits::quantise),
        seed: 17,
        initializer_range: INITIALIZER_RANGE,
        draws_on_device: true,
        used: Default::default(),
    };
    let mut decoder = Decoder::load(config, &source)?;
    decoder.attach_fresh(&adapter(arguments), 17)?;
    Ok(Trainee { decoder, auxiliaries: Vec::new() })
}

/// The middle of sorted values; of an even number, the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let (before, from) = sorted.split_at(sorted.len() / 2);
    match before.last() {
        Some(before) if sorted.len().is_multiple_of(2) => f64::midpoint(*before, from[0]),
        _ => from[0],
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// How long the steps but the first took.
struct Times {
    /// Of each step, by the clock.
    seconds: Vec<f64>,
    /// Of each step, on all processors; empty where the system does not tell.
    processor: Vec<f64>,
}

fn measure(arguments: &Arguments, trainee: &mut Trainee, recompute: Recompute) -> Result<Times, Fault> {
    let examples = random_rows(arguments, trainee.decoder.config.vocab_size);
    let indices: Vec<usize> = (0..examples.len()).collect();
    let batch = Batch::new(&examples, &indices, 1);
    let schedule = Schedule::new(Kind::Constant, 2e-4, 0, arguments.steps + 1);
    let settings = StepSettings::plain(17, recompute, schedule);
    let mut objective = losses::Nll;
    let mut trainer = Trainer::new(trainee, &mut objective, settings);
    let mut seconds = Vec::with_capacity(arguments.steps);
    let mut processor = Vec::with_capacity(arguments.steps);
    for step in 1..=arguments.steps + 1 {
        let (started, processor_before) = (Instant::now(), processor_seconds());
        let numbers = trainer.step(step, std::slice::from_ref(&batch))?;
        // Waits for the device.
        values(numbers.norm);
        if step > 1 {
            seconds.push(started.elapsed().as_secs_f64());
            processor.extend(processor_seconds().zip(processor_before).map(|(after, before)| after - before));
        }
    }
    Ok(Times { seconds, processor })
}

fn random_rows(arguments: &Arguments, vocabulary: usize) -> Vec<Example> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(17);
    (0..arguments.batch)
        .map(|row| Example {
            ids: (0..arguments.seq).map(|_| random.random_range(0..vocabulary as u32)).collect(),
            parts: vec![Part::Response; arguments.seq],
            learned: (0..arguments.seq).map(|token| token > 0).collect(),
            weight: 1.0,
            number: None,
            alone: None,
            group: row,
            file: "random".into(),
            line: row + 1,
            element: None,
        })
        .collect()
}

/// Seconds that all threads of this process have run on a processor; `None` where the system does not tell.
fn processor_seconds() -> Option<f64> {
    /// Clock ticks a second, which Linux fixes for what it shows to programs.
    const TICKS: f64 = 100.0;
    let text = fs_err::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in brackets that may hold anything; user and system time are the 14th and 15th.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / TICKS)
}

/// The largest resident size of this process so far; null where the system does not tell.
fn peak_rss_mib() -> Option<u64> {
    let text = fs_err::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kibibytes| kibibytes / 1024)
}

/// Memory that the device's pools hold; null on the CPU.
fn device_mib(device: &Device) -> Option<u64> {
    let usage = device::has_own_memory(device).then(|| device.memory_pool_usage()).flatten();
    usage.map(|usage| usage.bytes_reserved >> 20)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[1.0, 4.0]), 2.5);
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 100.0]), 3.0);
    }
}
