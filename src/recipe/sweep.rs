//! `[sweep]`: what `trainer sweep` does with the recipe where its command line says nothing else.

use faults::Section;

use super::data::Files;

/// `[sweep]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sweep {
    /// Keys of the recipe with their values, as `--grid` takes them: `seed=1,2,3`.
    pub grid: Vec<String>,
    /// Rows that all runs are measured on.
    pub data: Vec<String>,
    /// Temperatures that they are measured at.
    pub temperatures: Vec<f64>,
    /// The arm that the others are compared with.
    pub baseline: Option<String>,
    /// Prompts of which samples are drawn from every run.
    pub prompts: Option<String>,
    /// How they are drawn, options of `trainer sample`: `n=8`.
    pub sample: Vec<String>,
    /// How they are measured, options of `trainer eval --samples`: `exact_match=answer`.
    pub measure: Vec<String>,
}

pub(super) fn read(section: &mut Section) -> Sweep {
    Sweep {
        grid: section.required("grid", "a list such as `grid = [\"seed=1,2,3\"]`"),
        data: section.optional::<Files>("data").map(|files| files.0).unwrap_or_default(),
        temperatures: section.optional("temperatures").unwrap_or_default(),
        baseline: section.optional("baseline"),
        prompts: section.optional("prompts"),
        sample: section.optional("sample").unwrap_or_default(),
        measure: section.optional("measure").unwrap_or_default(),
    }
}
