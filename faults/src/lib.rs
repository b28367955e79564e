//! What a user did wrong, as values.
//!
//! Every crate of the workspace reports the user's errors as a [`Fault`]: what is wrong, where (a file with line and
//! column, a tensor, an option), and a hint of what to do. Several can be collected in [`Faults`], so that one run names
//! all of them. [`Section`] reads a TOML table strictly and files its faults the same way.
//!
//! Errors of ours (a broken invariant) are panics and never pass through here.

mod apart;
mod causes;
mod counted;
mod document;
mod fault;
mod files;
mod from_toml;
pub mod json;
mod nearest;
mod overrides;
mod pointer;
mod section;
mod shape;
mod tree;

pub use apart::{Stopped, apart, apart_again, caught, is_caught};
pub use causes::Causes;
pub use counted::counted;
pub use document::{Document, Places, Translate};
pub use fault::{Fault, Faults, Place, Source, is_hidden, shortened, visible};
pub use files::{open_file, read_file, read_given, read_text};
pub use from_toml::FromToml;
pub use nearest::nearest;
pub use pointer::refuse_pointer;
pub use section::Section;
pub use shape::{Key, Known, Shape};
