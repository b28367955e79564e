//! The plan as a person and as a program read it.

use std::fmt;

use backbone::Quantise;
use backbone::device::DTypeName;
use burn::tensor::DType;
use faults::counted;
use serde_json::{Value, json};

use super::{Adapted, Plan};
use crate::engine::backward::Recompute;
use crate::engine::data::Prompt;
use crate::engine::schedule::Kind;
use crate::recipe::Backbone;

/// Columns of the names before the plan's lines, blank where a line goes on.
pub const INDENT: usize = 13;

/// Prompts whose floor is printed one by one.
const PROMPTS_NAMED: usize = 10;

impl Plan {
    /// Every derived number, for `trainer check --json`.
    pub fn to_json(&self) -> Value {
        let estimate = &self.estimate;
        json!({
            "recipe": self.recipe.resolved,
            "model": {
                "path": self.model_path(),
                "architecture": self.config.model_type,
                "layers": self.config.num_hidden_layers,
                "hidden_size": self.config.hidden_size,
                "vocabulary": self.config.vocab_size,
                "parameters": estimate.parameters,
                "dtype": self.dtype_name(),
                "device": self.device_name(),
                "quantize": self.recipe.model.quantise.map(Quantise::name),
            },
            "adapter": self.adapted().map(|adapted| json!({
                "kind": adapted.kind,
                "ranks": adapted.ranks,
                "scales": adapted.scales,
                "dropout": adapted.dropout,
                "matrices": adapted.matrices,
                "names": adapted.names,
                "start": adapted.start,
            })),
            "trained_parameters": estimate.trained,
            "auxiliary_parameters": estimate.auxiliary,
            "frozen_parameters": self.frozen(),
            "data": {
                "train": self.train.report.to_json(),
                "eval": self.eval.as_ref().map(|eval| eval.report.to_json()),
            },
            "prompts": self.prompts().iter().map(|prompt| self.prompt_json(prompt)).collect::<Vec<_>>(),
            "steps": self.steps,
            "steps_per_epoch": self.steps_per_epoch,
            "warmup_steps": self.schedule.warmup,
            "recompute": self.recompute_name(),
            "flop_per_token": estimate.flop_per_token,
            "memory": {
                "weights": estimate.memory.weights,
                "optimizer": estimate.memory.optimizer,
                "activations": estimate.memory.activations,
                "program": estimate.memory.program,
                "loading": estimate.memory.loading,
                "peak": estimate.memory.peak(),
                "available": estimate.available_bytes,
            },
            "seconds": estimate.seconds,
            "fitting_seconds": estimate.fitting_seconds,
        })
    }

    fn prompt_json(&self, prompt: &Prompt) -> Value {
        let first = &self.train.examples[prompt.targets.start];
        json!({"file": &*first.file, "line": first.line, "targets": prompt.targets.len(), "floor": prompt.floor})
    }

    /// Each prompt's floor, the least that its loss can be; the first ten by name.
    fn floor_lines(&self) -> Vec<String> {
        let prompts = self.prompts();
        let line = |prompt: &Prompt| {
            let first = &self.train.examples[prompt.targets.start];
            let targets = counted(prompt.targets.len() as u64, "target");
            format!("{:.4} nats for {targets}, {}", prompt.floor, first.place())
        };
        let mut lines: Vec<String> = prompts.iter().take(PROMPTS_NAMED).map(line).collect();
        if prompts.len() > PROMPTS_NAMED {
            let mean = prompts.iter().map(|prompt| prompt.floor).sum::<f64>() / prompts.len() as f64;
            lines.push(format!("and {} more; the mean of all is {mean:.4} nats", prompts.len() - PROMPTS_NAMED));
        }
        lines
    }

    /// The model as the recipe names it; `None` where it is built from scratch.
    fn model_path(&self) -> Option<&str> {
        match &self.recipe.model.backbone {
            Backbone::Pretrained { path, .. } => Some(path),
            Backbone::Init(_) => None,
        }
    }

    fn frozen(&self) -> u64 {
        if self.trains_backbone() { 0 } else { self.estimate.parameters }
    }

    fn trains_backbone(&self) -> bool {
        self.adaptation.is_full()
    }

