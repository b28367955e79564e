//! The flags of which tokens are drawn from, which `trainer sample` and `trainer chat` have alike.

use clap::Args;
use metrics::temperature::Sampler;

/// Which tokens a continuation is drawn from.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Cutting {
    /// Draw from the smallest set of tokens that holds this much probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Draw from this many most likely tokens; 0 is all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Draw from tokens of at least this part of the largest probability; 0 is all.
    #[arg(long, default_value_t = 0.0)]
    min_p: f64,
    /// Draw from the smallest set of tokens of a usual surprise that holds this much probability (locally typical sampling).
    #[arg(long, default_value_t = 1.0)]
    typical_p: f64,
    /// Above 1, makes tokens that stand in the prompt or the text so far less likely; below 1, likelier.
    #[arg(long, default_value_t = 1.0, value_name = "FACTOR")]
    pub repetition_penalty: f64,
}

impl Cutting {
    /// What is drawn from at this temperature.
    pub fn sampler(&self, temperature: f64) -> Sampler {
        let Self { top_p, top_k, min_p, typical_p, repetition_penalty: _ } = *self;
        Sampler { temperature, top_p, top_k, min_p, typical_p }
    }

    /// Tells of each flag whether it holds, what it must be, and a hint.
    pub fn check(&self, check: &mut impl FnMut(&str, bool, &str, &str)) {
        for (flag, part) in [("top-p", self.top_p), ("typical-p", self.typical_p)] {
            check(flag, part > 0.0 && part <= 1.0, "be above 0 and at most 1", "1 draws from all");
        }
        check("min-p", (0.0..=1.0).contains(&self.min_p), "be from 0 to 1", "0 draws from all");
        let penalty = self.repetition_penalty;
        let usual = "1 changes nothing; 1.1 to 1.3 is usual";
        check("repetition-penalty", penalty.is_finite() && penalty > 0.0, "be above 0", usual);
    }
}
