//! Plain products, of which more than one naive version is made.

/// `left right^T`, `[rows, out]`, for left `[rows, in]` and right `[out, in]`.
pub fn product(left: &[f32], right: &[f32], inputs: usize) -> Vec<f32> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
    left.chunks(inputs).flat_map(|x| right.chunks(inputs).map(move |w| dot(x, w))).collect()
}

/// `left right`, `[rows, in]`, for left `[rows, out]` and right `[out, in]`.
pub fn product_transposed(left: &[f32], right: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = right.len() / inputs;
    let mut sums = vec![0.0; left.len() / outputs * inputs];
    for (row, sums) in left.chunks(outputs).zip(sums.chunks_mut(inputs)) {
        for (factor, values) in row.iter().zip(right.chunks(inputs)) {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
        }
    }
    sums
}

/// `left^T right`, `[left_width, right_width]`, for rows of these widths.
pub fn outer(left: &[f32], left_width: usize, right: &[f32], right_width: usize) -> Vec<f32> {
    let mut sums = vec![0.0; left_width * right_width];
    for (left, right) in left.chunks(left_width).zip(right.chunks(right_width)) {
        for (factor, sums) in left.iter().zip(sums.chunks_mut(right_width)) {
            sums.iter_mut().zip(right).for_each(|(sum, value)| *sum += factor * value);
        }
    }
    sums
}
