//! The projections of every block, as its configuration asks for them: what is loaded, adapted, quantised and counted goes by
//! this list.

use super::block::Block;
use super::config::Config;

/// A projection of a block before it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectionShape {
    /// Its path inside of the block, for example `self_attn.q_proj`.
    pub path: &'static str,
    /// `[out, in]`
    pub sides: [usize; 2],
    /// It has a bias.
    pub has_bias: bool,
}

impl ProjectionShape {
    /// Values of the matrix.
    pub fn values(&self) -> usize {
        self.sides[0] * self.sides[1]
    }
}

impl Config {
    /// The projections of block `layer`, those of one input together, in the order in which they are met.
    pub fn projections_by_input(&self, layer: usize) -> Vec<Vec<ProjectionShape>> {
        Block::projections(self, layer)
    }

    /// The projections of block `layer`, first to last.
    pub fn projections(&self, layer: usize) -> Vec<ProjectionShape> {
        self.projections_by_input(layer).into_iter().flatten().collect()
    }

    /// The projections of all blocks, each with the number of its block, first to last.
    pub fn all_projections(&self) -> impl Iterator<Item = (usize, ProjectionShape)> {
        (0..self.num_hidden_layers)
            .flat_map(|layer| self.projections(layer).into_iter().map(move |projection| (layer, projection)))
    }
}
