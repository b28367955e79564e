//! What the tests share.

/// Fails where `found` is further than 1e-6 from `expected`, relative to it where that is above 1.
#[track_caller]
pub fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{found} is not {expected}");
}

/// The same for lists.
#[track_caller]
pub fn assert_all_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{found:?} is not {expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert_near(*found, *expected);
    }
}
