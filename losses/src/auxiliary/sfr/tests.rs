use std::collections::BTreeMap;

use faults::{Document, Faults, Section};
use serde_json::Value;

use super::targets::TargetRule;
use super::*;
use crate::RowVectors;

const KEYS: &str = "encoder = \"builtin:words\"\nk = 4\nstride = 1\nmin_suffix = 1\nhead_width = 8\n";
const DIMENSION: usize = 6;
const HIDDEN: usize = 5;

fn read(keys: &str) -> Result<AuxiliaryBuilder, Faults> {
    let document = Document::parse("recipe.toml", &format!("[auxiliary]\n{keys}\n"), &[])?;
    let mut root = document.root();
    let mut section = root.section("auxiliary");
    let builder = (SFR.build)(&mut section);
    root.close(section);
    root.end();
    document.finish().map(|()| builder)
}

/// Vectors of unit length that differ from text to text.
fn vectors(counts: &[usize]) -> RowVectors {
    let texts = counts.iter().sum::<usize>();
    let values = (0..texts).flat_map(|text| {
        let angle = text as f32 + 1.0;
        [angle.sin(), 0.0, angle.cos(), 0.0, 0.0, 0.0]
    });
    RowVectors::new(DIMENSION, values.collect(), counts)
}

fn surroundings(counts: &[usize], steps: usize) -> Surroundings {
    let embeddings = Embeddings { dimension: DIMENSION, train: vectors(counts), eval: vectors(counts) };
    Surroundings {
        hidden_size: HIDDEN,
        vocabulary: 20,
        device: Device::flex(),
        seed: 3,
        steps,
        embeddings: Some(Arc::new(embeddings)),
    }
}

/// Rows of a prompt of two tokens and a response of `length`.
fn rows(lengths: &[usize]) -> Vec<Row> {
    let row = |(example, length): (usize, &usize)| Row {
        ids: (0..length + 2).map(|id| id as u32).collect(),
        learned: (0..length + 2).map(|token| token >= 2).collect(),
        example,
    };
    lengths.iter().enumerate().map(row).collect()
}

/// Places with a future, at a stride of 1, have a text each.
fn counts(lengths: &[usize]) -> Vec<usize> {
    lengths.iter().map(|length| length - 1).collect()
}

fn build(keys: &str, lengths: &[usize]) -> Box<dyn Auxiliary> {
    let builder = read(&format!("{KEYS}{keys}")).unwrap_or_else(|faults| panic!("{faults}"));
    (builder.build)(&surroundings(&counts(lengths), 10))
}

fn hidden(rows: usize, width: usize) -> Tensor<3> {
    let values: Vec<f32> = (0..rows * width * HIDDEN).map(|index| ((index * 37 % 101) as f32 - 50.0) / 40.0).collect();
    Tensor::from_data(TensorData::new(values, [rows, width, HIDDEN]), &Device::flex())
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

fn near(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected}");
    }
}

/// Moves every parameter off its start, so that no gradient is zero.
fn disturb(sfr: &mut dyn Auxiliary) {
    sfr.visit_parameters(&mut |_, parameter| {
        let moved =
            |count: usize| (0..count).map(|index| ((index * 29 % 17) as f32 - 8.0) / 40.0).collect::<Vec<f32>>();
        match parameter {
            Parameter::Vector(tensor) => {
                let start = tensor.clone().inner();
                let more = Tensor::<1>::from_data(&moved(start.dims()[0])[..], &Device::flex());
                *tensor = (start + more).autodiff().require_grad();
            }
            Parameter::Matrix(tensor) => {
                let start = tensor.clone().inner();
                let shape = start.dims();
                let data = TensorData::new(moved(shape[0] * shape[1]), shape);
                *tensor = (start + Tensor::from_data(data, &Device::flex())).autodiff().require_grad();
            }
        }
    });
}

