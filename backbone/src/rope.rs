//! The frequencies of the rotary position encoding (Su et al. 2021, arXiv 2104.09864), and how they are stretched for
//! contexts longer than the model was first trained on. The formulas are those of `modeling_rope_utils.py` of
//! transformers.

use std::f64::consts::TAU;

use serde_json::{Map, Value};

use super::fields::Fields;

/// The rotary encoding of a kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// How many values of a head, its first, are turned.
    pub width: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// How they are stretched.
    pub scaling: RopeScaling,
}

/// How the frequencies are stretched for contexts longer than the model was first trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// The plain frequencies.
    None,
    /// Every frequency divided by `factor` (position interpolation).
    Linear {
        /// How many times longer the context becomes.
        factor: f64,
    },
    /// A base that grows with the longest row of a pass, once that is longer than `original` (NTK-aware scaling).
    ///
    /// So what a row gives depends on the rows beside it, in training too: a micro-batch has the base of its longest
    /// row. transformers does the same, and keeps the base of a longer batch for those after it.
    Dynamic {
        /// How many times longer the context may become.
        factor: f64,
        /// Context length of the first training.
        original: f64,
    },
    /// YaRN (Peng et al. 2023, arXiv 2309.00071): low frequencies divided by `factor`, high ones kept, a linear blend of
    /// indices between; the scores grow by the square of `attention_factor`.
    Yarn {
        /// How many times longer the context becomes.
        factor: f64,
        /// Factor of cosines and sines.
        attention_factor: f64,
        /// Frequencies with more turns than this in the first context are kept.
        beta_fast: f64,
        /// Frequencies with fewer turns than this in the first context are divided.
        beta_slow: f64,
        /// Context length of the first training.
        original: f64,
        /// The blend begins and ends at whole indices.
        truncate: bool,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a linear blend between.
    Llama3 {
        /// How many times longer the context becomes.
        factor: f64,
        /// Wavelengths longer than `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths shorter than `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length of the first training.
        original: f64,
    },
    /// LongRoPE (Ding et al. 2024, arXiv 2402.13753): a divisor for each frequency, others once the longest row of a
    /// pass is longer than `original`. What was said of [`RopeScaling::Dynamic`] holds here too.
    LongRope {
        /// Divisors up to the length of the first training, one for each frequency.
        short: Vec<f64>,
        /// Divisors past it.
        long: Vec<f64>,
        /// Factor of cosines and sines.
        attention_factor: f64,
        /// Context length of the first training.
        original: f64,
    },
}

/// Values of settings that the file leaves out.
#[derive(Debug, Clone, Copy)]
pub(super) struct RopeDefaults {
    /// Width of a head.
    pub head_dim: usize,
    /// The base.
    pub theta: f64,
    /// The part of a head that is turned.
    pub partial: f64,
    /// `max_position_embeddings`.
    pub positions: usize,
    /// Context length of the first training, where it stands beside the settings.
    pub original: Option<usize>,
}

impl Rope {
    /// Plain frequencies.
    pub fn plain(width: usize, theta: f64) -> Self {
        Self { width, theta, scaling: RopeScaling::None }
    }

    /// `rope_parameters` (transformers 5), or `rope_theta` and `rope_scaling` (before).
    pub(super) fn read(fields: &mut Fields, defaults: RopeDefaults) -> Self {
        let defaults = RopeDefaults { theta: fields.number("rope_theta", defaults.theta), ..defaults };
        let (scaling, parameters) = (fields.object("rope_scaling"), fields.object("rope_parameters"));
        let old = scaling.map(|scaling| Self::read_from(fields, "rope_scaling.", &scaling, defaults));
        if let (Some(old), None) = (&old, &parameters) {
            return old.clone();
        }
        let rope = Self::read_from(fields, "rope_parameters.", &parameters.unwrap_or_default(), defaults);
        rope.refuse_another(fields, old);
        rope
    }

    /// The encodings of layers without and with a sliding window: `rope_parameters` with an object for each kind (transformers 5),
    /// or `rope_scaling` for the former alone (before).
    pub(super) fn read_of_kinds(fields: &mut Fields, full: RopeDefaults, sliding: RopeDefaults) -> [Self; 2] {
        let parameters = fields.object("rope_parameters").unwrap_or_default();
        let of = |kind: &str| parameters.get(kind).and_then(|value| value.as_object().cloned());
        let flat = parameters.keys().find(|key| !["full_attention", "sliding_attention"].contains(&key.as_str()));
        if let Some(key) = flat {
            fields.reject(format!("`rope_parameters.{key}` does not say which kind of layers it is for"));
        }
        let scaling = fields.object("rope_scaling");
        let old = scaling.map(|scaling| Self::read_from(fields, "rope_scaling.", &scaling, full));
        let of_full = match (old, of("full_attention")) {
            (Some(old), None) => old,
            (old, settings) => {
                let settings = settings.unwrap_or_default();
                let rope = Self::read_from(fields, "rope_parameters.full_attention.", &settings, full);
                rope.refuse_another(fields, old);
                rope
            }
        };
        let settings = of("sliding_attention").unwrap_or_default();
        let of_sliding = Self::read_from(fields, "rope_parameters.sliding_attention.", &settings, sliding);
        if of_full.width != full.head_dim {
            fields.reject("`partial_rotary_factor` is not supported for this architecture".into());
        }
        [of_full, of_sliding]
    }

