//! A model whose rows are told of as they grow, for who wants to see a text before it is done.

use super::NextToken;

/// What is told: the tokens of every row so far, without its prompt.
pub type Hear<'a> = dyn FnMut(&[Vec<u32>]) + 'a;

/// Passes all on to a model, and tells of each token that a row goes on with. The last token of a row is not among them:
/// nothing follows it.
pub struct Heard<'a> {
    model: &'a mut dyn NextToken,
    rows: Vec<Vec<u32>>,
    hear: &'a mut Hear<'a>,
}

impl<'a> Heard<'a> {
    /// `hear` is called before each step.
    pub fn new(model: &'a mut dyn NextToken, hear: &'a mut Hear<'a>) -> Self {
        Self { model, rows: Vec::new(), hear }
    }
}

impl NextToken for Heard<'_> {
    fn start(&mut self, prompts: &[Vec<u32>]) -> Vec<Vec<f32>> {
        self.rows = vec![Vec::new(); prompts.len()];
        self.model.start(prompts)
    }

    fn keep(&mut self, rows: &[usize]) {
        self.rows = rows.iter().map(|row| self.rows[*row].clone()).collect();
        self.model.keep(rows);
    }

    fn step(&mut self, tokens: &[u32]) -> Vec<Vec<f32>> {
        for (row, token) in self.rows.iter_mut().zip(tokens) {
            row.push(*token);
        }
        (self.hear)(&self.rows);
        self.model.step(tokens)
    }

    fn positions(&self) -> usize {
        self.model.positions()
    }
}

#[cfg(test)]
mod tests {
    use backbone::embedded_tokenizer;

    use super::super::tests::{Table, settings};
    use super::super::{Settings, sample_all};
    use super::*;

    /// What is heard are beginnings of what is drawn, and the drawing is the one that nobody hears.
    #[test]
    fn what_is_heard_is_what_is_drawn() {
        let tokenizer = embedded_tokenizer().unwrap_or_else(|faults| panic!("{faults}"));
        let next = |row: &[u32]| (0..768).map(|token| ((token * 7 + row.len() * 13) % 11) as f32 / 4.0).collect();
        let mut model = Table { next: Box::new(next), rows: Vec::new(), positions: 64 };
        let settings = Settings { max_tokens: 9, ..settings(1.0, 1.0, 0) };
        let prompts = [vec![5, 9], vec![7]];
        let alone = sample_all(&mut model, &tokenizer, &prompts, 2, &settings, &mut |_| {}).expect("samples");
        let mut heard: Vec<Vec<u32>> = Vec::new();
        let mut hear = |rows: &[Vec<u32>]| heard.extend(rows.iter().cloned());
        let mut model = Heard::new(&mut model, &mut hear);
        let samples = sample_all(&mut model, &tokenizer, &prompts, 2, &settings, &mut |_| {}).expect("samples");
        assert_eq!(samples, alone);
        assert!(heard.len() > 8 && heard.iter().all(|ids| samples.iter().any(|sample| sample.ids.starts_with(ids))));
    }
}
