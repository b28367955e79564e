//! Where the labels of a chart stand: beside their points, off each other and off the lines.

use serde::Serialize;

use crate::axis::coordinate;
use crate::chart::{HEIGHT, WIDTH};

/// How much room a label takes on the smallest screen, in SVG units: a letter's width, and the height.
pub(crate) const LETTER: f64 = 8.5;
/// As [`LETTER`].
const LABEL_HEIGHT: f64 = 17.0;

/// A text with the place that it begins or ends at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Label {
    text: String,
    x: String,
    y: String,
    pub(crate) anchor: &'static str,
}

/// What a label covers: left, top, right, bottom.
type Area = (f64, f64, f64, f64);

/// From one end to the other.
pub(crate) type Segment = ((f64, f64), (f64, f64));

/// What labels are to leave free: each other, and as far as there is room the lines of the arms.
pub(crate) struct Taken {
    areas: Vec<Area>,
    lines: Vec<Segment>,
}

impl Taken {
    /// By these lines, before there is a label.
    pub(crate) fn new(lines: Vec<Segment>) -> Self {
        Self { areas: Vec::new(), lines }
    }
}

/// Whether a piece of a line goes through an area (Liang and Barsky 1984).
fn crosses(((x0, y0), (x1, y1)): Segment, (left, top, right, bottom): Area) -> bool {
    let (mut from, mut to) = (0.0f64, 1.0f64);
    for (way, room) in [(x0 - x1, x0 - left), (x1 - x0, right - x0), (y0 - y1, y0 - top), (y1 - y0, bottom - y0)] {
        if way == 0.0 {
            if room < 0.0 {
                return false;
            }
        } else if way < 0.0 {
            from = from.max(room / way);
        } else {
            to = to.min(room / way);
        }
    }
    from < to
}

/// Where a label may stand beside its place: to the right (or the left), and down from it.
const BESIDE: [(f64, f64); 6] = [(7.0, -6.0), (-7.0, -6.0), (7.0, 17.0), (-7.0, 17.0), (11.0, 5.0), (-11.0, 5.0)];

/// A label beside a place, where it covers no other and as few lines as can be; `None` where there is no room, and for no
/// text.
pub(crate) fn label(text: &str, x: f64, y: f64, taken: &mut Taken) -> Option<Label> {
    if text.is_empty() {
        return None;
    }
    let width = text.chars().count() as f64 * LETTER;
    let free = BESIDE.into_iter().filter_map(|(right, down)| {
        let (left, anchor) = if right > 0.0 { (x + right, "start") } else { (x + right - width, "end") };
        let area = (left, y + down - 13.0, left + width, y + down - 13.0 + LABEL_HEIGHT);
        let is_inside = area.0 >= 0.0 && area.2 <= WIDTH + 12.0 && area.1 >= -12.0 && area.3 <= HEIGHT + 2.0;
        let is_free = |other: &Area| area.2 <= other.0 || other.2 <= area.0 || area.3 <= other.1 || other.3 <= area.1;
        (is_inside && taken.areas.iter().all(is_free)).then_some((area, x + right, y + down, anchor))
    });
    // The first of those that cover as few.
    let (area, x, y, anchor) =
        free.min_by_key(|(area, ..)| taken.lines.iter().filter(|line| crosses(**line, *area)).count())?;
    taken.areas.push(area);
    Some(Label { text: text.into(), x: coordinate(x), y: coordinate(y), anchor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_an_area_or_beside_it() {
        let area = (10.0, 10.0, 20.0, 20.0);
        for (line, expected) in [
            (((0.0, 0.0), (30.0, 30.0)), true),
            (((15.0, 0.0), (15.0, 30.0)), true),
            (((12.0, 12.0), (13.0, 13.0)), true),
            (((0.0, 15.0), (5.0, 15.0)), false),
            (((25.0, 0.0), (25.0, 30.0)), false),
            (((0.0, 12.0), (12.0, 0.0)), false),
        ] {
            assert_eq!(crosses(line, area), expected, "{line:?}");
        }
    }
}
