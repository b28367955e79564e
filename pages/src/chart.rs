//! Line charts as inline SVG: what is drawn is computed here, the elements are the template's.

use serde::Serialize;

use crate::axis::{coordinate, place, range, ticks};
use crate::number::{labels, plain};
use crate::placing::{LETTER, Label, Segment, Taken, label};

/// Size of the drawing area in SVG units.
pub const WIDTH: f64 = 520.0;
/// As [`WIDTH`].
pub const HEIGHT: f64 = 260.0;

/// Room at the right of the drawing area, in SVG units.
const MARGIN: f64 = 30.0;

/// Lines of more points than this have no dots.
const DOTS: usize = 24;

/// A picture as numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figure {
    /// What is drawn.
    pub title: String,
    /// What is to be known to read it; may be empty.
    pub note: String,
    /// What the horizontal axis shows.
    pub x: String,
    /// What the vertical one shows.
    pub y: String,
    /// True where equal steps to the right are equal factors; the marks are the points' own.
    pub logarithmic: bool,
    /// Where the horizontal axis has no numbers: what stands at 0, 1, 2 and so on.
    pub names: Vec<String>,
    /// In the order of drawing.
    pub lines: Vec<Line>,
    /// Under the lines.
    pub bands: Vec<Band>,
    /// What a perfect model has.
    pub ceilings: Vec<Ceiling>,
    /// True where both axes are shares: which part of 0 to 1 is drawn is said.
    pub is_of_shares: bool,
    /// The part that is drawn, from where to where along each axis; all of it where it is `None`.
    pub window: Option<Window>,
}

/// From where to where along the horizontal axis and along the vertical one.
pub type Window = ((f64, f64), (f64, f64));

/// A line of a picture.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Line {
    /// Name of its arm.
    pub arm: String,
    /// Place of the arm, which chooses the colour; `None` for the truth.
    pub place: Option<usize>,
    /// Name of the single run; `None` for the mean of an arm.
    pub run: Option<String>,
    /// True of dots that no line joins.
    pub apart: bool,
    /// From left to right or along the sweep.
    pub points: Vec<Dot>,
}

/// A point of a line.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Dot {
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical one.
    pub y: f64,
    /// Stands beside it; empty for none.
    pub label: String,
    /// True where a ring marks it.
    pub ringed: bool,
}

/// A band of intervals: at each `y` from `low` to `high` along the horizontal axis, or at each `x` along the vertical one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Band {
    /// Place of the arm.
    pub place: usize,
    /// True where the intervals lie along the horizontal axis.
    pub is_horizontal: bool,
    /// Where, and from what to what.
    pub intervals: Vec<(f64, f64, f64)>,
}

/// A line across the picture, or a cross at a place of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ceiling {
    /// Along the horizontal axis; `None` for a line along all of it.
    pub x: Option<f64>,
    /// Along the vertical axis.
    pub y: f64,
    /// What it is.
    pub label: String,
}

/// A picture as it is drawn.
#[derive(Debug, Serialize)]
pub struct Drawing {
    title: String,
    note: String,
    /// What of the numbers is drawn, where one could take it for all.
    range: String,
    x: String,
    y: String,
    marks_x: Vec<Mark>,
    marks_y: Vec<Mark>,
    bands: Vec<DrawnBand>,
    lines: Vec<DrawnLine>,
    ceilings: Vec<DrawnCeiling>,
    /// True where lines go on outside, and are cut at the edge.
    is_part: bool,
}

#[derive(Debug, Serialize)]
struct Mark {
    at: String,
    text: String,
    anchor: &'static str,
}

#[derive(Debug, Serialize)]
struct DrawnBand {
    place: usize,
    points: String,
}

#[derive(Debug, Serialize)]
struct DrawnCeiling {
    x: Option<String>,
    y: String,
    text: String,
    label: Option<Label>,
}

#[derive(Debug, Serialize)]
struct DrawnLine {
    arm: String,
    place: Option<usize>,
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
    ringed: bool,
    label: Option<Label>,
}

/// From numbers to places in the drawing.
struct Scale<'a> {
    figure: &'a Figure,
    x: (f64, f64),
    y: (f64, f64),
}

