//! Line charts as inline SVG: what is drawn is computed here, the elements are the template's.

use serde::Serialize;

use crate::number::plain;

/// Size of the drawing area in SVG units.
pub const WIDTH: f64 = 520.0;
/// As [`WIDTH`].
pub const HEIGHT: f64 = 260.0;

/// Two labels nearer than this, in SVG units, would overlap.
const LABEL: (f64, f64) = (44.0, 14.0);

/// A picture as numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What is drawn.
    pub title: String,
    /// What the horizontal axis shows.
    pub x: String,
    /// What the vertical one shows.
    pub y: String,
    /// True where equal steps to the right are equal factors.
    pub logarithmic: bool,
    /// In the order of drawing.
    pub lines: Vec<Line>,
}

/// A line of a picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Name of its arm.
    pub arm: String,
    /// Place of the arm, which chooses the colour.
    pub place: usize,
    /// Name of the single run; `None` for the mean of an arm.
    pub run: Option<String>,
    /// From left to right or along the sweep.
    pub points: Vec<Dot>,
}

/// A point of a line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Dot {
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical one.
    pub y: f64,
    /// Stands beside it; empty for none.
    pub label: String,
}

/// A picture as it is drawn.
#[derive(Debug, Serialize)]
pub struct Drawing {
    title: String,
    x: String,
    y: String,
    marks_x: Vec<Mark>,
    marks_y: Vec<Mark>,
    lines: Vec<DrawnLine>,
}

#[derive(Debug, Serialize)]
struct Mark {
    at: String,
    text: String,
}

#[derive(Debug, Serialize)]
struct DrawnLine {
    arm: String,
    place: usize,
    thin: bool,
    points: String,
    dots: Vec<DrawnDot>,
}

#[derive(Debug, Serialize)]
struct DrawnDot {
    cx: String,
    cy: String,
    /// The numbers themselves, as they stand in the page's JSON.
    x: String,
    y: String,
    text: String,
    label: String,
    anchor: &'static str,
    label_x: String,
}

/// `None` where there is no point.
pub fn draw(figure: &Figure) -> Option<Drawing> {
    let scale = |x: f64| if figure.logarithmic { x.log10() } else { x };
    let all = || figure.lines.iter().flat_map(|line| &line.points);
    let (low_x, high_x) = range(all().map(|dot| scale(dot.x)))?;
    let (low_y, high_y) = range(all().map(|dot| dot.y))?;
    let (ticks_x, ticks_y) = (ticks(low_x, high_x), ticks(low_y, high_y));
    let (low_x, high_x) = wider(low_x, high_x, &ticks_x, figure.logarithmic);
    let (low_y, high_y) = wider(low_y, high_y, &ticks_y, false);
    let at_x = |x: f64| place(scale(x), low_x, high_x) * WIDTH;
    let at_y = |y: f64| HEIGHT - place(y, low_y, high_y) * HEIGHT;
    let marks_x: Vec<f64> = match figure.logarithmic {
        true => distinct(all().map(|dot| dot.x)),
        false => ticks_x,
    };
    let mut taken: Vec<(f64, f64)> = Vec::new();
    let lines = figure.lines.iter().map(|line| {
        let dots = line.points.iter().map(|dot| {
            let (cx, cy) = (at_x(dot.x), at_y(dot.y));
            let free = taken.iter().all(|(x, y)| (x - cx).abs() > LABEL.0 || (y - cy).abs() > LABEL.1);
            let labelled = free && !dot.label.is_empty();
            if labelled {
                taken.push((cx, cy));
            }
            let left = cx > WIDTH - LABEL.0;
            DrawnDot {
                cx: coordinate(cx),
                cy: coordinate(cy),
                x: dot.x.to_string(),
                y: dot.y.to_string(),
                text: described(figure, line, dot),
                label: if labelled { dot.label.clone() } else { String::new() },
                anchor: if left { "end" } else { "start" },
                label_x: coordinate(if left { cx - 6.0 } else { cx + 6.0 }),
            }
        });
        let points = line.points.iter().map(|dot| format!("{},{}", coordinate(at_x(dot.x)), coordinate(at_y(dot.y))));
        DrawnLine {
            arm: line.arm.clone(),
            place: line.place,
            thin: line.run.is_some(),
            points: points.collect::<Vec<_>>().join(" "),
            dots: dots.collect(),
        }
    });
    let lines = lines.collect();
    let mark = |at: f64, value: f64| Mark { at: coordinate(at), text: plain(value) };
    Some(Drawing {
        title: figure.title.clone(),
        x: figure.x.clone(),
        y: figure.y.clone(),
        marks_x: marks_x.into_iter().map(|value| mark(at_x(value), value)).collect(),
        marks_y: ticks_y.into_iter().map(|value| mark(at_y(value), value)).collect(),
        lines,
    })
}

