//! The pictures over temperature and number of samples as numbers: a line for each arm's mean, and thin ones for its seeds.

use metrics::counts::DISTINCT;
use metrics::divergence::LOSS;
use metrics::frontier::over_seeds;
use metrics::interval::Mean;
use metrics::relaxed_semantic_entropy::RELAXED_SEMANTIC_ENTROPY;
use metrics::validity::VALIDITY;

use crate::axis::{range, ticks};
use crate::chart::{Band, Ceiling, Dot, Figure, Line, Window};
use crate::keys::title;
use crate::number::plain;
use crate::pairs::half_width;
use crate::read::{Arm, Point, Run, nearest, temperatures};
use crate::verdict::{BY_BYTES, LIKELIHOOD, PRECISION, RECALL};

/// Recall beside F_8: the expected part of the targets in so many samples.
const COVERAGE: &str = "coverage@100";

/// Around the points of the user's temperature an enlarged picture shows at least this part of each axis, both ways.
const LEAST_PART: f64 = 0.08;

/// A part of the picture up to this share of each axis is enlarged.
const ENLARGED: f64 = 0.6;

/// Precisions at which a band has its intervals.
const BAND: usize = 25;

/// What all pictures need.
pub struct View<'a> {
    /// What is drawn.
    pub arms: &'a [Arm<'a>],
    /// The user's own temperature.
    pub temperature: f64,
    /// What a perfect model covers, by the number of samples, where the truth is known.
    pub ceiling: Vec<(f64, f64)>,
}

impl View<'_> {
    /// The measured temperature that is nearest to the user's.
    pub fn nearest(&self) -> Option<f64> {
        nearest(&temperatures(self.arms), self.temperature)
    }
}

/// The first pictures: precision against recall over temperature.
pub fn frontiers(view: &View<'_>) -> Vec<Figure> {
    let covered = view.ceiling.iter().find(|(count, _)| *count == 100.0).map(|(_, covered)| *covered);
    let recalls = [(RECALL, title(RECALL), Some(1.0)), (COVERAGE, title(COVERAGE), covered)];
    let figures = recalls.into_iter().map(|(key, name, perfect)| {
        let lines = lines(view, true, |run| {
            let points = run.points.iter();
            points.filter_map(|point| Some((point.value(key)?, point.value(PRECISION)?, point.temperature?))).collect()
        });
        let bands: Vec<Band> =
            view.arms.iter().enumerate().filter_map(|(place, (_, runs))| band(place, runs, key)).collect();
        let seeds = view.arms.iter().any(|(_, runs)| runs.len() > 1);
        let mut note = format!("Dots are temperatures; the ring is {}.", plain(view.temperature));
        if seeds {
            note += " Thin lines are seeds";
            note +=
                if bands.is_empty() { "." } else { ", the band the 95 % interval of their mean at equal precision." };
        }
        if perfect.is_none() {
            note += " What a perfect model covers is not known here.";
        }
        let ceilings = perfect.map(|x| Ceiling { x: Some(x), y: 1.0, label: "perfect".into() });
        Figure {
            title: format!("Precision against {name}, over temperature"),
            note,
            x: name,
            y: title(PRECISION),
            lines,
            bands,
            ceilings: ceilings.into_iter().collect(),
            is_of_shares: true,
            ..Figure::default()
        }
    });
    let figures = figures.filter(Figure::has_points);
    figures.flat_map(|figure| [enlarged(&figure), Some(figure)].into_iter().flatten().rev()).collect()
}

/// The same around the user's temperature, where all of it leaves that part too small to be read.
fn enlarged(figure: &Figure) -> Option<Figure> {
    let dots = || figure.lines.iter().flat_map(|line| &line.points);
    let ringed = || dots().filter(|dot| dot.ringed);
    // Means have rings, and their seeds stand around them.
    let of = |part: fn(&Dot) -> f64| -> Option<((f64, f64), bool)> {
        let (low, high) = range(ringed().map(part))?;
        let (least, most) = range(dots().map(part))?;
        let (all, margin) = (most - least, (high - low).max(LEAST_PART * (most - least)));
        let window = ((low - margin).max(least), (high + margin).min(most));
        // Round numbers hold the window: the picture goes from mark to mark.
        let marks = ticks(window.0, window.1);
        let window = (window.0.min(marks[0]), window.1.max(*marks.last()?));
        Some((window, window.1 - window.0 <= ENLARGED * all))
    };
    let ((x, is_small_x), (y, is_small_y)) = (of(|dot| dot.x)?, of(|dot| dot.y)?);
    let window: Window = (x, y);
    (is_small_x && is_small_y && ringed().count() > 1).then(|| Figure {
        title: format!("{}, enlarged", figure.title),
        note: "The part of the picture before this one where your temperature is; lines go on outside of it.".into(),
        window: Some(window),
        ..figure.clone()
    })
}