impl Scale<'_> {
    fn along(&self, x: f64) -> f64 {
        if self.figure.logarithmic { x.log10() } else { x }
    }

    fn x(&self, x: f64) -> f64 {
        place(self.along(x), self.x.0, self.x.1) * WIDTH
    }

    fn y(&self, y: f64) -> f64 {
        HEIGHT - place(y, self.y.0, self.y.1) * HEIGHT
    }

    fn point(&self, x: f64, y: f64) -> String {
        format!("{},{}", coordinate(self.x(x)), coordinate(self.y(y)))
    }
}

/// `None` where there is no point.
pub fn draw(figure: &Figure) -> Option<Drawing> {
    let along = |x: f64| if figure.logarithmic { x.log10() } else { x };
    let all = || figure.lines.iter().flat_map(|line| &line.points);
    let of_points = (range(all().map(|dot| along(dot.x)))?, range(all().map(|dot| dot.y))?);
    let (near, far) = marked(figure, of_points);
    let ceilings = || near.iter().copied();
    let (low_x, high_x) = figure.window.map(|window| window.0).or_else(|| {
        range([of_points.0.0, of_points.0.1].into_iter().chain(ceilings().filter_map(|c| c.x.map(along))))
    })?;
    let (low_y, high_y) = figure
        .window
        .map(|window| window.1)
        .or_else(|| range([of_points.1.0, of_points.1.1].into_iter().chain(ceilings().map(|ceiling| ceiling.y))))?;
    let (ticks_x, ticks_y) = (ticks(low_x, high_x), ticks(low_y, high_y));
    let marks_x: Vec<f64> = match (figure.logarithmic, figure.names.len()) {
        (true, _) => apart(all().map(|dot| dot.x)),
        (false, 0) => ticks_x,
        (false, count) => (0..count).map(|place| place as f64).collect(),
    };
    let x = match figure.names.len() {
        0 if figure.logarithmic => (low_x, high_x),
        0 => wider(low_x, high_x, &marks_x),
        count => (-0.5, count as f64 - 0.5),
    };
    let scale = Scale { figure, x, y: wider(low_y, high_y, &ticks_y) };
    let bands = figure.bands.iter().filter_map(|band| drawn_band(band, &scale)).collect();
    let mut taken = Taken::new(segments(figure, &scale));
    let drawn_ceilings = ceilings().map(|ceiling| drawn_ceiling(ceiling, &scale, &mut taken)).collect();
    let lines = figure.lines.iter().map(|line| drawn_line(line, &scale, &mut taken)).collect();
    let texts_x = if figure.names.is_empty() { labels(&marks_x) } else { figure.names.clone() };
    let marks = |places: Vec<f64>, texts: Vec<String>| {
        let marks = places.into_iter().zip(texts).map(|(at, text)| {
            // What would stick out at the right edge ends there.
            let half = text.chars().count() as f64 * LETTER / 2.0;
            let anchor = if at + half > WIDTH + MARGIN { "end" } else { "middle" };
            Mark { at: coordinate(at), text, anchor }
        });
        marks.collect::<Vec<Mark>>()
    };
    let texts_y = labels(&ticks_y);
    Some(Drawing {
        title: figure.title.clone(),
        note: figure.note.clone(),
        range: range_in_words(figure, &scale, &far),
        x: figure.x.clone(),
        y: figure.y.clone(),
        marks_x: marks(marks_x.iter().map(|value| scale.x(*value)).collect(), texts_x),
        marks_y: marks(ticks_y.iter().map(|value| scale.y(*value)).collect(), texts_y),
        bands,
        lines,
        ceilings: drawn_ceilings,
        is_part: figure.window.is_some(),
    })
}

/// The marks that leave the lines at least half of each axis, and those that would not.
fn marked(figure: &Figure, (of_x, of_y): Window) -> (Vec<&Ceiling>, Vec<&Ceiling>) {
    let leaves_room = |value: f64, (low, high): (f64, f64)| {
        let span = high.max(value) - low.min(value);
        high == low || span <= 2.0 * (high - low) * (1.0 + 1e-9)
    };
    let is_within = |value: f64, (low, high): (f64, f64)| (low..=high).contains(&value);
    figure.ceilings.iter().partition(|ceiling| match figure.window {
        Some((x, y)) => ceiling.x.is_none_or(|at| is_within(at, x)) && is_within(ceiling.y, y),
        None => ceiling.x.is_none_or(|x| leaves_room(x, of_x)) && leaves_room(ceiling.y, of_y),
    })
}