/// The loss, its gradient with respect to the hidden states, and those of all parameters by name.
fn pass(
    sfr: &mut dyn Auxiliary,
    rows: &[Row],
    hidden: &Tensor<3>,
    step: usize,
) -> (f32, Option<Vec<f32>>, BTreeMap<String, Vec<f32>>) {
    let leaf = hidden.clone().autodiff().require_grad();
    let loss = sfr.loss(&HiddenBatch { hidden: leaf.clone(), rows, step, seed: 9 + step as u64 });
    let value = loss.clone().inner().into_scalar::<f32>();
    let mut gradients = loss.backward();
    let mut found = BTreeMap::new();
    sfr.visit_parameters(&mut |name, parameter| {
        let gradient = match parameter {
            Parameter::Vector(tensor) => tensor.grad_remove(&mut gradients).map(values),
            Parameter::Matrix(tensor) => tensor.grad_remove(&mut gradients).map(values),
        };
        found.insert(name.to_string(), gradient.unwrap_or_default());
    });
    (value, leaf.grad_remove(&mut gradients).map(values), found)
}

fn flat(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(values) => values.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().expect("a number") as f32],
    }
}

fn dimensions(value: &Value) -> Vec<usize> {
    match value {
        Value::Array(values) => [vec![values.len()], dimensions(&values[0])].concat(),
        _ => Vec::new(),
    }
}

