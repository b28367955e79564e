//! The keys of `sfr` and what they may be.

use faults::Section;

use super::schedule::{Decay, Phases};
use super::targets::TargetRule;

/// The target of the head's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The velocity from noise to target.
    Velocity,
    /// The target, by `1 - cos`.
    Cosine,
    /// The target, by the mean square.
    Mse,
}

/// Whose texts to come a position learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Targets {
    /// Embeddings of its own row.
    Own,
    /// Those of another training row, drawn anew at every step: the control that tells meaning from noise.
    OtherRows,
}

/// The keys of an `sfr`, but for encoder and prefix.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub rule: TargetRule,
    pub targets: Targets,
    pub flow: Flow,
    pub width: usize,
    pub layers: usize,
    /// `steps` is filled in when the run is known.
    pub phases: Phases,
    pub gate: bool,
    pub damping: f64,
    pub control: bool,
}

/// The encoder, its prefix, and which texts are embedded.
pub fn read_targets(section: &mut Section) -> (String, String, TargetRule) {
    let hint = "a folder or hub name of a BERT-class sentence encoder, or \"builtin:words\"";
    let encoder: String = section.required("encoder", hint);
    let prefix = section.value("prefix", String::new());
    let window = section.value("k", 256usize);
    let whole = TargetRule { window, stride: 1, min_suffix: 1, mask_short: true };
    if window == 0 {
        for key in ["stride", "min_suffix", "mask_short"] {
            let message = format!("`{}` means nothing while `k` is 0", section.full(key));
            section.check(key, !section.has(key), message, "every position has the whole response: remove it");
            section.skip(key);
        }
        return (encoder, prefix, whole);
    }
    let stride = section.value("stride", 32usize);
    let message = format!("`{}` must be at least 1", section.full("stride"));
    section.check("stride", stride > 0, message, "1 embeds every position");
    let min_suffix = section.value("min_suffix", 16usize.min(window));
    let message = format!("`{}` must be from 1 to `k` = {window}", section.full("min_suffix"));
    section.check("min_suffix", (1..=window).contains(&min_suffix), message, "no text has more than `k` tokens");
    let mask_short = section.value("mask_short", true);
    (encoder, prefix, TargetRule { stride: stride.max(1), min_suffix, mask_short, ..whole })
}

/// All other keys.
pub fn read_settings(section: &mut Section, rule: TargetRule) -> Settings {
    let lambda = section.value("weight", 1.0);
    section.check(
        "weight",
        f64::is_finite(lambda) && lambda >= 0.0,
        format!("`{}` must be a finite number, 0 or more", section.full("weight")),
        "1 is the usual value; 0 trains nothing by it and shows the loss",
    );
    let flows = [("flow", Flow::Velocity), ("cosine", Flow::Cosine), ("mse", Flow::Mse)];
    let flow = section.choice("flow", &flows, "flow");
    let targets = [("own", Targets::Own), ("other_rows", Targets::OtherRows)];
    let targets = section.choice("targets", &targets, "own");
    let width = section.value("head_width", 1024usize);
    let message = format!("`{}` must be from 1 to 65536", section.full("head_width"));
    section.check("head_width", (1..=65536).contains(&width), message, "1024 is the usual value");
    let layers = section.value("head_layers", 3usize);
    let message = format!("`{}` must be from 2 to 64", section.full("head_layers"));
    section.check("head_layers", (2..=64).contains(&layers), message, "3 is the usual value");
    let decays = [("constant", Decay::Constant), ("linear", Decay::Linear), ("cosine", Decay::Cosine)];
    let phases = Phases {
        lambda,
        head_warmup: section.value("head_warmup", 0usize),
        lambda_warmup: section.value("lambda_warmup", 0usize),
        decay: section.choice("lambda_schedule", &decays, "constant"),
        steps: 0,
    };
    let gate = section.value("gradient_gate", false);
    let damping = section.value("head_ema", 0.0);
    let message = format!("`{}` must be 0 or more and below 1", section.full("head_ema"));
    section.check("head_ema", (0.0..1.0).contains(&damping), message, "0 is off; the paper has 0.999");
    let control = section.value("control", false);
    Settings { rule, targets, flow, width, layers: layers.max(2), phases, gate, damping, control }
}
