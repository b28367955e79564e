//! The Vendi score: how many really different samples there are, `exp(H_q)` of the eigenvalues `l` of `K / n` (Friedman and
//! Dieng 2023, arXiv 2210.02410; orders: Pasarkar and Dieng 2023, arXiv 2310.12952).
//!
//! ```text
//! H_1 = -sum l ln l        H_q = ln(sum l^q) / (1 - q)        H_inf = -ln max l
//! ```
//!
//! `K` is the matrix of cosines of the embeddings. At most `n`, and at most their dimension. (`score_X` of the package
//! vendi-score leaves the order out.)

use crate::bounds::Bounds;
use crate::eigen::Eigen;
use crate::headline::Headline;
use crate::points::{Points, dot};
use crate::registry::{Better, Measured, SampleMetric};

/// The orders that [`VENDI`] tells of: below 1 rare samples count more, above 1 common ones.
const ORDERS: [(&str, f64); 4] = [("0.5", 0.5), ("1", 1.0), ("2", 2.0), ("inf", f64::INFINITY)];

/// The Vendi score of embeddings.
pub const VENDI: SampleMetric = SampleMetric {
    name: "vendi",
    definition: "effective number of different samples by their embeddings' cosines, of orders 0.5, 1, 2 and inf; texts without words do not count",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: Some(Headline::new("Vendi score").at("1")),
    measure: |samples| {
        let vectors = samples.vectors?;
        let directed = vectors.directed();
        if directed.is_empty() {
            return None;
        }
        let spectrum = spectrum_of_vectors(Points::new(&directed, vectors.dimension()));
        Some(Measured::series(ORDERS.map(|(name, order)| (name, vendi(&spectrum, order)))))
    },
};

/// The score of the eigenvalues of `K / n`.
pub fn vendi(spectrum: &[f64], order: f64) -> f64 {
    let values = spectrum.iter().copied().filter(|value| *value > 0.0);
    if order == f64::INFINITY {
        return 1.0 / values.fold(0.0, f64::max);
    }
    if order == 1.0 {
        return values.map(|value| -value * value.ln()).sum::<f64>().exp();
    }
    (values.map(|value| value.powf(order)).sum::<f64>().ln() / (1.0 - order)).exp()
}

/// The eigenvalues of `K / n` for a similarity matrix of `n` rows whose diagonal is 1; what rounding leaves below 0 is 0.
pub fn spectrum(similarity: &[f64], n: usize) -> Vec<f64> {
    let scaled: Vec<f64> = similarity.iter().map(|value| value / n as f64).collect();
    // Rounding leaves eigenvalues that are 0 somewhat off it, and a low order makes much of them.
    let clamp = |value: f64| if value < 1e-12 { 0.0 } else { value };
    Eigen::new(&scaled, n).values.into_iter().map(clamp).collect()
}

/// The same for the cosines of vectors of length 1, from the smaller of `X X^T` and `X^T X`, whose eigenvalues are the same.
pub fn spectrum_of_vectors(vectors: Points<'_>) -> Vec<f64> {
    let (n, dimension) = (vectors.len(), vectors.dimension());
    if n <= dimension {
        let similarity: Vec<f64> = vectors.rows().flat_map(|a| vectors.rows().map(move |b| dot(a, b))).collect();
        return spectrum(&similarity, n);
    }
    let mut gram = vec![0.0; dimension * dimension];
    for row in vectors.rows() {
        for (value, line) in row.iter().zip(gram.chunks_exact_mut(dimension)) {
            line.iter_mut().zip(row).for_each(|(sum, other)| *sum += value * other);
        }
    }
    let scale = dimension as f64 / n as f64;
    gram.iter_mut().for_each(|value| *value *= scale);
    spectrum(&gram, dimension)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    /// `vendi_score.vendi.score_K(K, q=q)` of vendi-score 0.0.3 gives the same.
    #[test]
    fn scores_of_all_orders() {
        let spectrum = spectrum(&[1.0, 0.8, 0.0, 0.8, 1.0, 0.1, 0.0, 0.1, 1.0], 3);
        let cases = [(0.5, 2.583_843_273), (1.0, 2.336_467_367), (2.0, 2.093_023_256), (f64::INFINITY, 1.660_921_930)];
        for (order, expected) in cases {
            assert_near(vendi(&spectrum, order), expected);
        }
    }

    #[test]
    fn equal_samples_count_once_and_orthogonal_ones_each() {
        let equal = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
        let apart = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
        for (_, order) in ORDERS {
            assert_near(vendi(&spectrum_of_vectors(Points::new(&equal, 2)), order), 1.0);
            assert_near(vendi(&spectrum_of_vectors(Points::new(&apart, 3)), order), 3.0);
        }
    }

    #[test]
    fn the_smaller_matrix_has_the_same_score() {
        let vectors = [1.0, 0.0, 0.6, 0.8, 0.0, 1.0, -0.8, 0.6];
        let points = Points::new(&vectors, 2);
        let whole: Vec<f64> = points.rows().flat_map(|a| points.rows().map(move |b| dot(a, b))).collect();
        for (_, order) in ORDERS {
            assert_near(vendi(&spectrum_of_vectors(points), order), vendi(&spectrum(&whole, 4), order));
        }
    }
}
