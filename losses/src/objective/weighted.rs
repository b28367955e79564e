//! Rows count by a number of their own: `w = c`, the value of a column of the row.
//!
//! With `c = exp(advantage / beta)` it is reward- or advantage-weighted regression (Peters and Schaal 2007; Peng et al. 2019,
//! arXiv 1910.00177), with counts it is rows that stand there more than once. A column of ones is `nll`.

use burn::tensor::Tensor;

use crate::objective::{Column, told};
use crate::{Objective, ObjectiveKind, Tokens};

/// `weighted` as listed in the registry.
pub const WEIGHTED: ObjectiveKind = ObjectiveKind {
    name: "weighted",
    purpose: "rows count by a number of their own, such as a reward: the column that `column` names",
    build: |section| {
        let column = section.value("column", String::from("weight"));
        let message = format!("`{}` names no column", section.full("column"));
        section.check(
            "column",
            !column.trim().is_empty(),
            message,
            "write the name of the column, as the rows have it",
        );
        Box::new(Weighted { column })
    },
};

struct Weighted {
    column: String,
}

impl Objective for Weighted {
    fn name(&self) -> &str {
        WEIGHTED.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        told(&tokens.column)
    }

    fn column(&self) -> Option<Column<'_>> {
        Some(Column { name: &self.column, least: 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    #[test]
    fn the_weight_is_the_column() {
        let mut objective = build(WEIGHTED, "column = \"reward\"").expect("a valid key");
        assert_eq!(objective.column(), Some(Column { name: "reward", least: 0.0 }));
        let told = Told { column: Some(&[0.0, 1.0, 2.5]), ..Told::default() };
        assert_eq!(weights_told(&mut *objective, &[0.1, 3.0, 7.0], &told), [0.0, 1.0, 2.5]);
        assert_eq!(build(WEIGHTED, "").expect("no keys").column(), Some(Column { name: "weight", least: 0.0 }));
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = column
        let gradient = [
            [-0.036237510, 0.019805589, 0.004419224, 0.012012697],
            [0.111154145, 0.040891325, 0.247378100, -0.399423570],
            [0.0, 0.0, 0.0, 0.0],
            [0.071426961, 0.078939000, -0.246782272, 0.096416312],
        ];
        check_gradient(&mut *build(WEIGHTED, "").expect("no keys"), 1.932835159, gradient);
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in ["column = \"\"", "column = \" \"", "column = 3", "colum = \"a\""] {
            assert!(build(WEIGHTED, keys).is_err(), "{keys}");
        }
    }
}
