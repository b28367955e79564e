//! What may stand beside the weighted nll of any objective, at the same softmax.
//!
//! **Label smoothing** by `eps` ("Rethinking the Inception Architecture for Computer Vision", arXiv 1512.00567, section 7): the
//! target of a token is `(1 - eps) onehot + eps / V` in place of the onehot, V the size of the vocabulary. The gradient of the
//! logits is `weight * (q - (1 - eps) onehot - eps / V)`. Where nothing limits a model it ends at `(1 - eps) p + eps / V`: `eps` of
//! its mass is on tokens that no row has.
//!
//! **Entropy bonus** of `tau` ("Regularizing Neural Networks by Penalizing Confident Output Distributions", arXiv 1701.06548,
//! section 3): the loss less `tau` times the entropy H of the predicted distribution, whatever the objective's weight, times the
//! row's own. The gradient has `tau q_v (ln q_v + H)`.

use faults::Section;

use crate::Objective;

/// The terms of a recipe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// `eps`, 0 or more and below 1.
    pub label_smoothing: f64,
    /// `tau`, 0 or more.
    pub entropy_bonus: f64,
}

const LABEL_SMOOTHING: &str = "label_smoothing";
const ENTROPY_BONUS: &str = "entropy_bonus";

impl Terms {
    /// The weighted nll alone.
    pub const NONE: Self = Self { label_smoothing: 0.0, entropy_bonus: 0.0 };

    /// Their keys in `[objective]`, whatever its kind.
    pub const KEYS: [&str; 2] = [LABEL_SMOOTHING, ENTROPY_BONUS];

    /// Reads `label_smoothing` and `entropy_bonus` of `[objective]`, beside the keys of `objective`.
    pub fn read(section: &mut Section, objective: &dyn Objective) -> Self {
        let terms = Self {
            label_smoothing: section.optional(LABEL_SMOOTHING).unwrap_or(0.0),
            entropy_bonus: section.optional(ENTROPY_BONUS).unwrap_or(0.0),
        };
        let Self { label_smoothing, entropy_bonus } = terms;
        let possible = (0.0..1.0).contains(&label_smoothing);
        let message = format!("`{}` must be 0 or more and below 1", section.full(LABEL_SMOOTHING));
        section.check(LABEL_SMOOTHING, possible, message, "0 is none; 0.1 is the published value");
        let possible = entropy_bonus.is_finite() && entropy_bonus >= 0.0;
        let message = format!("`{}` must be a finite number, 0 or more", section.full(ENTROPY_BONUS));
        let hint = "0 is none; 0.01 to 0.1 is usual";
        section.check(ENTROPY_BONUS, possible, message, hint);
        let message = format!("`{}` = {entropy_bonus:e} is more than the loss itself", section.full(ENTROPY_BONUS));
        section.warn(ENTROPY_BONUS, !possible || entropy_bonus <= 1.0, message, hint);
        if objective.temperature() != 1.0 {
            let message = format!(
                "`{}` is that of the softmax as it is, and `{}` learns by one at another temperature",
                section.full(ENTROPY_BONUS),
                objective.name()
            );
            section.check(ENTROPY_BONUS, entropy_bonus == 0.0, message, "leave it out, or choose another objective");
        }
        if objective.early_stop().is_some() {
            let named = [(LABEL_SMOOTHING, label_smoothing), (ENTROPY_BONUS, entropy_bonus)];
            for (key, _) in named.into_iter().filter(|(_, value)| *value != 0.0) {
                let message =
                    format!("`{}` changes the least possible loss that `early_stop` goes by", section.full(key));
                section.reject(key, message, "leave one of them out");
            }
        }
        terms
    }
}

#[cfg(test)]
mod tests {
    use faults::{Document, Faults};

    use super::*;
    use crate::Registry;

    fn read(keys: &str) -> Result<Terms, Faults> {
        let document = Document::parse("recipe.toml", &format!("[objective]\n{keys}\n"), &[])?;
        let mut root = document.root();
        let mut section = root.section("objective");
        let kind: String = section.value("kind", "nll".into());
        let listed = Registry::default().objectives.into_iter().find(|listed| listed.name == kind).expect("a kind");
        let objective = (listed.build)(&mut section);
        let terms = Terms::read(&mut section, &*objective);
        root.close(section);
        root.end();
        document.finish().map(|()| terms)
    }

    #[test]
    fn impossible_terms_are_refused() {
        assert_eq!(read("").expect("none"), Terms::NONE);
        let found = read("label_smoothing = 0.1\nentropy_bonus = 0.05").expect("possible");
        assert_eq!(found, Terms { label_smoothing: 0.1, entropy_bonus: 0.05 });
        let impossible = [
            "label_smoothing = 1",
            "label_smoothing = -0.1",
            "label_smoothing = nan",
            "entropy_bonus = -1",
            "entropy_bonus = inf",
            "entropy_bonus = 0.1\nkind = \"gem\"",
            "entropy_bonus = 0.1\nkind = \"diffuse\"\nearly_stop = 0.1",
            "label_smoothing = 0.1\nkind = \"diffuse\"\nearly_stop = 0.1",
        ];
        for keys in impossible {
            assert!(read(keys).is_err(), "{keys}");
        }
        assert!(read("entropy_bonus = 0.1\nkind = \"gem\"\nbeta = 1").is_ok());
        assert!(read("label_smoothing = 0.1\nkind = \"gem\"").is_ok());
    }

    /// Where the gradient of one free softmax is zero: label smoothing's optimum is closed, the bonus has none that is, and
    /// less of it than of the data leaves more than the data's entropy.
    #[test]
    fn gradients_vanish_at_the_optima() {
        let p = [0.5, 0.3, 0.15, 0.05];
        let mixed = p.map(|p| 0.9 * p + 0.1 / 4.0);
        let gradient = |q: &[f64; 4], eps: f64, tau: f64| {
            let entropy: f64 = q.iter().map(|q| -q * q.ln()).sum();
            let of = |v: usize| q[v] - (1.0 - eps) * p[v] - eps / 4.0 + tau * q[v] * (q[v].ln() + entropy);
            [0, 1, 2, 3].map(of)
        };
        assert!(gradient(&mixed, 0.1, 0.0).iter().all(|g| g.abs() < 1e-12));
        let mut logits = p.map(f64::ln);
        let softmax = |logits: &[f64; 4]| {
            let sum: f64 = logits.iter().map(|z| z.exp()).sum();
            logits.map(|z| z.exp() / sum)
        };
        for _ in 0..20_000 {
            let pulls = gradient(&softmax(&logits), 0.0, 0.3);
            logits = [0, 1, 2, 3].map(|v| logits[v] - pulls[v]);
        }
        let (q, entropy) = (softmax(&logits), |q: &[f64; 4]| q.iter().map(|q| -q * q.ln()).sum::<f64>());
        // There `p_v = q_v (1 + tau (ln q_v + H))` for all v.
        for v in 0..4 {
            assert!((p[v] - q[v] * (1.0 + 0.3 * (q[v].ln() + entropy(&q)))).abs() < 1e-9);
        }
        assert!(entropy(&q) > entropy(&p));
    }
}