    /// The phase before the first step that takes most memory.
    fn before_steps(&self) -> &'static str {
        if self.fitting_rows().is_empty() { "the model is loaded" } else { "codes are fitted" }
    }

    fn recompute_name(&self) -> &'static str {
        match self.recompute() {
            Recompute::None => "none",
            Recompute::Blocks => "blocks",
        }
    }

    /// The objective with its settings: `cdiv alpha 1.4`.
    fn objective_line(&self) -> String {
        let settings = self.recipe.resolved.get("objective").and_then(toml::Value::as_table);
        let keys = settings.into_iter().flatten().filter(|(key, _)| *key != "kind");
        let keys: String = keys.map(|(key, value)| format!(" {key} {value}")).collect();
        format!("{}{keys}", self.recipe.objective.name())
    }

    /// `f32` or `bf16`.
    pub fn dtype_name(&self) -> &'static str {
        if self.dtype == DType::BF16 { "bf16" } else { "f32" }
    }

    /// Why this type, where `dtype = "auto"` chose it.
    fn why_type(&self) -> &'static str {
        match (self.recipe.model.dtype, self.dtype) {
            _ if self.recipe.model.quantise.is_some() => "",
            (DTypeName::Auto, DType::BF16) => ", which is fastest here",
            (DTypeName::Auto, _) => ", which rounds nothing; bf16 takes half the memory",
            _ => "",
        }
    }

    /// `cpu` or `cuda`.
    pub fn device_name(&self) -> &'static str {
        backbone::device::name(&self.device)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let estimate = &self.estimate;
        let mut line = |name: &str, text: String| writeln!(f, "{name:<width$}{text}", width = INDENT);
        line("model", self.model_line())?;
        let type_line =
            format!("{} in {}{}{}", self.device_name(), self.dtype_name(), self.quantised(), self.why_type());
        line("runs on", type_line)?;
        if let Some(adapted) = self.adapted() {
            line("adapter", adapter_line(&adapted))?;
        }
        line("trained", self.trained_line())?;
        if estimate.auxiliary > 0 {
            line("beside", format!("{} of auxiliary losses, thrown away at export", count(estimate.auxiliary)))?;
        }
        line("objective", self.objective_line())?;
        let floors = self.floor_lines();
        for (index, floor) in floors.iter().enumerate() {
            line(if index == 0 { "floor" } else { "" }, floor.clone())?;
        }
        line("steps", self.steps_line(!floors.is_empty()))?;
        if let Some(alpha) = self.recipe.train.neftune_alpha {
            line("noise", format!("on the embeddings of each row in training, NEFTune with alpha {alpha}"))?;
        }
        line("rate", self.rate_line())?;
        line("memory", self.memory_line())?;
        line("time", self.time_line())?;
        if let Some(observation) = &self.observation {
            line("measured", format!("at each evaluation {}", observation.words()))?;
        }
        line("output", self.recipe.output.dir.display().to_string())
    }
}

/// The lines.
impl Plan {
    fn model_line(&self) -> String {
        let config = &self.config;
        format!(
            "{}: {}, {}, width {}, vocabulary {}, {} parameters",
            self.model_path().unwrap_or("from scratch"),
            config.model_type,
            counted(config.num_hidden_layers as u64, "layer"),
            config.hidden_size,
            config.vocab_size,
            count(self.estimate.parameters)
        )
    }

    /// How the frozen matrices are quantised, as a part of a sentence.
    fn quantised(&self) -> String {
        let Some(quantise) = self.recipe.model.quantise else { return String::new() };
        let except = if quantise.embeddings { "" } else { " but for embedding and head" };
        let fitted = match self.fitting_rows().len() {
            0 => String::new(),
            rows => format!(", fitted to {}", counted(rows as u64, "row")),
        };
        format!(", the frozen matrices in {}{except}{fitted}", quantise.name())
    }

    fn trained_line(&self) -> String {
        let (parameters, trained) = (self.estimate.parameters, self.estimate.trained);
        if self.trains_backbone() {
            return format!("every weight: {}", count(trained));
        }
        let percent = 100.0 * trained as f64 / (parameters + trained) as f64;
        format!("{} ({percent:.2} %), frozen {}", count(trained), count(parameters))
    }

    fn steps_line(&self, has_targets: bool) -> String {
        let (train, all) = (&self.recipe.train, self.steps);
        let (unit, part) = if has_targets { ("prompt", "target") } else { ("row", "row") };
        format!(
            "{all} ({} a pass, {:.2} passes), {} a step, {} at once",
            self.steps_per_epoch,
            all as f64 / self.steps_per_epoch as f64,
            counted(train.batch_size as u64, unit),
            counted(train.micro_batch_size as u64, part)
        )
    }

    fn rate_line(&self) -> String {
        let schedule = &self.schedule;
        let warmup = counted(schedule.warmup as u64, "step");
        let mut line = format!("{:e} {:?}", schedule.learning_rate, schedule.kind).to_lowercase();
        if schedule.min_rate > 0.0 {
            line += &format!(" to {:e}", schedule.min_rate * schedule.learning_rate);
        }
        if schedule.cycles > 1 {
            line += &format!(", {} times", schedule.cycles);
        }
        line += &format!(", {warmup} of warm-up");
        if schedule.kind == Kind::Wsd {
            line += &format!(", {} of decay", counted(schedule.decay as u64, "step"));
        }
        line
    }