/// The other curves: coverage, pass@k, what temperature does, and likelihood against diversity.
pub fn curves(view: &View<'_>) -> Vec<Figure> {
    let mut figures = Vec::new();
    let temperature = view.nearest();
    let at = temperature.map_or(String::new(), |temperature| format!(" at temperature {}", plain(temperature)));
    let counts = |name: &'static str, of: Option<f64>| {
        lines(view, false, move |run| {
            let series = run.at(of).map(|point| point.series(name)).unwrap_or_default();
            series
                .into_iter()
                .filter(|(count, _)| *count > 0.0)
                .map(|(count, value)| (count, value, f64::NAN))
                .collect()
        })
    };
    let mut covered = curve(
        format!("Coverage against the number of samples{at}"),
        "samples",
        "coverage",
        counts("coverage", temperature),
    );
    covered.logarithmic = true;
    if covered.has_points() && !view.ceiling.is_empty() {
        let point = |(x, y): &(f64, f64)| Dot { x: *x, y: *y, ..Dot::default() };
        let points = view.ceiling.iter().map(point).collect();
        covered.lines.push(Line { arm: "perfect".into(), points, ..Line::default() });
        covered.note = "Dashed: what a perfect model covers.".into();
    }
    figures.push(covered);
    for (name, title, y) in [
        ("rarefied", "Different texts against the number of samples", "different texts"),
        ("pass_at_k", "pass@k against k", "pass@k"),
    ] {
        let mut figure = curve(title.into(), if name == "rarefied" { "samples" } else { "k" }, y, counts(name, None));
        figure.logarithmic = true;
        figures.push(figure);
    }
    for (key, name) in
        [(PRECISION, title(PRECISION)), (RECALL, title(RECALL)), (COVERAGE, title(COVERAGE)), likelihood(view)]
    {
        let lines = lines(view, false, |run| {
            let points = run.points.iter();
            points.filter_map(|point| Some((point.temperature?, point.value(key)?, f64::NAN))).collect()
        });
        figures.push(curve(capital(&name) + " against temperature", "temperature", &name, lines));
    }
    figures.extend([quality(view), of_samples(view)]);
    figures.retain(Figure::has_points);
    for figure in &mut figures {
        figure.bands = if figure.lines.iter().any(|line| line.apart) { Vec::new() } else { upright(figure, view.arms) };
    }
    figures
}

/// What held-out likelihood is drawn as, with its title: by tokens, and where tokenizers differ by bytes.
fn likelihood(view: &View<'_>) -> (&'static str, String) {
    let mut runs = view.arms.iter().flat_map(|(_, runs)| runs);
    let first = runs.next();
    let key = match first.is_some_and(|first| runs.any(|run| !run.has_same_tokens(first))) {
        true => BY_BYTES,
        false => LIKELIHOOD,
    };
    (key, format!("held-out {}", title(key)))
}

/// Held-out likelihood against diversity: a dot for each run, at the user's temperature and at 1.
fn quality(view: &View<'_>) -> Figure {
    let has = |key: &str| {
        view.arms.iter().flat_map(|(_, runs)| runs).any(|run| run.at(Some(1.0)).is_some_and(|p| p.value(key).is_some()))
    };
    // The loss on targets is the held-out likelihood of whole answers, weighted by the truth.
    let (key, name) = match likelihood(view).0 {
        BY_BYTES if has(BY_BYTES) => (BY_BYTES, "held-out bits per byte"),
        LIKELIHOOD if has(LIKELIHOOD) => (LIKELIHOOD, "held-out nll a token"),
        _ => (LOSS.name, "nll of an answer (loss)"),
    };
    let temperature = view.nearest();
    let lines = scattered(view, |run| Some((run.at(temperature)?.value(RECALL)?, run.at(Some(1.0))?.value(key)?)));
    let at = temperature.map_or(String::new(), plain);
    let mut figure = curve("Quality against diversity".into(), &title(RECALL), name, lines);
    figure.note = format!(
        "Lower and further to the right is better. Recall at temperature {at}, likelihood at 1; small dots are seeds."
    );
    figure
}

