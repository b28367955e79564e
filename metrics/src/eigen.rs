//! Eigenvalues and eigenvectors of a symmetric matrix: Householder's reduction to three diagonals and the QL algorithm with
//! implicit shifts, after `tred2` and `tql2` of EISPACK (Bowdler, Martin, Reinsch and Wilkinson 1968) as JAMA has them.
//!
//! The libraries that have this take longer to build than the rest of this program's arithmetic; n^3 work in 130 lines is
//! enough for some thousand dimensions.

/// Eigenvalues from the largest to the smallest, and the vector of each, of length 1.
#[derive(Debug, Clone)]
pub struct Eigen {
    /// The eigenvalues.
    pub values: Vec<f64>,
    /// The vectors, one after another in the order of the values.
    pub vectors: Vec<f64>,
}

/// A matrix on its way: the columns of the vectors one after another, the diagonal and what stands beside it.
struct Reduction {
    size: usize,
    vectors: Vec<f64>,
    diagonal: Vec<f64>,
    beside: Vec<f64>,
}

impl Eigen {
    /// Of a symmetric matrix of `size` rows.
    pub fn new(matrix: &[f64], size: usize) -> Self {
        assert_eq!(matrix.len(), size * size, "a square matrix");
        if size == 0 {
            return Self { values: Vec::new(), vectors: Vec::new() };
        }
        let (diagonal, beside) = (matrix[(size - 1) * size..].to_vec(), vec![0.0; size]);
        let mut reduction = Reduction { size, vectors: matrix.to_vec(), diagonal, beside };
        reduction.reduce();
        reduction.accumulate();
        reduction.rotate();
        let mut order: Vec<usize> = (0..size).collect();
        order.sort_by(|a, b| reduction.diagonal[*b].total_cmp(&reduction.diagonal[*a]));
        Self {
            values: order.iter().map(|place| reduction.diagonal[*place]).collect(),
            vectors: order.iter().flat_map(|place| &reduction.vectors[place * size..][..size]).copied().collect(),
        }
    }
}

impl Reduction {
    /// Householder reflections, last row first.
    fn reduce(&mut self) {
        let n = self.size;
        for i in (1..n).rev() {
            let scale: f64 = self.diagonal[..i].iter().map(|value| value.abs()).sum();
            let mut h = 0.0;
            if scale == 0.0 {
                self.beside[i] = self.diagonal[i - 1];
                for j in 0..i {
                    self.diagonal[j] = self.vectors[j * n + i - 1];
                    self.vectors[j * n + i] = 0.0;
                    self.vectors[i * n + j] = 0.0;
                }
            } else {
                for value in &mut self.diagonal[..i] {
                    *value /= scale;
                    h += *value * *value;
                }
                let f = self.diagonal[i - 1];
                let g = if f > 0.0 { -h.sqrt() } else { h.sqrt() };
                self.beside[i] = scale * g;
                h -= f * g;
                self.diagonal[i - 1] = f - g;
                self.reflect(i, h);
            }
            self.diagonal[i] = h;
        }
    }

    /// One reflection from both sides on the rows and columns before `i`.
    fn reflect(&mut self, i: usize, h: f64) {
        let n = self.size;
        let (d, e) = (&mut self.diagonal, &mut self.beside);
        e[..i].fill(0.0);
        for j in 0..i {
            let f = d[j];
            self.vectors[i * n + j] = f;
            let column = &self.vectors[j * n..][..i];
            let mut g = e[j] + column[j] * f;
            for k in j + 1..i {
                g += column[k] * d[k];
                e[k] += column[k] * f;
            }
            e[j] = g;
        }
        let mut f = 0.0;
        for j in 0..i {
            e[j] /= h;
            f += e[j] * d[j];
        }
        let half = f / (h + h);
        for j in 0..i {
            e[j] -= half * d[j];
        }
        for j in 0..i {
            let (f, g) = (d[j], e[j]);
            let column = &mut self.vectors[j * n..][..n];
            for k in j..i {
                column[k] -= f * e[k] + g * d[k];
            }
            d[j] = column[i - 1];
            column[i] = 0.0;
        }
    }