/// From where to where the axes go, where a reader may take that for all there is, and what lies beyond.
fn range_in_words(figure: &Figure, scale: &Scale<'_>, far: &[&Ceiling]) -> String {
    // What stands in brackets is at the axis itself.
    let bare = |name: &str| name.split(" (").next().unwrap_or_default().to_owned();
    let part = |name: &str, (low, high): (f64, f64)| format!("{} from {} to {}", bare(name), plain(low), plain(high));
    let is_part = figure.is_of_shares && (scale.x != (0.0, 1.0) || scale.y != (0.0, 1.0));
    let mut words = match is_part {
        true => format!("Drawn: {}, {}.", part(&figure.x, scale.x), part(&figure.y, scale.y)),
        false => String::new(),
    };
    for ceiling in far {
        let x = ceiling.x.map_or(String::new(), |x| format!("{} {}, ", bare(&figure.x), plain(x)));
        let beyond = format!("Outside of it: {} ({x}{} {}).", ceiling.label, bare(&figure.y), plain(ceiling.y));
        words = [words, beyond].into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ");
    }
    words
}

fn drawn_band(band: &Band, scale: &Scale<'_>) -> Option<DrawnBand> {
    // What lies outside of the picture is cut by its edge.
    let within = |value: f64, (low, high): (f64, f64)| value.clamp(low, high);
    let corner = |at: f64, value: f64| match band.is_horizontal {
        true => scale.point(within(value, scale.x), at),
        false => scale.point(at, within(value, scale.y)),
    };
    let there = band.intervals.iter().map(|(at, low, _)| corner(*at, *low));
    let back = band.intervals.iter().rev().map(|(at, _, high)| corner(*at, *high));
    let points: Vec<String> = there.chain(back).collect();
    (band.intervals.len() > 1).then(|| DrawnBand { place: band.place, points: points.join(" ") })
}

fn drawn_ceiling(ceiling: &Ceiling, scale: &Scale<'_>, taken: &mut Taken) -> DrawnCeiling {
    let (x, y) = (ceiling.x.map(|x| scale.x(x)), scale.y(ceiling.y));
    let place = ceiling.x.map_or(String::new(), |x| format!("{} {}, ", scale.figure.x, plain(x)));
    DrawnCeiling {
        label: label(&ceiling.label, x.unwrap_or(WIDTH), y, taken),
        x: x.map(coordinate),
        y: coordinate(y),
        text: format!("{}: {place}{} {}", ceiling.label, scale.figure.y, plain(ceiling.y)),
    }
}

fn drawn_line(line: &Line, scale: &Scale<'_>, taken: &mut Taken) -> DrawnLine {
    let is_drawn = |dot: &&Dot| {
        let within = |value: f64, (low, high): (f64, f64)| low <= value && value <= high;
        scale.figure.window.is_none() || within(scale.along(dot.x), scale.x) && within(dot.y, scale.y)
    };
    let dots = line.points.iter().filter(is_drawn).map(|dot| {
        let (cx, cy) = (scale.x(dot.x), scale.y(dot.y));
        DrawnDot {
            cx: coordinate(cx),
            cy: coordinate(cy),
            x: dot.x.to_string(),
            y: dot.y.to_string(),
            text: described(scale.figure, line, dot),
            ringed: dot.ringed,
            label: label(&dot.label, cx, cy, taken),
        }
    });
    let dots = if line.points.len() > DOTS { Vec::new() } else { dots.collect() };
    let points: Vec<String> = line.points.iter().map(|dot| scale.point(dot.x, dot.y)).collect();
    DrawnLine {
        arm: line.arm.clone(),
        place: line.place,
        thin: line.run.is_some(),
        points: if line.apart { String::new() } else { points.join(" ") },
        dots,
    }
}