/// The same of samples alone: how many are right against how different they are.
fn of_samples(view: &View<'_>) -> Figure {
    let value = |run: &Run, key: &str| run.at(None)?.value(key);
    let first = |keys: [&'static str; 2]| {
        let is_measured = |key: &str| view.arms.iter().flat_map(|(_, runs)| runs).any(|run| value(run, key).is_some());
        keys.into_iter().find(|key| is_measured(key)).unwrap_or(keys[1])
    };
    let right = first(["pass_at_k@1", VALIDITY.name]);
    let different = first([RELAXED_SEMANTIC_ENTROPY.name, DISTINCT.name]);
    let lines = scattered(view, |run| Some((value(run, different)?, value(run, right)?)));
    let mut figure = curve("Quality against diversity of samples".into(), &title(different), &title(right), lines);
    figure.note = "Higher and further to the right is better; small dots are seeds.".into();
    figure
}

/// A dot for each run and one for the mean of each arm.
fn scattered(view: &View<'_>, dot: impl Fn(&Run) -> Option<(f64, f64)>) -> Vec<Line> {
    let mut lines = lines(view, false, |run| dot(run).map(|(x, y)| (x, y, f64::NAN)).into_iter().collect());
    // Each run has a point of its own: the mean of an arm is that of both numbers.
    for (place, (arm, runs)) in view.arms.iter().enumerate().filter(|(_, (_, runs))| runs.len() > 1) {
        let points: Vec<&Dot> =
            lines.iter().filter(|l| l.arm == *arm && l.run.is_some()).flat_map(|l| &l.points).collect();
        if points.len() == runs.len() {
            let of = |part: fn(&Dot) -> f64| Mean::of(&points.iter().map(|dot| part(dot)).collect::<Vec<_>>()).mean;
            let dot = Dot { x: of(|dot| dot.x), y: of(|dot| dot.y), ..Dot::default() };
            lines.retain(|line| line.arm != *arm || line.run.is_some());
            lines.push(Line { arm: (*arm).into(), place: Some(place), points: vec![dot], ..Line::default() });
        }
    }
    lines.iter_mut().for_each(|line| line.apart = true);
    lines
}

fn curve(title: String, x: &str, y: &str, lines: Vec<Line>) -> Figure {
    Figure { title, x: x.into(), y: y.into(), lines, ..Figure::default() }
}

/// With a capital letter, as a sentence begins.
fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

impl Figure {
    /// False where there is nothing to draw.
    pub fn has_points(&self) -> bool {
        self.lines.iter().any(|line| !line.points.is_empty())
    }
}

/// The lines of what `points` gives of a run: x, y, and the temperature that stands beside it (NaN for none). The mean is
/// that of the places that every run has.
pub(crate) fn lines(view: &View<'_>, ringed: bool, points: impl Fn(&Run) -> Vec<(f64, f64, f64)>) -> Vec<Line> {
    let mut lines = Vec::new();
    let dots = |points: &[(f64, f64, f64)], labelled: bool| {
        let dot = |(x, y, temperature): &(f64, f64, f64)| Dot {
            x: *x,
            y: *y,
            label: if labelled && !temperature.is_nan() { format!("T {}", plain(*temperature)) } else { String::new() },
            ringed: ringed && labelled && *temperature == view.temperature,
        };
        points.iter().map(dot).collect()
    };
    for (place, (arm, runs)) in view.arms.iter().enumerate() {
        let seeds: Vec<Vec<(f64, f64, f64)>> = runs.iter().map(|run| points(run)).collect();
        let line = |run, points| Line { arm: (*arm).into(), place: Some(place), run, apart: false, points };
        if seeds.len() > 1 {
            for (run, points) in runs.iter().zip(&seeds) {
                lines.push(line(Some(run.name.clone()), dots(points, false)));
            }
        }
        lines.push(line(None, dots(&mean(&seeds), true)));
    }
    lines.retain(|line| !line.points.is_empty());
    // Means lie above the seeds of all arms.
    lines.sort_by_key(|line| line.run.is_none());
    lines
}