    /// The product of all reflections.
    fn accumulate(&mut self) {
        let n = self.size;
        for i in 0..n - 1 {
            self.vectors[i * n + n - 1] = self.vectors[i * n + i];
            self.vectors[i * n + i] = 1.0;
            let h = self.diagonal[i + 1];
            let (before, after) = self.vectors.split_at_mut((i + 1) * n);
            let next = &mut after[..=i];
            if h != 0.0 {
                let scaled: Vec<f64> = next.iter().map(|value| value / h).collect();
                for column in before.chunks_exact_mut(n) {
                    let g: f64 = next.iter().zip(&*column).map(|(a, b)| a * b).sum();
                    column.iter_mut().zip(&scaled).for_each(|(value, scaled)| *value -= g * scaled);
                }
            }
            next.fill(0.0);
        }
        for j in 0..n {
            self.diagonal[j] = self.vectors[j * n + n - 1];
            self.vectors[j * n + n - 1] = 0.0;
        }
        self.vectors[n * n - 1] = 1.0;
    }

    /// QL sweeps until nothing stands beside the diagonal.
    fn rotate(&mut self) {
        let n = self.size;
        self.beside.rotate_left(1);
        self.beside[n - 1] = 0.0;
        let (mut shift, mut largest) = (0.0, 0.0f64);
        for l in 0..n {
            largest = largest.max(self.diagonal[l].abs() + self.beside[l].abs());
            let small = f64::EPSILON * largest;
            let m = (l..n).find(|m| self.beside[*m].abs() <= small).expect("the last one is 0");
            while m > l && self.beside[l].abs() > small {
                shift += self.sweep(l, m);
            }
            self.diagonal[l] += shift;
            self.beside[l] = 0.0;
        }
    }

    /// One sweep over the block from `l` to `m`; gives what was taken off the rest of the diagonal.
    fn sweep(&mut self, l: usize, m: usize) -> f64 {
        let n = self.size;
        let (d, e) = (&mut self.diagonal, &mut self.beside);
        let g = d[l];
        let p = (d[l + 1] - g) / (2.0 * e[l]);
        let r = if p < 0.0 { -p.hypot(1.0) } else { p.hypot(1.0) };
        d[l] = e[l] / (p + r);
        d[l + 1] = e[l] * (p + r);
        let next = d[l + 1];
        let taken = g - d[l];
        d[l + 2..].iter_mut().for_each(|value| *value -= taken);
        let mut p = d[m];
        let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
        let (mut s, mut s2) = (0.0, 0.0);
        let first = e[l + 1];
        for i in (l..m).rev() {
            (c3, c2, s2) = (c2, c, s);
            let (g, h) = (c * e[i], c * p);
            let r = p.hypot(e[i]);
            e[i + 1] = s * r;
            s = e[i] / r;
            c = p / r;
            p = c * d[i] - s * g;
            d[i + 1] = h + s * (c * g + s * d[i]);
            let (one, other) = self.vectors[i * n..].split_at_mut(n);
            for (a, b) in one.iter_mut().zip(&mut other[..n]) {
                (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
            }
        }
        p = -s * s2 * c3 * first * e[l] / next;
        e[l] = s * p;
        d[l] = c * p;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::dot;
    use crate::testing::{assert_all_near, assert_near};

    #[test]
    fn a_matrix_is_what_its_eigenvectors_make_of_it() {
        for size in [1, 2, 3, 7, 40] {
            let entry = |i: usize, j: usize| ((i * 7 + j * 13) as f64).sin() + ((j * 7 + i * 13) as f64).sin();
            let matrix: Vec<f64> = (0..size * size).map(|place| entry(place / size, place % size)).collect();
            let eigen = Eigen::new(&matrix, size);
            assert!(eigen.values.is_sorted_by(|a, b| a >= b));
            for (i, (value, vector)) in eigen.values.iter().zip(eigen.vectors.chunks(size)).enumerate() {
                let product: Vec<f64> = matrix.chunks(size).map(|row| dot(row, vector)).collect();
                assert_all_near(&product, &vector.iter().map(|x| value * x).collect::<Vec<_>>());
                for (j, other) in eigen.vectors.chunks(size).enumerate() {
                    assert_near(dot(vector, other), if i == j { 1.0 } else { 0.0 });
                }
            }
        }
    }

    #[test]
    fn diagonal_and_singular_matrices() {
        let eigen = Eigen::new(&[2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0], 3);
        assert_all_near(&eigen.values, &[5.0, 2.0, 0.0]);
        assert_all_near(&Eigen::new(&[1.0; 16], 4).values, &[4.0, 0.0, 0.0, 0.0]);
        assert!(Eigen::new(&[], 0).values.is_empty());
    }
}
