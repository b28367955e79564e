//! Held-out likelihood: what a model gives to the tokens that rows learn.
//!
//! A mean over tokens is a number of one tokenizer: another one cuts the same text into other tokens. The sum over the tokens
//! is the likelihood of the text, and by the bytes of that text it is a number of any model:
//!
//! ```text
//! bits per byte = sum of -log2 q over the tokens / bytes of the text in UTF-8
//! ```

use crate::headline::Headline;
use crate::registry::{Better, LikelihoodMetric};

/// Sums over the learned tokens of some rows under one way of sampling.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Likelihood {
    /// Learned tokens.
    pub tokens: usize,
    /// Bytes of the text that they stand for; a special token, such as the end of a text, stands for none.
    pub bytes: usize,
    /// Negative log-likelihood in nats.
    pub nll: f64,
    /// Entropy in nats before each of these tokens.
    pub entropy: f64,
}

impl Likelihood {
    /// Adds those of other rows.
    pub fn add(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.bytes += other.bytes;
        self.nll += other.nll;
        self.entropy += other.entropy;
    }

    fn nll_of_a_token(&self) -> f64 {
        self.nll / self.tokens as f64
    }
}

/// The mean over tokens.
pub const NLL: LikelihoodMetric = LikelihoodMetric {
    name: "nll",
    definition: "mean negative log-likelihood of the rows' learned tokens, in nats",
    better: Better::Lower,
    headline: Some(Headline::new("nll")),
    is_of_tokens: true,
    measure: Likelihood::nll_of_a_token,
};

/// The mean nll as a number of equally likely tokens.
pub const PERPLEXITY: LikelihoodMetric = LikelihoodMetric {
    name: "perplexity",
    definition: "exp(nll): so many equally likely tokens",
    better: Better::Lower,
    headline: None,
    is_of_tokens: true,
    measure: |found| found.nll_of_a_token().exp(),
};

/// The likelihood of the text, whatever its tokens are.
pub const BITS_PER_BYTE: LikelihoodMetric = LikelihoodMetric {
    name: "bits_per_byte",
    definition: "-log2 likelihood of the learned text by its bytes: models of different tokenizers compare by it",
    better: Better::Lower,
    headline: Some(Headline::new("bits per byte")),
    is_of_tokens: false,
    measure: |found| found.nll / std::f64::consts::LN_2 / found.bytes as f64,
};

/// How undecided the model is.
pub const ENTROPY: LikelihoodMetric = LikelihoodMetric {
    name: "entropy",
    definition: "mean entropy of the next token where the rows are learned, in nats",
    better: Better::Neither,
    headline: None,
    is_of_tokens: true,
    measure: |found| found.entropy / found.tokens as f64,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    /// A model that finds each of V tokens as likely: a token costs log2 V bits, whoever cuts the text.
    #[test]
    fn a_uniform_model_has_known_numbers() {
        // Twelve bytes as 3 tokens of 4096 or as 12 of 16: the same likelihood.
        let of = |tokens: usize, vocabulary: f64| Likelihood {
            tokens,
            bytes: 12,
            nll: tokens as f64 * vocabulary.ln(),
            entropy: tokens as f64 * vocabulary.ln(),
        };
        let (long, short) = (of(3, 4096.0), of(12, 16.0));
        for found in [long, Likelihood { nll: 12.0 * 8f64.ln(), ..short }] {
            assert_near((BITS_PER_BYTE.measure)(&found), 3.0);
        }
        assert_near((BITS_PER_BYTE.measure)(&short), 4.0);
        assert_near((PERPLEXITY.measure)(&long), 4096.0);
        assert_near((NLL.measure)(&short), 16f64.ln());
        assert_near((ENTROPY.measure)(&short), 16f64.ln());
        // 36 bits and 48 bits of 24 bytes.
        let mut both = long;
        both.add(short);
        assert_near((BITS_PER_BYTE.measure)(&both), 3.5);
        assert_eq!((both.tokens, both.bytes), (15, 24));
    }
}