/// The pieces of the lines of arms; those of seeds are faint.
fn segments(figure: &Figure, scale: &Scale<'_>) -> Vec<Segment> {
    let lines = figure.lines.iter().filter(|line| !line.apart && line.run.is_none());
    let at = |dot: &Dot| (scale.x(dot.x), scale.y(dot.y));
    lines.flat_map(|line| line.points.windows(2).map(move |pair| (at(&pair[0]), at(&pair[1])))).collect()
}

fn described(figure: &Figure, line: &Line, dot: &Dot) -> String {
    let name = line.run.as_ref().unwrap_or(&line.arm);
    let label = if dot.label.is_empty() { String::new() } else { format!(", {}", dot.label) };
    let x = match figure.names.get(dot.x as usize) {
        Some(name) => name.clone(),
        None => plain(dot.x),
    };
    format!("{name}{label}: {} {x}, {} {}", figure.x, figure.y, plain(dot.y))
}

/// Numbers of a logarithmic axis, as many of them as leave room for each other.
fn apart(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let Some((low, high)) = range(values.iter().map(|value| value.log10())) else { return values };
    let mut last = f64::NEG_INFINITY;
    values.retain(|value| {
        let at = place(value.log10(), low, high) * WIDTH;
        let has_room = at - last >= 60.0;
        if has_room {
            last = at;
        }
        has_room
    });
    values
}

