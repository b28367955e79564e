//! Runs for tests.

use crate::read::{Point, Run};

/// A run with mass and f8 at temperatures.
pub fn run(name: &str, points: &[(f64, f64, f64)]) -> Run {
    let point = |(temperature, mass, f8): &(f64, f64, f64)| Point {
        temperature: Some(*temperature),
        values: vec![("mass".into(), *mass), ("f8".into(), *f8)],
        ..Point::default()
    };
    Run { points: points.iter().map(point).collect(), ..Run::named(name) }
}