fn described(figure: &Figure, line: &Line, dot: &Dot) -> String {
    let name = line.run.as_ref().unwrap_or(&line.arm);
    let label = if dot.label.is_empty() { String::new() } else { format!(", {}", dot.label) };
    format!("{name}{label}: {} {}, {} {}", figure.x, plain(dot.x), figure.y, plain(dot.y))
}

fn distinct(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// The range with the marks in it, which round it off; those of a logarithmic axis are the points' own.
fn wider(low: f64, high: f64, ticks: &[f64], logarithmic: bool) -> (f64, f64) {
    match ticks {
        [first, .., last] if !logarithmic => (low.min(*first), high.max(*last)),
        _ => (low, high),
    }
}

/// From 0 at `low` to 1 at `high`; the middle when they are one.
fn place(value: f64, low: f64, high: f64) -> f64 {
    if high > low { (value - low) / (high - low) } else { 0.5 }
}

/// Round numbers from at most `low` to at least `high`, two to eight of them; one when there is no range.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let raw = (high - low) / 4.0;
    if !(raw.is_normal() && raw > 0.0) {
        return vec![low];
    }
    let power = 10f64.powf(raw.log10().floor());
    // Marks must not move by what rounding makes of the range.
    let is_enough = |factor: &f64| factor * power >= raw * (1.0 - 1e-6);
    let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(is_enough).unwrap_or(10.0);
    let (first, last) = ((low / step + 1e-6).floor(), (high / step - 1e-6).ceil());
    let count = (last - first).clamp(1.0, 10.0) as usize;
    (0..=count).map(|index| (first + index as f64) * step).collect()
}

fn coordinate(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(points: &[(f64, f64)], logarithmic: bool) -> Figure {
        let points = points.iter().map(|(x, y)| Dot { x: *x, y: *y, label: "T 1".into() }).collect();
        let line = Line { arm: "a".into(), place: 0, run: None, points };
        Figure { title: "t".into(), x: "x".into(), y: "y".into(), logarithmic, lines: vec![line] }
    }

    #[test]
    fn the_corners_of_the_range_are_those_of_the_drawing() {
        let drawing = draw(&figure(&[(0.0, 0.0), (0.5, 0.25), (1.0, 1.0)], false)).expect("points");
        assert_eq!(drawing.lines[0].points, "0.0,260.0 260.0,195.0 520.0,0.0");
        let texts: Vec<&str> = drawing.marks_y.iter().map(|mark| &mark.text[..]).collect();
        assert_eq!(texts, ["0", "0.5", "1"]);
        let logarithmic = draw(&figure(&[(10.0, 0.0), (100.0, 0.5), (1000.0, 1.0)], true)).expect("points");
        assert_eq!(logarithmic.lines[0].points, "0.0,260.0 260.0,130.0 520.0,0.0");
        assert_eq!(logarithmic.marks_x[1].text, "100");
    }

    #[test]
    fn labels_that_would_overlap_are_left_to_the_hovering_text() {
        let drawing = draw(&figure(&[(0.0, 0.0), (0.01, 0.0), (1.0, 1.0)], false)).expect("points");
        let labels: Vec<&str> = drawing.lines[0].dots.iter().map(|dot| &dot.label[..]).collect();
        assert_eq!(labels, ["T 1", "", "T 1"]);
        assert!(drawing.lines[0].dots[1].text.starts_with("a, T 1: x 0.01"));
    }

    #[test]
    fn one_point_stands_in_the_middle_and_none_is_no_picture() {
        let drawing = draw(&figure(&[(0.5, 0.5)], false)).expect("a point");
        assert_eq!(drawing.lines[0].points, "260.0,130.0");
        assert!(draw(&figure(&[], false)).is_none());
    }
}