/// The range with the marks in it, which round it off.
fn wider(low: f64, high: f64, ticks: &[f64]) -> (f64, f64) {
    match ticks {
        [first, .., last] => (low.min(*first), high.max(*last)),
        _ => (low, high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(points: &[(f64, f64)], logarithmic: bool) -> Figure {
        let dot = |(x, y): &(f64, f64)| Dot { x: *x, y: *y, label: "T 1".into(), ringed: false };
        let line =
            Line { arm: "a".into(), place: Some(0), points: points.iter().map(dot).collect(), ..Line::default() };
        Figure { x: "x".into(), y: "y".into(), logarithmic, lines: vec![line], ..Figure::default() }
    }

    #[test]
    fn the_corners_of_the_range_are_those_of_the_drawing() {
        let drawing = draw(&figure(&[(0.0, 0.0), (0.5, 0.25), (1.0, 1.0)], false)).expect("points");
        assert_eq!(drawing.lines[0].points, "0.0,260.0 260.0,195.0 520.0,0.0");
        let texts: Vec<&str> = drawing.marks_y.iter().map(|mark| &mark.text[..]).collect();
        assert_eq!(texts, ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        let logarithmic = draw(&figure(&[(10.0, 0.0), (100.0, 0.5), (1000.0, 1.0)], true)).expect("points");
        assert_eq!(logarithmic.lines[0].points, "0.0,260.0 260.0,130.0 520.0,0.0");
        assert_eq!(logarithmic.marks_x[1].text, "100");
    }

    #[test]
    fn labels_that_would_overlap_move_or_are_left_to_the_hovering_text() {
        let points = [(0.0, 0.0), (0.01, 0.0), (0.02, 0.0), (0.03, 0.0), (1.0, 1.0)];
        let drawing = draw(&figure(&points, false)).expect("points");
        let labels: Vec<_> = drawing.lines[0].dots.iter().map(|dot| dot.label.as_ref().map(|l| l.anchor)).collect();
        // At the left and at the bottom edge there is but one place.
        assert_eq!(labels, [Some("start"), None, None, None, Some("end")]);
        assert!(drawing.lines[0].dots[1].text.starts_with("a, T 1: x 0.01"));
    }

    /// A line that falls steeply to the right of a place: its label stands to the left.
    #[test]
    fn labels_leave_lines_free_where_there_is_room() {
        let mut figure = figure(&[(0.5, 0.5)], false);
        let dot = |x: f64, y: f64| Dot { x, y, ..Dot::default() };
        let fall = vec![dot(0.0, 1.0), dot(0.53, 0.9), dot(0.54, 0.0), dot(1.0, 0.0)];
        figure.lines.push(Line { arm: "b".into(), place: Some(1), points: fall, ..Line::default() });
        let anchor = |figure: &Figure| {
            let drawing = draw(figure).expect("points");
            drawing.lines[0].dots[0].label.as_ref().map(|label| label.anchor)
        };
        assert_eq!(anchor(&figure), Some("end"));
        // Seeds are faint, and dots that no line joins are no line.
        figure.lines[1].run = Some("seed".into());
        assert_eq!(anchor(&figure), Some("start"));
        (figure.lines[1].run, figure.lines[1].apart) = (None, true);
        assert_eq!(anchor(&figure), Some("start"));
    }

    #[test]
    fn a_ceiling_widens_the_picture_and_a_band_stays_inside_of_it() {
        let mut figure = figure(&[(0.0, 0.0), (0.5, 0.5)], false);
        figure.ceilings = vec![Ceiling { x: None, y: 1.0, label: "perfect".into() }];
        figure.bands =
            vec![Band { place: 0, is_horizontal: false, intervals: vec![(0.0, -1.0, 0.1), (0.5, 0.4, 2.0)] }];
        let drawing = draw(&figure).expect("points");
        assert_eq!((&drawing.lines[0].points[..], &drawing.ceilings[0].y[..]), ("0.0,260.0 520.0,130.0", "0.0"));
        assert_eq!(drawing.bands[0].points, "0.0,260.0 520.0,156.0 520.0,0.0 0.0,234.0");
    }

    /// A perfect model far from all that is drawn would make a knot of it: it is told instead, and so is what is drawn.
    #[test]
    fn axes_fit_the_lines_and_the_words_say_which_part_is_drawn() {
        let mut figure = figure(&[(0.5, 0.25), (0.55, 0.26)], false);
        figure.ceilings = vec![Ceiling { x: Some(1.0), y: 1.0, label: "perfect".into() }];
        (figure.x, figure.y, figure.is_of_shares) = ("recall (f8)".into(), "precision".into(), true);
        let drawing = draw(&figure).expect("points");
        assert_eq!(drawing.lines[0].points, "0.0,260.0 520.0,0.0");
        let words = "Drawn: recall from 0.5 to 0.55, precision from 0.25 to 0.26. Outside of it: perfect (recall 1, precision 1).";
        assert!(drawing.range == words && drawing.ceilings.is_empty(), "{}", drawing.range);
        figure.lines[0].points[1] = Dot { x: 0.8, y: 0.7, ..Dot::default() };
        let drawing = draw(&figure).expect("points");
        assert_eq!(
            (drawing.ceilings.len(), &drawing.range[..]),
            (1, "Drawn: recall from 0.5 to 1, precision from 0.2 to 1.")
        );
    }

    #[test]
    fn a_window_shows_its_part_and_the_numbers_stay() {
        let mut figure = figure(&[(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)], false);
        figure.window = Some(((0.4, 0.6), (0.4, 0.6)));
        let drawing = draw(&figure).expect("points");
        assert_eq!((drawing.lines[0].dots.len(), drawing.lines[0].dots[0].x.as_str()), (1, "0.5"));
        assert!(drawing.is_part && drawing.lines[0].points.starts_with("-1040.0,780.0 260.0,130.0"), "{drawing:?}");
        assert_eq!(drawing.marks_x.iter().map(|mark| &mark.text[..]).collect::<Vec<_>>().len(), drawing.marks_y.len());
        assert_eq!((&drawing.marks_x[0].text[..], figure.lines[0].points.len()), ("0.4", 3));
    }

    #[test]
    fn one_point_stands_in_the_middle_and_none_is_no_picture() {
        let drawing = draw(&figure(&[(0.5, 0.5)], false)).expect("a point");
        assert_eq!(drawing.lines[0].points, "260.0,130.0");
        assert!(draw(&figure(&[], false)).is_none());
    }

    #[test]
    fn names_stand_in_place_of_numbers() {
        let mut figure = figure(&[(0.0, 0.0), (1.0, 0.5)], false);
        figure.names = vec!["nll".into(), "cdiv".into()];
        let drawing = draw(&figure).expect("points");
        assert_eq!(
            drawing.marks_x.iter().map(|mark| (&mark.at[..], &mark.text[..])).collect::<Vec<_>>(),
            [("130.0", "nll"), ("390.0", "cdiv")]
        );
        assert!(drawing.lines[0].dots[1].text.contains("x cdiv, y 0.5"));
    }
}
