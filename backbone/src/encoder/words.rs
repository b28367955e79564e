//! A bag of words through a random projection: each word has a direction of its own, and a text is their mean.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Width of the vectors.
pub const DIMENSION: usize = 64;

/// Changes with any change of the vectors.
pub const VERSION: u32 = 1;

/// The vector of a text, of unit length; zeros for a text without a word.
pub fn embed(text: &str) -> Vec<f32> {
    let mut sum = vec![0.0f32; DIMENSION];
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let seed = crate::random::key(0, &["word", &word.to_lowercase()]);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for value in &mut sum {
            let draw: f32 = StandardNormal.sample(&mut random);
            *value += draw;
        }
    }
    let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        sum.iter_mut().for_each(|value| *value /= length);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        embed(a).iter().zip(embed(b)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn texts_are_as_near_as_the_words_they_share() {
        assert!((cosine("The red fox.", "the FOX, red") - 1.0).abs() < 1e-5);
        let (half, none) = (cosine("red fox", "red owl"), cosine("red fox", "blue owl"));
        assert!(half > 0.25 && none.abs() < 0.35 && half > none, "{half} {none}");
        assert_eq!(embed(" -- "), [0.0; DIMENSION]);
    }
}
