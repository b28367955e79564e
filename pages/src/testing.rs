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

/// A run whose recall falls by the line 1 - precision/2 and is shifted by `shift`.
pub fn line(name: &str, shift: f64) -> Run {
    run(name, &[(0.5, 0.9, 0.55 + shift), (1.0, 0.7, 0.65 + shift), (2.0, 0.5, 0.75 + shift)])
}
