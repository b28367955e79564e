//! Numbers that say how diverse and how right a language model is.
//!
//! Plain slices go in and numbers come out; nothing here knows a model, a tensor or a file. Four kinds:
//!
//! * *Exact* metrics of a model `q` on prompts whose answers and their true probabilities `p` are known
//!   ([`Exact`]: the curve of precision and recall, divergences, expected coverage). They have no noise.
//! * Metrics of *samples* ([`Samples`]: texts, the classes and vectors that a judge gives them, verdicts). They are
//!   estimates and need an interval ([`interval`]).
//! * Held-out *likelihood* of rows ([`Likelihood`]: sums over the tokens that rows learn).
//! * Metrics of samples *against references* ([`Compared`]: both as embeddings). They depend on the number of texts, the
//!   encoder and the protocol, and are not 1 for a perfect model.
//!
//! Each metric stands in a file of its own with its formula and its source, and is listed once in [`Registry::default`]
//! with its name, its definition and which way is better: what is listed is computed, printed and explained.
//! Entropies are in nats.

pub mod bleu;
pub mod bounds;
pub mod classes;
pub mod compared;
pub mod compression;
pub mod counts;
pub mod coverage;
pub mod curve;
pub mod distance;
pub mod distinct;
pub mod divergence;
pub mod eigen;
pub mod exact;
pub mod frontier;
pub mod headline;
pub mod histogram;
pub mod interval;
pub mod kmeans;
pub mod likelihood;
pub mod manifold;
pub mod mauve;
pub mod ngrams;
pub mod novelty;
pub mod pass_at_k;
pub mod pca;
pub mod points;
mod registry;
pub mod relaxed_semantic_entropy;
pub mod richness;
pub mod samples;
pub mod self_repetition;
pub mod semantic_entropy;
pub mod temperature;
#[cfg(test)]
mod testing;
pub mod validity;
pub mod vendi;
pub mod words;

pub use bounds::{Bounds, Perfect};
pub use compared::{Compared, Protocol};
pub use exact::{Exact, Outcome};
pub use headline::{Headline, Kind, Shown};
pub use likelihood::Likelihood;
pub use points::Points;
pub use registry::{Better, ComparedMetric, ExactMetric, LikelihoodMetric, Measured, Registry, SampleMetric};
pub use samples::Samples;
