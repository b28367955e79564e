//! The ends of a metric's scale: what a model has that is the truth, and the worst there is. A metric says both of itself.

/// What stands beside a number, so that one sees how far there is to go.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// What a model has that is the truth.
    pub perfect: Perfect,
    /// The worst that a model can have, where there is such a number.
    pub worst: Option<f64>,
}

/// What a model has that is the truth.
#[derive(Debug, Clone, Copy)]
pub enum Perfect {
    /// It depends on what is wanted, or on what is not known.
    Unknown,
    /// The same number on all prompts.
    Number(f64),
    /// A number for each setting, such as lambda of a point on the curve.
    OfSetting(fn(f64) -> f64),
    /// The loss of the truth itself, [`crate::divergence::FLOOR`].
    Floor,
    /// What as many samples of the truth itself cover, [`crate::coverage::perfect_coverage`].
    Coverage,
}

impl Bounds {
    /// Neither is known.
    pub const UNKNOWN: Self = Self { perfect: Perfect::Unknown, worst: None };

    /// A share, of which the truth has all.
    pub const SHARE: Self = Self::new(Perfect::Number(1.0), Some(0.0));

    pub(crate) const fn new(perfect: Perfect, worst: Option<f64>) -> Self {
        Self { perfect, worst }
    }
}