/// Points of the same temperature, or else of the same x, averaged; those that a run lacks are left out.
fn mean(seeds: &[Vec<(f64, f64, f64)>]) -> Vec<(f64, f64, f64)> {
    let key = |point: &(f64, f64, f64)| if point.2.is_nan() { point.0 } else { point.2 };
    let Some((first, _)) = seeds.split_first() else { return Vec::new() };
    let at = |point: &(f64, f64, f64)| {
        let same: Option<Vec<_>> =
            seeds.iter().map(|points| points.iter().find(|other| key(other) == key(point))).collect();
        let same = same?;
        let of = |part: fn(&(f64, f64, f64)) -> f64| {
            let values: Vec<f64> = same.iter().map(|p| part(p)).collect();
            // The mean of equal numbers is that number, to the last bit.
            if values.iter().all(|value| *value == values[0]) { values[0] } else { Mean::of(&values).mean }
        };
        Some((of(|p| p.0), of(|p| p.1), point.2))
    };
    first.iter().filter_map(at).collect()
}

/// The interval of the mean recall over seeds at equal precision, along the horizontal axis.
fn band(place: usize, runs: &[&Run], recall: &str) -> Option<Band> {
    let seeds: Vec<Vec<(f64, f64)>> = runs.iter().map(|run| run.curve(PRECISION, recall)).collect();
    let (low, high) = range(seeds.iter().flatten().map(|point| point.0))?;
    let grid: Vec<f64> = (0..=BAND).map(|step| low + (high - low) * step as f64 / BAND as f64).collect();
    let means = over_seeds(&seeds, &grid);
    let intervals = grid.iter().zip(means).filter_map(|(precision, mean)| {
        let mean = mean?;
        let half = half_width(&mean)?;
        Some((*precision, mean.mean - half, mean.mean + half))
    });
    let intervals: Vec<_> = intervals.collect();
    (intervals.len() > 1).then_some(Band { place, is_horizontal: true, intervals })
}