/// Holds the head and the loss to numbers of PyTorch; gives the largest differences of velocity, loss and gradients.
fn compare(reference: &Value) -> [f32; 3] {
    let device = Device::flex();
    let of = |key: &str| flat(&reference[key]);
    let shape = dimensions(&reference["z0"]);
    let (rows, width, dimension) = (shape[0], shape[1], shape[2]);
    let hidden_size = dimensions(&reference["h"])[2];
    let weights = reference["weights"].as_object().expect("weights");
    let blocks = weights.keys().filter(|name| name.ends_with(".linear.weight")).count();
    let keys = format!(
        "head_width = {}\nhead_layers = {}",
        weights["input_proj.0.bias"].as_array().unwrap().len(),
        blocks + 2
    );
    let (_, _, rule) = read_targets(&mut Section::probe());
    let document = Document::parse("recipe.toml", &format!("[auxiliary]\n{keys}\n"), &[]).unwrap();
    let settings = read_settings(&mut document.root().section("auxiliary"), rule);
    document.finish().unwrap();
    let none = || RowVectors::new(dimension, Vec::new(), &[]);
    let embeddings = Some(Arc::new(Embeddings { dimension, train: none(), eval: none() }));
    let surroundings =
        Surroundings { hidden_size, vocabulary: 1, device: device.clone(), seed: 0, steps: 1, embeddings };
    let mut sfr = Sfr::new(&surroundings, settings);
    let mut names = Vec::new();
    sfr.head.visit(&mut |name, parameter| {
        let name = name.strip_prefix("head.").expect("names of the head");
        names.push(name.to_string());
        let data = TensorData::new(flat(&weights[name]), dimensions(&weights[name]));
        match parameter {
            Parameter::Vector(tensor) => {
                assert_eq!(tensor.dims().to_vec(), data.shape().to_vec(), "{name}");
                *tensor = Tensor::<1>::from_data(data, &device).autodiff().require_grad();
            }
            Parameter::Matrix(tensor) => {
                assert_eq!(tensor.dims().to_vec(), data.shape().to_vec(), "{name}");
                *tensor = Tensor::<2>::from_data(data, &device).autodiff().require_grad();
            }
        }
    });
    names.sort();
    let mut expected: Vec<&String> = weights.keys().collect();
    expected.sort();
    assert_eq!(names.iter().collect::<Vec<_>>(), expected);

    // The rows as tokens with a mask: with one target for the whole response, each of its tokens is a position.
    let mask = of("mask");
    let rule = TargetRule { window: 0, stride: 1, min_suffix: 1, mask_short: true };
    let mut positions = Vec::new();
    for row in 0..rows {
        let learned: Vec<bool> = mask[row * width..(row + 1) * width].iter().map(|mark| *mark > 0.5).collect();
        let row = Row { ids: vec![0; width], learned, example: 0 };
        positions.push(rule.positions(&row, &RowVectors::new(1, vec![1.0], &[1])));
    }
    let used: Vec<usize> = positions
        .iter()
        .enumerate()
        .flat_map(|(row, all)| all.iter().map(move |position| row * width + position.token))
        .collect();
    let rho: Vec<f32> = positions.iter().flatten().map(|position| position.weight).collect();
    let picked = |key: &str, size: usize| -> Vec<f32> {
        let all = of(key);
        used.iter().flat_map(|place| all[place * size..(place + 1) * size].to_vec()).collect()
    };
    near(&rho, &picked("rho", 1), 1e-6);
    let matrix =
        |values: Vec<f32>, size: usize| Tensor::<2>::from_data(TensorData::new(values, [used.len(), size]), &device);
    let batch = Batch { count: used.len(), positions, targets: picked("z1", dimension) };
    let noise =
        Noise { start: matrix(picked("z0", dimension), dimension), tau: Tensor::from_data(&of("tau")[..], &device) };
    let leaf = matrix(picked("h", hidden_size), hidden_size).autodiff().require_grad();
    let total = rho.iter().sum::<f32>().max(1.0);
    let loss = sfr.sum(&sfr.head, &batch, &noise, leaf.clone(), true).div_scalar(total);
    let found = loss.clone().inner().into_scalar::<f32>();
    let expected = reference["loss"].as_f64().expect("a loss") as f32;
    let untracked = sfr.sum(&sfr.head, &batch, &noise, leaf.clone().inner(), false).div_scalar(total);
    near(&values(untracked), &[found], 1e-6);

    let rows_of: Vec<i32> = used.iter().map(|place| (place / width) as i32).collect();
    let row = Tensor::<1, Int>::from_data(&rows_of[..], &device);
    let tau = noise.tau.clone().select(0, row.clone()).unsqueeze_dim::<2>(1);
    let z = noise.start.clone() * (tau.clone().neg().add_scalar(1.0)) + sfr.matrix(batch.targets.clone()) * tau;
    let velocity = values(sfr.head.forward(z, noise.tau.clone(), row, leaf.clone().inner(), false));
    let largest = |found: &[f32], expected: &[f32]| {
        assert_eq!(found.len(), expected.len());
        found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let velocity = largest(&velocity, &picked("velocity", dimension));

    let mut gradients = loss.backward();
    let hidden_gradient = values(leaf.grad_remove(&mut gradients).expect("a gradient"));
    let mut gradient = largest(&hidden_gradient, &picked("grad_h", hidden_size));
    let mut compared = 0;
    sfr.head.visit(&mut |name, parameter| {
        let key = format!("grad_{}", name.trim_start_matches("head."));
        let Some(expected) = reference.get(&key) else { return };
        let found = match parameter {
            Parameter::Vector(tensor) => tensor.grad_remove(&mut gradients).map(values),
            Parameter::Matrix(tensor) => tensor.grad_remove(&mut gradients).map(values),
        };
        gradient = gradient.max(largest(&found.expect("a gradient"), &flat(expected)));
        compared += 1;
    });
    assert!(compared > 0);

    for (flow, key) in [(Flow::Mse, "mse"), (Flow::Cosine, "cosine")] {
        if let Some(expected) = reference[key].as_f64() {
            sfr.settings.flow = flow;
            let found = sfr.sum(&sfr.head, &batch, &noise, leaf.clone().inner(), false).div_scalar(total);
            near(&values(found), &[expected as f32], 2e-6);
        }
    }
    [velocity, (found - expected).abs(), gradient]
}

#[test]
fn velocity_loss_and_gradients_are_those_of_pytorch() {
    let text = include_str!("../../../tests/fixtures/flow_head.json");
    let differences = compare(&serde_json::from_str(text).expect("a fixture"));
    assert!(differences.iter().all(|difference| *difference < 5e-6), "{differences:?}");
}

#[test]
fn the_first_loss_is_one_and_one_part_of_the_dimension() {
    // With targets of unit length E (z1 - z0)^2 is 1 + 1/d in each dimension. 400 rows of 5 positions of 6 dimensions:
    // the deviation of the mean is about sqrt(2 / 12,000) = 0.013, less the weights.
    let lengths = vec![6; 400];
    let mut sfr = build("", &lengths);
    let rows = rows(&lengths);
    let (sum, _, _) = pass(sfr.as_mut(), &rows, &hidden(400, 8), 1);
    let loss = f64::from(sum) / sfr.units(&rows);
    assert!((loss - (1.0 + 1.0 / 6.0)).abs() < 0.05, "{loss}");
}

#[test]
fn a_row_draws_the_same_whatever_it_runs_with() {
    let lengths = [6, 4, 7];
    let rows = rows(&lengths);
    let states = hidden(3, 9);
    let mut sfr = build("", &lengths);
    disturb(sfr.as_mut());
    let (whole, _, gradients) = pass(sfr.as_mut(), &rows, &states, 1);
    let mut sum = 0.0;
    let mut units = 0.0;
    let mut summed: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for row in 0..3 {
        let part = &rows[row..row + 1];
        units += sfr.units(part);
        let (value, _, gradients) = pass(sfr.as_mut(), part, &states.clone().narrow(0, row, 1), 1);
        sum += value;
        for (name, gradient) in gradients {
            let all = summed.entry(name).or_insert_with(|| vec![0.0; gradient.len()]);
            all.iter_mut().zip(gradient).for_each(|(all, more)| *all += more);
        }
    }
    assert!((sum - whole).abs() < 1e-5 * whole.abs(), "{sum} {whole}");
    assert!((units - sfr.units(&rows)).abs() < 1e-9);
    for (name, gradient) in gradients {
        near(&summed[&name], &gradient, 2e-5);
    }
    // Another step draws other numbers.
    assert!((pass(sfr.as_mut(), &rows, &states, 2).0 - whole).abs() > 1e-3);
}

#[test]
fn targets_of_other_rows_are_those_of_the_row_that_is_drawn() {
    let lengths = [6, 4, 7];
    let (rows, states) = (rows(&lengths), hidden(3, 9));
    let of = |keys: &str, step: usize| {
        let mut sfr = build(keys, &lengths);
        disturb(sfr.as_mut());
        pass(sfr.as_mut(), &rows, &states, step)
    };
    assert_eq!(of("targets = \"own\"", 1), of("", 1));
    let other = "targets = \"other_rows\"";
    assert_eq!(of(other, 1), of(other, 1));
    assert_ne!(of(other, 1).0, of("", 1).0);

    // What is learned, in what places, with what weight stays the row's own; only the vectors are the lender's, that of
    // the same place, or of its last.
    let keys = format!("{KEYS}{other}");
    let document = Document::parse("recipe.toml", &format!("[auxiliary]\n{keys}\n"), &[]).expect("TOML");
    let mut root = document.root();
    let mut section = root.section("auxiliary");
    let (_, _, rule) = read_targets(&mut section);
    let settings = read_settings(&mut section, rule);
    let sfr = Sfr::new(&surroundings(&counts(&lengths), 10), settings);
    let lenders = Lenders::new(&sfr.embeddings.train);
    let mut lent = [0; 3];
    for seed in 0..20 {
        let batch = sfr.batch(&rows, Set::Train, seed);
        let mut found = batch.targets.chunks(DIMENSION);
        for (row, positions) in rows.iter().zip(&batch.positions) {
            assert_eq!(*positions, rule.positions(row, &sfr.embeddings.train));
            let lender = lenders.draw(row.example, Set::Train, seed);
            lent[lender] += 1;
            let texts: Vec<&[f32]> = sfr.embeddings.train.of(lender).flatten().collect();
            for place in 0..positions.len() {
                assert_eq!(found.next(), Some(texts[place.min(texts.len() - 1)]), "row {}, seed {seed}", row.example);
            }
        }
        // A row alone has the same targets as among others.
        let alone = sfr.batch(&rows[1..2], Set::Train, seed);
        assert_eq!(alone.targets, batch.targets[5 * DIMENSION..8 * DIMENSION]);
    }
    assert!(lent.iter().all(|times| *times > 5), "{lent:?}");
}

#[test]
fn units_are_the_sum_of_the_weights_of_what_has_a_future() {
    let sfr = build("", &[4, 3]);
    // Responses of 4 and 3 tokens; the last token of each has no future: (4 + 3 + 2)/4 + (3 + 2)/3.
    assert!((sfr.units(&rows(&[4, 3])) - (9.0 / 4.0 + 5.0 / 3.0)).abs() < 1e-6);
}

#[test]
fn in_phase_a_the_head_learns_alone() {
    let lengths = [6, 5];
    let (rows, states) = (rows(&lengths), hidden(2, 8));
    let mut sfr = build("head_warmup = 2\nlambda_warmup = 4\nweight = 0.5\nhead_ema = 0.9", &lengths);
    disturb(sfr.as_mut());
    for (step, alone, weight) in [(1, true, 0.5), (2, true, 0.5), (3, false, 0.0), (5, false, 0.25)] {
        assert_eq!(sfr.token_loss_scale(step), if alone { 0.0 } else { 1.0 });
        assert_eq!(sfr.weight(step), weight);
        assert_eq!(sfr.damping(step), if alone { 0.0 } else { 0.9 });
        let (_, gradient, parameters) = pass(sfr.as_mut(), &rows, &states, step);
        assert_eq!(gradient.is_none_or(|gradient| gradient.iter().all(|value| *value == 0.0)), alone, "step {step}");
        assert!(parameters.values().all(|gradient| gradient.iter().any(|value| *value != 0.0)), "step {step}");
    }
}

#[test]
fn the_gate_keeps_the_gradient_from_the_hidden_states_for_a_step() {
    let lengths = [6, 5];
    let (rows, states) = (rows(&lengths), hidden(2, 8));
    let mut sfr = build("gradient_gate = true", &lengths);
    let mut plain = build("", &lengths);
    disturb(sfr.as_mut());
    disturb(plain.as_mut());
    assert_eq!(pass(sfr.as_mut(), &rows, &states, 1), pass(plain.as_mut(), &rows, &states, 1));
    sfr.after_step(1);
    // A loss far below the average: without noise to remove, a head of zeros is nearly right.
    let state = State::from([("gate".to_string(), TensorData::new(vec![0.1f32, 1.0], [2]))]);
    sfr.restore(state).expect("its own state");
    let (value, gradient, parameters) = pass(sfr.as_mut(), &rows, &states, 2);
    let (expected, _, of_plain) = pass(plain.as_mut(), &rows, &states, 2);
    assert_eq!((value, parameters), (expected, of_plain));
    assert!(gradient.expect("a gradient").iter().all(|value| *value == 0.0));
    assert!(sfr.diagnostics().iter().any(|(name, value)| name == "gate" && *value == 0.0));
    sfr.after_step(2);
    assert!(pass(sfr.as_mut(), &rows, &states, 3).1.expect("a gradient").iter().any(|value| *value != 0.0));
}

#[test]
fn the_control_changes_neither_value_nor_gradient_and_sees_the_other_row() {
    let lengths = [6, 5];
    let (rows, states) = (rows(&lengths), hidden(2, 8));
    let (mut sfr, mut plain) = (build("control = true", &lengths), build("", &lengths));
    disturb(sfr.as_mut());
    disturb(plain.as_mut());
    let (value, gradient, parameters) = pass(sfr.as_mut(), &rows, &states, 1);
    let (expected, expected_gradient, of_plain) = pass(plain.as_mut(), &rows, &states, 1);
    assert_eq!(value, expected);
    near(&gradient.expect("a gradient"), &expected_gradient.expect("a gradient"), 0.0);
    for (name, gradient) in &of_plain {
        near(&parameters[name], gradient, 0.0);
        let control = &parameters[&name.replace("head.", "control.")];
        assert!(control.iter().any(|value| *value != 0.0) && control != gradient, "{name}");
    }
    sfr.after_step(1);
    let numbers: BTreeMap<String, f64> = sfr.diagnostics().into_iter().collect();
    assert!((numbers["head"] - f64::from(value) / sfr.units(&rows)).abs() < 1e-5, "{numbers:?}");
    assert!((numbers["head"] - numbers["control"]).abs() > 1e-4, "{numbers:?}");

    // Where both rows have the same hidden states, the control sees what the head sees.
    let twins = Tensor::cat(vec![states.clone().narrow(0, 0, 1), states.narrow(0, 0, 1)], 0);
    let equal = [rows[0].ids.clone(), rows[0].ids.clone()];
    let twin_rows: Vec<Row> = equal
        .into_iter()
        .enumerate()
        .map(|(example, ids)| Row { ids, learned: rows[0].learned.clone(), example })
        .collect();
    let mut sfr = build("control = true", &[6, 6]);
    pass(sfr.as_mut(), &twin_rows, &twins, 1);
    sfr.after_step(1);
    let numbers: BTreeMap<String, f64> = sfr.diagnostics().into_iter().collect();
    assert!((numbers["head"] - numbers["control"]).abs() < 1e-6, "{numbers:?}");
}

#[test]
fn held_out_rows_are_evaluated_with_the_same_noise_every_time() {
    let lengths = [6, 5];
    let (rows, states) = (rows(&lengths), hidden(2, 8));
    let mut sfr = build("control = true", &lengths);
    disturb(sfr.as_mut());
    let mut evaluate = |step| {
        let held = sfr.evaluate(&HiddenBatch { hidden: states.clone(), rows: &rows, step, seed: 5 });
        held.into_iter().map(|held| (held.name, held.sum.into_scalar::<f32>(), held.units)).collect::<Vec<_>>()
    };
    let first = evaluate(1);
    assert_eq!(first, evaluate(7));
    assert_eq!([first[0].0, first[1].0], ["head", "control"]);
    let units = sfr.units(&rows);
    assert!((first[0].2 - 4.0 * units).abs() < 1e-9);
    // Each draw is the loss of a step with that seed.
    let mut sum = 0.0;
    for draw in 0..4 {
        let leaf = states.clone().autodiff().require_grad();
        sum += sfr.loss(&HiddenBatch { hidden: leaf, rows: &rows, step: 1, seed: 5 + draw }).into_scalar::<f32>();
    }
    assert!((sum - first[0].1).abs() < 1e-4, "{sum} {first:?}");
}

/// Two processes with a row each, and one without any, end a step with the numbers and the gate of one that has both.
#[test]
fn sums_of_two_processes_are_those_of_one() {
    let lengths = [6, 5];
    let (rows, states) = (rows(&lengths), hidden(2, 8));
    let keys = "control = true\ngradient_gate = true";
    let [mut whole, mut first, mut second, mut idle] = [(); 4].map(|()| build(keys, &lengths));
    for sfr in [&mut whole, &mut first, &mut second, &mut idle] {
        disturb(sfr.as_mut());
    }
    let of_row = |row: usize| states.clone().narrow(0, row, 1);
    for row in [0, 1] {
        pass(whole.as_mut(), &rows[row..=row], &of_row(row), 1);
    }
    pass(first.as_mut(), &rows[..1], &of_row(0), 1);
    pass(second.as_mut(), &rows[1..], &of_row(1), 1);
    assert_eq!(idle.sums(), [0.0; 4]);
    let sums: Vec<f64> = first.sums().iter().zip(second.sums()).map(|(a, b)| a + b).collect();
    whole.after_step(1);
    let expected = whole.diagnostics();
    assert_eq!(expected.len(), 4, "{expected:?}");
    for sfr in [&mut first, &mut second, &mut idle] {
        sfr.set_sums(&sums);
        sfr.after_step(1);
        let found = sfr.diagnostics();
        assert!(found.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6), "{found:?}");
        assert_eq!(found.len(), expected.len());
    }
}