    /// Files a fault where the older spelling of these settings says something else.
    pub(super) fn refuse_another(&self, fields: &mut Fields, old: Option<Self>) {
        if old.is_some_and(|old| old != *self) {
            fields.reject(
                "`rope_scaling` and `rope_parameters` are two spellings of the same, and they differ: keep one".into(),
            );
        }
    }

    /// The settings in an object that the file has at `path`.
    pub(super) fn read_from(
        fields: &mut Fields,
        path: &'static str,
        parameters: &Map<String, Value>,
        defaults: RopeDefaults,
    ) -> Self {
        let mut inner = Fields::within(path, parameters);
        let theta = inner.number("rope_theta", defaults.theta);
        let width = (defaults.head_dim as f64 * inner.number("partial_rotary_factor", defaults.partial)) as usize;
        let (kind, old_kind) = (inner.word("rope_type"), inner.word("type"));
        let kind = kind.or(old_kind).unwrap_or_else(|| "default".into());
        let scaling = RopeScaling::read(&mut inner, &kind, defaults, width);
        if theta.is_nan() || theta <= 1.0 {
            inner.reject(format!("`rope_theta` must be above 1, found {theta}"));
        }
        if width == 0 || !width.is_multiple_of(2) || width > defaults.head_dim {
            inner.reject(format!(
                "an even number of the {} values of a head can be turned, not {width}",
                defaults.head_dim
            ));
        }
        let rope = Self { width, theta, scaling };
        fields.include(inner, |name, value| rope.is_unchanged_by(name, value, defaults));
        rope
    }

    /// True for a field that these settings do not read and that says what they are without it.
    fn is_unchanged_by(&self, name: &str, value: &Value, defaults: RopeDefaults) -> bool {
        match name {
            // Read wherever it matters.
            "original_max_position_embeddings" => value.is_u64(),
            "max_position_embeddings" => value.as_u64() == Some(defaults.positions as u64),
            "factor" => value.as_f64() == Some(1.0),
            "attention_factor" | "mscale" => value.as_f64() == Some(self.attention_factor()),
            _ => false,
        }
    }

    /// The frequencies of a pass whose longest row has `longest` tokens, `[width / 2]`.
    pub fn frequencies(&self, longest: usize) -> Vec<f32> {
        let width = self.width as f64;
        let plain = |theta: f64, index: usize| theta.powf(-((2 * index) as f64) / width);
        let scaled = |index: usize| {
            let frequency = plain(self.theta, index);
            match &self.scaling {
                RopeScaling::None => frequency,
                RopeScaling::Linear { factor } => frequency / factor,
                RopeScaling::Dynamic { factor, original } => {
                    let stretch = factor * (longest as f64).max(*original) / original - (factor - 1.0);
                    plain(self.theta * stretch.powf(width / (width - 2.0)), index)
                }
                RopeScaling::Yarn { factor, beta_fast, beta_slow, original, truncate, .. } => {
                    let index_of = |turns: f64| width * (original / (turns * TAU)).ln() / (2.0 * self.theta.ln());
                    let (low, high) = (index_of(*beta_fast), index_of(*beta_slow));
                    let (low, high) = if *truncate { (low.floor(), high.ceil()) } else { (low, high) };
                    let (low, high) = (low.max(0.0), high.min(width - 1.0));
                    let span = if low == high { 0.001 } else { high - low };
                    let divided = ((index as f64 - low) / span).clamp(0.0, 1.0);
                    frequency / factor * divided + frequency * (1.0 - divided)
                }
                RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                    let wavelength = TAU / frequency;
                    let turns = original / wavelength;
                    if turns > *high_freq_factor {
                        frequency
                    } else if turns < *low_freq_factor {
                        frequency / factor
                    } else {
                        let blend = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                        (1.0 - blend) * frequency / factor + blend * frequency
                    }
                }
                RopeScaling::LongRope { short, long, original, .. } => {
                    frequency / if longest as f64 > *original { long[index] } else { short[index] }
                }
            }
        };
        // Rounded to f32 before they meet the positions, as the published models were trained.
        (0..self.width / 2).map(|index| scaled(index) as f32).collect()
    }

    /// Factor of cosines and sines.
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            _ => 1.0,
        }
    }
}