    fn memory_line(&self) -> String {
        let place = if backbone::device::has_own_memory(&self.device) { "on the GPU" } else { "can be had" };
        let memory = &self.estimate.memory;
        let parts = [memory.weights, memory.optimizer, memory.activations, memory.program];
        let (all, [weights, optimizer, activations, program]) = sum_of_bytes(parts);
        let before = match memory.loading > memory.of_step() {
            true => format!("; {} while {}", bytes(memory.loading), self.before_steps()),
            false => String::new(),
        };
        let available = self.estimate.available_bytes.map(|free| format!("; {} {place}", bytes(free)));
        format!(
            "about {all}: weights {weights}, optimizer {optimizer}, activations {activations} (recompute {}), the program \
             {program}{before}{}",
            self.recompute_name(),
            available.unwrap_or_default()
        )
    }

    fn time_line(&self) -> String {
        let estimate = &self.estimate;
        let fitting = match estimate.fitting_seconds {
            0.0 => String::new(),
            seconds => format!("; before that, about {} to fit the codes", duration(seconds)),
        };
        // Evaluations depend on how many samples they draw and how long these become.
        let evaluations = if self.observation.is_some() { "; what is measured of prompts comes on top" } else { "" };
        format!(
            "about {} for {} tokens, {}FLOP a token, at the speed measured just now{fitting}{evaluations}",
            duration(estimate.seconds),
            count(estimate.tokens),
            count(estimate.flop_per_token as u64)
        )
    }
}

/// `lora of rank 16, scale 2, on 28 matrices: k_proj, q_proj`.
fn adapter_line(adapted: &Adapted) -> String {
    fn range<T: fmt::Display>(values: &[T]) -> String {
        match values {
            [] => "none".into(),
            [one] => one.to_string(),
            [first, .., last] => format!("{first} to {last}"),
        }
    }
    let scales: Vec<String> = adapted.scales.iter().map(|scale| format!("{}", (scale * 1e4).round() / 1e4)).collect();
    let dropout = match adapted.dropout {
        0.0 => String::new(),
        part => format!(", dropout {part}"),
    };
    let start = adapted.start.as_ref().map(|start| format!(", starts from {start}")).unwrap_or_default();
    let (kind, ranks) = (adapted.kind, range(&adapted.ranks));
    let matrices = counted(adapted.matrices as u64, "matrix");
    format!(
        "{kind} of rank {ranks}, scale {}{dropout}{start}, on {matrices}: {}",
        range(&scales),
        adapted.names.join(", ")
    )
}

/// A large number with its unit: `134.5 M`.
pub fn count(value: u64) -> String {
    match value {
        0..1_000 => value.to_string(),
        1_000..1_000_000 => format!("{:.1} k", value as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", value as f64 / 1e6),
        _ => format!("{:.2} G", value as f64 / 1e9),
    }
}

/// Bytes in binary units.
pub fn bytes(value: u64) -> String {
    match value {
        0..1_048_576 => format!("{:.0} KiB", value as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.0} MiB", value as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", value as f64 / 1_073_741_824.0),
    }
}

/// Parts and their sum in one unit, the sum that of the parts as they are shown.
fn sum_of_bytes<const N: usize>(parts: [u64; N]) -> (String, [String; N]) {
    let (unit, decimals, name) = match parts.iter().sum::<u64>() {
        0..1_073_741_824 => (1_048_576.0, 1, "MiB"),
        _ => (1_073_741_824.0, 2, "GiB"),
    };
    let fine = 10f64.powi(decimals);
    let rounded = parts.map(|part| (part as f64 / unit * fine).round());
    let show = |value: f64| format!("{:.*} {name}", decimals as usize, value / fine);
    (show(rounded.iter().sum()), rounded.map(show))
}

/// A time as a person says it.
pub fn duration(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        90.0..5400.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::sum_of_bytes;

    #[test]
    fn parts_of_memory_add_up_to_what_is_shown_as_their_sum() {
        let number = |text: &str| text.split(' ').next().and_then(|word| word.parse::<f64>().ok()).expect("a number");
        for parts in [
            [3_543_600, 933_888, 11_534_336, 80 << 20],
            [52_428, 52_429, 52_430, 157_286],
            [5 << 30, 7 << 27, 11, 80 << 20],
        ] {
            let (sum, parts) = sum_of_bytes(parts);
            assert!(
                parts.iter().all(|part| part.split(' ').next_back() == sum.split(' ').next_back()),
                "{sum}: {parts:?}"
            );
            assert!(
                (number(&sum) - parts.iter().map(|part| number(part)).sum::<f64>()).abs() < 1e-9,
                "{sum}: {parts:?}"
            );
        }
        assert_eq!(sum_of_bytes([1 << 20, 80 << 20]).0, "81.0 MiB");
        assert_eq!(sum_of_bytes([1 << 30, 512 << 20]).0, "1.50 GiB");
    }
}
