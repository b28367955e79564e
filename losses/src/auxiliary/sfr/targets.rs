//! Which texts of a row are embedded, and which position learns from which of them with what weight.

use crate::{Row, RowVectors};

/// How the future of a position becomes its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetRule {
    /// Tokens of the response after the position that make its text; 0: the whole response for every position.
    pub window: usize,
    /// Every so many positions of the response are embedded themselves; the others copy the nearest.
    pub stride: usize,
    /// A text of fewer tokens is not embedded.
    pub min_suffix: usize,
    /// A position with such a short future learns nothing; otherwise it copies the nearest that has a text, as the
    /// paper's code does.
    pub mask_short: bool,
}

/// One position that learns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    /// Index of its token in the row.
    pub token: usize,
    /// `rho = (N - pos + 1) / N`.
    pub weight: f32,
    /// Its text among those of the row; `None`: the target is zero.
    pub text: Option<usize>,
}

impl TargetRule {
    /// Places in a response of `length` tokens, from 0, whose own future is embedded.
    fn anchors(&self, length: usize) -> impl Iterator<Item = usize> {
        (0..length).step_by(self.stride).filter(move |place| self.suffix(*place, length) >= self.min_suffix)
    }

    /// Tokens of the text of a place.
    fn suffix(&self, place: usize, length: usize) -> usize {
        (length - 1 - place).min(self.window)
    }

    /// The token ids of each text of a row.
    pub fn texts(&self, row: &Row) -> Vec<Vec<u32>> {
        let response: Vec<u32> = response(row).map(|token| row.ids[token]).collect();
        if self.window == 0 {
            return vec![response];
        }
        let text = |place: usize| response[place + 1..][..self.suffix(place, response.len())].to_vec();
        self.anchors(response.len()).map(text).collect()
    }

    /// The positions of a row that learn. `vectors` are those of the row's texts.
    pub fn positions(&self, row: &Row, vectors: &RowVectors) -> Vec<Position> {
        let tokens: Vec<usize> = response(row).collect();
        let length = tokens.len();
        let has_vector: Vec<bool> = vectors.of(row.example).map(|vector| vector.is_some()).collect();
        let whole = [0];
        let anchors: Vec<(usize, usize)> = match self.window {
            0 => whole.into_iter().enumerate().filter(|(text, _)| has_vector[*text]).collect(),
            _ => self.anchors(length).enumerate().filter(|(text, _)| has_vector[*text]).collect(),
        };
        let position = |place: usize| {
            let short = self.window > 0 && self.suffix(place, length) < self.min_suffix;
            let text = nearest(&anchors, place);
            let masked = self.mask_short && (short || text.is_none());
            let weight = (length - place) as f32 / length as f32;
            (!masked).then_some(Position { token: tokens[place], weight, text })
        };
        (0..length).filter_map(position).collect()
    }
}

/// Indices of the response's tokens in the row.
fn response(row: &Row) -> impl Iterator<Item = usize> {
    row.learned.iter().enumerate().filter(|(_, learned)| **learned).map(|(token, _)| token)
}

/// The text of the anchor nearest to `place`, the earlier of two. `anchors` are pairs of text and place, in order.
fn nearest(anchors: &[(usize, usize)], place: usize) -> Option<usize> {
    let after = anchors.partition_point(|(_, anchor)| *anchor < place);
    let near = &anchors[after.saturating_sub(1)..anchors.len().min(after + 1)];
    near.iter().min_by_key(|(_, anchor)| anchor.abs_diff(place)).map(|(text, _)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two tokens of prompt, then a response of nine: 0 to 8.
    fn row() -> Row {
        let ids = vec![90, 91, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        Row { learned: ids.iter().map(|id| *id < 90).collect(), ids, example: 0 }
    }

    fn vectors(count: usize) -> RowVectors {
        RowVectors::new(1, vec![1.0; count], &[count])
    }

    const RULE: TargetRule = TargetRule { window: 4, stride: 3, min_suffix: 2, mask_short: true };

    #[test]
    fn texts_are_the_tokens_after_each_anchor() {
        // Places 0, 3 and 6; each text begins behind its place, the last is what is left.
        assert_eq!(RULE.texts(&row()), [vec![1, 2, 3, 4], vec![4, 5, 6, 7], vec![7, 8]]);
        let strict = TargetRule { min_suffix: 3, ..RULE };
        assert_eq!(strict.texts(&row()).len(), 2);
        let whole = TargetRule { window: 0, ..RULE };
        assert_eq!(whole.texts(&row()), [(0..9).collect::<Vec<u32>>()]);
    }

    #[test]
    fn positions_copy_the_nearest_anchor_and_short_futures_learn_nothing() {
        let found = RULE.positions(&row(), &vectors(3));
        // Place 7 has one token of future, place 8 none.
        let texts: Vec<_> = found.iter().map(|position| position.text).collect();
        assert_eq!(texts, [0, 0, 1, 1, 1, 2, 2].map(Some));
        assert_eq!(found.iter().map(|position| position.token).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8]);
        let weights: Vec<f32> = found.iter().map(|position| position.weight).collect();
        assert_eq!(weights, [1.0, 8.0 / 9.0, 7.0 / 9.0, 6.0 / 9.0, 5.0 / 9.0, 4.0 / 9.0, 3.0 / 9.0]);
    }

    #[test]
    fn a_tie_goes_to_the_earlier_anchor() {
        let rule = TargetRule { stride: 4, min_suffix: 1, window: 9, ..RULE };
        let texts: Vec<_> = rule.positions(&row(), &vectors(2)).iter().map(|position| position.text).collect();
        // Anchors at 0 and 4 (8 has no future): place 2 is as far from both.
        assert_eq!(texts, [0, 0, 0, 1, 1, 1, 1, 1].map(Some));
    }

    #[test]
    fn parity_with_the_paper_masks_nothing() {
        let rule = TargetRule { mask_short: false, ..RULE };
        let found = rule.positions(&row(), &vectors(3));
        assert_eq!(found.len(), 9);
        assert_eq!((found[8].text, found[8].weight), (Some(2), 1.0 / 9.0));
        // A response too short for any text has targets of zero.
        let rule = TargetRule { min_suffix: 9, window: 20, ..rule };
        assert_eq!(rule.texts(&row()), [[0u32; 0]; 0]);
        assert!(rule.positions(&row(), &vectors(0)).iter().all(|position| position.text.is_none()));
        assert_eq!(TargetRule { mask_short: true, ..rule }.positions(&row(), &vectors(0)), []);
    }

    #[test]
    fn a_text_without_a_word_is_no_anchor() {
        let vectors = RowVectors::new(1, vec![1.0, 0.0, 1.0], &[3]);
        let texts: Vec<_> = RULE.positions(&row(), &vectors).iter().map(|position| position.text).collect();
        assert_eq!(texts, [0, 0, 0, 0, 2, 2, 2].map(Some));
    }

    #[test]
    fn every_position_has_the_whole_response_when_the_window_is_zero() {
        let rule = TargetRule { window: 0, ..RULE };
        let found = rule.positions(&row(), &vectors(1));
        assert_eq!(found.len(), 9);
        assert!(found.iter().all(|position| position.text == Some(0)));
        let nothing = RowVectors::new(1, vec![0.0], &[1]);
        assert_eq!(rule.positions(&row(), &nothing), []);
    }
}