/// The intervals of the mean over seeds at each place of the horizontal axis.
fn upright(figure: &Figure, arms: &[Arm<'_>]) -> Vec<Band> {
    let of = |place: usize| {
        let seeds: Vec<&Line> = figure.lines.iter().filter(|l| l.place == Some(place) && l.run.is_some()).collect();
        let mean = figure.lines.iter().find(|line| line.place == Some(place) && line.run.is_none())?;
        let intervals = mean.points.iter().filter_map(|dot| {
            let values: Vec<f64> = seeds
                .iter()
                .filter_map(|line| line.points.iter().find(|other| other.x == dot.x))
                .map(|dot| dot.y)
                .collect();
            let half = (values.len() > 1).then(|| half_width(&Mean::of(&values)))??;
            Some((dot.x, dot.y - half, dot.y + half))
        });
        let intervals: Vec<_> = intervals.collect();
        (intervals.len() > 1).then_some(Band { place, is_horizontal: false, intervals })
    };
    (0..arms.len()).filter_map(of).collect()
}

/// What a perfect model covers in so many samples, the mean over the prompts: as it was printed, or where the probabilities
/// of every prompt's targets were.
pub fn ceiling(runs: &[Run]) -> Vec<(f64, f64)> {
    // `trainer eval` knows it of its rows.
    if let Some(known) = runs.iter().flat_map(|run| &run.points).find(|point| !point.perfect_coverage.is_empty()) {
        return known.perfect_coverage.clone();
    }
    let with_targets = |run: &&Run| run.points.iter().any(|point| !point.series("coverage").is_empty());
    let Some(run) = runs.iter().find(with_targets) else { return Vec::new() };
    let prompts = || run.parts.iter().filter(|part| part.is_prompt);
    let known: Vec<&Point> =
        prompts().filter_map(|part| part.points.iter().find(|point| !point.targets.is_empty())).collect();
    if known.is_empty() || known.len() < prompts().count() {
        return Vec::new();
    }
    let counts = run.points.iter().map(|point| point.series("coverage")).find(|series| !series.is_empty());
    let covered = |count: f64| {
        let of = |point: &&Point| {
            let seen = point.targets.iter().map(|target| -(count * (-target.p.min(1.0)).ln_1p()).exp_m1());
            seen.sum::<f64>() / point.targets.len() as f64
        };
        known.iter().map(of).sum::<f64>() / known.len() as f64
    };
    counts.unwrap_or_default().into_iter().map(|(count, _)| (count, covered(count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{Part, Target, arms};
    use crate::testing::run;

    #[test]
    fn the_mean_of_seeds_lies_above_them_with_its_temperatures() {
        let runs = [run("n,seed=1", &[(0.5, 0.9, 0.5), (1.0, 0.7, 0.6)]), run("n,seed=2", &[(0.5, 0.7, 0.3)])];
        let view = View { arms: &arms(&runs), temperature: 0.5, ceiling: Vec::new() };
        let figure = frontiers(&view).into_iter().next().expect("a picture");
        let [one, two, mean] = &figure.lines[..] else { panic!("{figure:?}") };
        assert_eq!(
            (one.run.as_deref(), two.run.as_deref(), mean.run.as_deref()),
            (Some("n,seed=1"), Some("n,seed=2"), None)
        );
        assert_eq!((one.points.len(), &one.points[0].label[..]), (2, ""));
        let [dot] = &mean.points[..] else { panic!("{mean:?}") };
        assert!((dot.x - 0.4).abs() < 1e-12 && (dot.y - 0.8).abs() < 1e-12 && dot.label == "T 0.5" && dot.ringed);
    }

    #[test]
    fn the_band_is_the_interval_of_the_seeds_at_equal_precision() {
        let seed = |name: &str, shift: f64| run(name, &[(0.5, 0.9, 0.5 + shift), (1.0, 0.5, 0.7 + shift)]);
        let runs = [seed("n,seed=1", 0.0), seed("n,seed=2", 0.02), seed("n,seed=3", 0.04)];
        let band = band(0, &runs.iter().collect::<Vec<_>>(), RECALL).expect("three seeds");
        let (precision, low, high) = band.intervals[0];
        assert_eq!((band.intervals.len(), precision), (BAND + 1, 0.5));
        let half = 4.302_652_73 * 0.02 / 3f64.sqrt();
        assert!((low - (0.72 - half)).abs() < 1e-8 && (high - (0.72 + half)).abs() < 1e-8, "{low} {high}");
    }

    /// Two arms that differ by little where the user samples, and go far away at other temperatures.
    #[test]
    fn the_part_around_the_users_temperature_is_enlarged_where_it_is_small() {
        let of = |shift: f64, name: &str| run(name, &[(0.5, 1.0, 0.1), (1.0, 0.9, 0.8 + shift), (2.0, 0.0, 0.05)]);
        let runs = [of(0.0, "n"), of(0.02, "c")];
        let view = View { arms: &arms(&runs), temperature: 1.0, ceiling: Vec::new() };
        let [whole, part] = &frontiers(&view)[..] else { panic!("a picture and a part of it") };
        let window = part.window.expect("a part");
        assert!(whole.window.is_none() && part.title.ends_with(", enlarged") && part.lines == whole.lines);
        assert!(window.0.0 > 0.6 && window.0.1 < 1.0 && window.1.0 > 0.7 && window.1.1 <= 1.0, "{window:?}");
        // Of one model, or where all of the curve is near, there is nothing to enlarge.
        let one = View { arms: &arms(&runs[..1]), temperature: 1.0, ceiling: Vec::new() };
        assert_eq!(frontiers(&one).len(), 1);
        let near = [run("n", &[(0.5, 0.9, 0.7), (1.0, 0.8, 0.8)]), run("c", &[(0.5, 0.8, 0.75), (1.0, 0.7, 0.85)])];
        assert_eq!(frontiers(&View { arms: &arms(&near), temperature: 1.0, ceiling: Vec::new() }).len(), 1);
    }

    /// Uniform over four, EVALUATION 1.4: 2.734375 of them in four samples.
    #[test]
    fn what_a_perfect_model_covers_is_known_from_the_truth() {
        let mut model = run("a", &[(1.0, 0.5, 0.5)]);
        model.points[0].values.push(("coverage@4".into(), 0.3));
        let target = Target { text: "x".into(), p: 0.25, q: 0.1 };
        let point = Point { temperature: Some(1.0), targets: vec![target; 4], ..Point::default() };
        model.parts = vec![Part { name: "p".into(), is_prompt: true, points: vec![point], ..Part::default() }];
        let found = ceiling(std::slice::from_ref(&model));
        assert!(found[0].0 == 4.0 && (found[0].1 - 2.734375 / 4.0).abs() < 1e-12, "{found:?}");
        model.parts.push(Part { name: "q".into(), is_prompt: true, ..Part::default() });
        assert!(ceiling(&[model]).is_empty());
    }
}