#[test]
fn rows_without_a_future_give_a_tracked_zero() {
    let mut sfr = build("control = true", &[1, 1]);
    let rows = rows(&[1, 1]);
    assert_eq!(sfr.units(&rows), 0.0);
    let (value, _, _) = pass(sfr.as_mut(), &rows, &hidden(2, 3), 1);
    assert_eq!(value, 0.0);
    sfr.after_step(1);
    assert_eq!(sfr.diagnostics(), [("weight".to_string(), 1.0)]);
}

#[test]
fn the_builder_asks_for_the_texts_of_its_rule() {
    let sentences = read(KEYS).unwrap_or_else(|faults| panic!("{faults}")).sentences.expect("a request");
    assert_eq!((sentences.encoder.as_str(), sentences.prefix.as_str()), ("builtin:words", ""));
    assert_eq!((sentences.texts)(&rows(&[3])[0]), [vec![3, 4], vec![4]]);
}

#[test]
fn impossible_values_are_refused() {
    let cases = [
        "",
        "encoder = 3",
        "stride = 0",
        "k = 8\nmin_suffix = 9",
        "min_suffix = 0",
        "k = 0\nstride = 2",
        "weight = -1",
        "flow = \"ot\"",
        "head_layers = 1",
        "head_width = 0",
        "head_ema = 1",
        "lambda_schedule = \"step\"",
        "targets = \"others\"",
        "contro = true",
    ];
    for keys in cases {
        let encoder = if keys.is_empty() || keys.starts_with("encoder") { "" } else { "encoder = \"e\"\n" };
        assert!(read(&format!("{encoder}{keys}")).is_err(), "{keys:?}");
    }
    assert!(read("encoder = \"e\"").is_ok());
    assert!(read("encoder = \"e\"\nk = 0").is_ok());
    assert!(read("encoder = \"e\"\nk = 8").is_ok());
}
