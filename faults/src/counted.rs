//! Numbers of things.

/// A number of things in words: `1 step`, `2 steps`. `one` is the word for one of them, whose plural has an `s` more, or is
/// `matrices`.
pub fn counted(count: u64, one: &str) -> String {
    match (count, one) {
        (1, one) => format!("1 {one}"),
        (count, "matrix") => format!("{count} matrices"),
        (count, one) => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "step")), ["0 steps", "1 step", "2 steps"]);
        assert_eq!([1, 28].map(|count| counted(count, "matrix")), ["1 matrix", "28 matrices"]);
    }
}