impl RopeScaling {
    fn read(fields: &mut Fields, kind: &str, defaults: RopeDefaults, width: usize) -> Self {
        let positions = defaults.positions as f64;
        let scaling = match kind {
            "default" => Self::None,
            "linear" => Self::Linear { factor: fields.required_number("factor") },
            "dynamic" => Self::Dynamic { factor: fields.required_number("factor"), original: positions },
            "llama3" => Self::Llama3 {
                factor: fields.required_number("factor"),
                low_freq_factor: fields.number("low_freq_factor", 1.0),
                high_freq_factor: fields.number("high_freq_factor", 4.0),
                original: original(fields, defaults),
            },
            "yarn" => {
                let original = original(fields, defaults);
                // transformers asks for it, and takes the ratio of the lengths where it is null.
                let factor = fields.present_number("factor").unwrap_or(positions / original);
                let growth = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
                let given = fields.optional_number("attention_factor");
                // Zero is as good as absent there.
                let mut weight = |name: &str| fields.optional_number(name).filter(|weight| *weight != 0.0);
                let weights = weight("mscale").zip(weight("mscale_all_dim"));
                let usual = weights.map_or(growth(1.0), |(part, all)| growth(part) / growth(all));
                Self::Yarn {
                    factor,
                    attention_factor: given.unwrap_or(usual),
                    beta_fast: weight("beta_fast").unwrap_or(32.0),
                    beta_slow: weight("beta_slow").unwrap_or(1.0),
                    original,
                    truncate: fields.flag("truncate", true),
                }
            }
            "longrope" | "su" => {
                let original = original(fields, defaults);
                let factor = fields.optional_number("factor").unwrap_or(positions / original);
                let usual = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
                let mut divisors = |name: &str| {
                    let divisors = fields.numbers(name).unwrap_or_default();
                    if divisors.len() != width / 2 || divisors.iter().any(|divisor| *divisor <= 0.0) {
                        fields.reject(format!("`{name}` must hold {} numbers above 0", width / 2));
                    }
                    divisors
                };
                let (short, long) = (divisors("short_factor"), divisors("long_factor"));
                let attention_factor = fields.number("attention_factor", usual);
                Self::LongRope { short, long, attention_factor, original }
            }
            other => {
                let known = "default, linear, dynamic, yarn, llama3, longrope";
                fields.reject(format!("the rotary scaling `{other}` is not supported; known: {known}"));
                Self::None
            }
        };
        if let Some(problem) = scaling.problem(width) {
            fields.reject(problem.into());
        }
        scaling
    }

    /// The settings for which the formulas give no finite frequencies.
    fn problem(&self, width: usize) -> Option<&'static str> {
        let above_one = |factor: &f64| *factor >= 1.0;
        let fine = match self {
            Self::None => true,
            Self::Linear { factor } => above_one(factor),
            Self::Dynamic { factor, .. } => above_one(factor) && width > 2,
            Self::Yarn { factor, attention_factor, beta_fast, beta_slow, original, .. } => {
                above_one(factor)
                    && *attention_factor > 0.0
                    && *beta_slow > 0.0
                    && beta_fast >= beta_slow
                    && *original > 0.0
            }
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                above_one(factor) && *low_freq_factor > 0.0 && high_freq_factor > low_freq_factor && *original > 0.0
            }
            Self::LongRope { attention_factor, original, .. } => *attention_factor > 0.0 && *original > 1.0,
        };
        (!fine).then_some("the rotary settings need a `factor` of at least 1, and lengths and bounds in their order")
    }
}

/// The context length of the first training: beside the settings, in them, or that of now.
fn original(fields: &mut Fields, defaults: RopeDefaults) -> f64 {
    let inside = fields.optional_size("original_max_position_embeddings");
    defaults.original.or(inside).unwrap_or(defaults.positions) as f64
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::*;

    /// The inverse frequencies and factors of `ROPE_INIT_FUNCTIONS` of transformers 5.23, in `tests/fixtures/rope.json`.
    #[test]
    fn every_scaling_has_the_frequencies_of_transformers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/rope.json");
        let cases: Vec<Value> =
            serde_json::from_str(&std::fs::read_to_string(path).expect("the numbers")).expect("JSON");
        let lengths = |case: &Value| -> Vec<usize> {
            let lengths = case["lengths"].as_array().expect("lengths");
            lengths.iter().map(|length| length.as_u64().expect("a length") as usize).collect()
        };
        assert_eq!(cases.iter().map(|case| lengths(case).len()).sum::<usize>(), 27);
        for (case, length) in cases.iter().flat_map(|case| lengths(case).into_iter().map(move |length| (case, length)))
        {
            let config = serde_json::json!({
                "model_type": "llama", "vocab_size": 48, "hidden_size": 16, "intermediate_size": 24,
                "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": case["head_dim"],
                "max_position_embeddings": case["positions"], "rope_parameters": case["rope_parameters"],
            });
            let Config { rope, .. } = Config::parse(&config.to_string(), "c").expect("settings that are known");
            let found = rope.frequencies(length);
            let expected = case["frequencies"].as_array().expect("frequencies");
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                let expected = expected.as_f64().expect("a frequency");
                // The blends of transformers are computed in f32.
                assert!(
                    (f64::from(*found) / expected - 1.0).abs() < 1e-5,
                    "{found} is not {expected}: {length} in {case}"
                );
            }
            let factor = case["factor"].as_f64().expect("a factor");
            assert!((rope.attention_factor() - factor).abs() < 1e-9, "{} is not {factor}", rope.attention_factor());
        }
    }
}
