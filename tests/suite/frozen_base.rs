//! What an objective is told of the frozen base: the nll that the model has without its adapter, whatever the adapter, how
//! the rows are put together, and what is kept of the way forward.

use backbone::{AdapterSettings, Decoder, Quantise, Source, values};
use burn::tensor::{DType, Tensor};
use datasets::Example;
use kernels::Quantisation;
use losses::{Objective, Scope, Statistics, Tokens};
use trainer::engine::Trainee;
use trainer::engine::backward::Recompute;
use trainer::engine::batch::Batch;
use trainer::engine::head;
use trainer::engine::step::Trainer;

use crate::fixtures::{
    Expected, adapter, adapter_of, example, examples, fixture, largest_difference, load, with_source,
};
use crate::parity::MODELS;
use crate::six_steps::{STEPS, Steps};
use crate::support::{Workplace, larger};

/// Weighs all tokens alike, and notes what it is told of them.
struct Watching {
    scope: Scope,
    nll: Vec<f32>,
    base_nll: Vec<f32>,
}

impl Objective for Watching {
    fn name(&self) -> &str {
        "watching"
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        self.nll.extend(values(tokens.nll.clone()));
        self.base_nll.extend(values(tokens.base_nll.clone().expect("asked for")));
        tokens.nll.ones_like()
    }

    fn statistics(&self) -> Statistics {
        Statistics { base_nll: true, ..Statistics::default() }
    }

    fn scope(&self) -> Scope {
        self.scope
    }
}

/// What an objective is told of a batch in training: nll, that of the base, and the gradient of the step.
fn told(decoder: Decoder, batch: Batch, scope: Scope, recompute: Recompute) -> [Vec<f32>; 3] {
    let mut trainee = Trainee { decoder, auxiliaries: Vec::new() };
    let mut objective = Watching { scope, nll: Vec::new(), base_nll: Vec::new() };
    let settings = Steps { recompute, ..STEPS }.settings();
    let gradient =
        Trainer::new(&mut trainee, &mut objective, settings).gradient(1, &[batch]).expect("one process").gradient;
    [objective.nll, objective.base_nll, values(gradient)]
}

/// The nll of each learned token of a batch in a pass of its own.
fn nll(decoder: &Decoder, batch: &Batch) -> Vec<f32> {
    let context = batch.context(decoder, None);
    let hidden = decoder.hidden_in(&context, batch.ids(decoder.device()), false, None);
    head::nll(decoder, hidden, batch)
}

fn all_rows() -> Batch {
    Batch::new(&examples(), &[0, 1, 2], 8)
}

fn apart(found: &[f32], other: &[f32]) -> bool {
    found.iter().zip(other).any(|(a, b)| (a - b).abs() > 1e-2)
}

/// Row by row, with the adapter that each family has under PEFT, beside the logits that transformers gives the base.
#[test]
fn the_nll_of_the_base_is_that_of_transformers() {
    for model in MODELS {
        for (example, logits) in examples().into_iter().zip(Expected::of(model).logits()) {
            let vocabulary = logits.len() / example.ids.len();
            let nll = |place: usize| {
                let row = &logits[(place - 1) * vocabulary..place * vocabulary];
                let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
                (sum.ln() - f64::from(row[example.ids[place] as usize])) as f32
            };
            let learned = (1..example.ids.len()).filter(|place| example.learned[*place]);
            let expected: Vec<f32> = learned.map(nll).collect();
            let mut decoder = load(&fixture(model), false, DType::F32);
            decoder.attach(&adapter_of(model), 0.0).expect("the adapter fits");
            let batch = Batch::new(&[example], &[0], 8);
            let [adapted, base, _] = told(decoder, batch, Scope::Token, Recompute::None);
            let difference = largest_difference(&base, &expected);
            assert!(difference < 1e-4, "{model}: {difference}");
            assert!(apart(&base, &adapted), "{model}: the adapter changes nothing");
        }
    }
}

/// To the bit that of a decoder without an adapter: LoRA with dropped inputs and DoRA beside every kind of matrix, in either
/// type, on a base in fewer bits; and the gradient is that of an objective that does not ask.
#[test]
fn the_base_is_the_model_without_its_adapter_to_the_bit() {
    let quantise = |quantisation| Some(Quantise { quantisation, embeddings: true, rows: 0 });
    let cases = [
        ("llama", "wide", 0.5, DType::F32, None),
        ("llama", "wide", 0.0, DType::BF16, None),
        ("llama", "dora", 0.0, DType::F32, None),
        ("llama", "dora", 0.5, DType::BF16, None),
        ("llama", "embeddings", 0.0, DType::F32, None),
        ("llama3", "tied", 0.0, DType::F32, None),
        ("llama3", "dora_head", 0.5, DType::F32, None),
        ("llama3", "dora_embedding", 0.0, DType::F32, None),
        ("llama", "wide", 0.0, DType::F32, quantise(Quantisation::Nf4)),
        ("llama", "dora", 0.5, DType::F32, quantise(Quantisation::Int8)),
    ];
    for (model, name, dropout, dtype, quantise) in cases {
        let base = || {
            with_source(&fixture(model), false, dtype, |config, source| {
                let weights = source.weights.expect("the fixture's");
                let source = Source { quantise, ..Source::frozen(weights, dtype, source.device) };
                Decoder::load(config, &source).unwrap_or_else(|fault| panic!("{fault}"))
            })
        };
        let adapted = || {
            let mut decoder = base();
            decoder.attach(&adapter(name), dropout).unwrap_or_else(|faults| panic!("{name}: {faults}"));
            decoder
        };
        let expected = nll(&base(), &all_rows());
        let mut plain = Trainee { decoder: adapted(), auxiliaries: Vec::new() };
        let mut unasked = (losses::objective::NLL.build)(&mut faults::Section::probe());
        let unasked = Trainer::new(&mut plain, &mut *unasked, STEPS.settings())
            .gradient(1, &[all_rows()])
            .expect("one process")
            .gradient;
        let unasked = values(unasked);
        for scope in [Scope::Token, Scope::Row] {
            for recompute in [Recompute::None, Recompute::Blocks] {
                let [adapted, found, gradient] = told(adapted(), all_rows(), scope, recompute);
                let case = format!("{model} {name} {dropout} {dtype:?} {scope:?} {recompute:?}");
                assert_eq!(found, expected, "{case}");
                assert!(apart(&found, &adapted), "{case}: the adapter changes nothing");
                assert_eq!(gradient, unasked, "{case}");
            }
        }
    }
}

/// Rows that share what they begin with have the base's nll of each by itself.
#[test]
fn rows_packed_as_a_tree_are_told_of_the_same_base() {
    let row = |place: usize, ids: &[u32]| {
        let learned = (0..ids.len()).map(|token| token >= 3).collect();
        Example { group: 0, ..example(place, ids.to_vec(), learned) }
    };
    let rows = [row(0, &[10, 15, 20, 28, 29, 9]), row(1, &[10, 15, 20, 28, 3]), row(2, &[10, 15, 20, 7, 11])];
    let adapted = || {
        let mut decoder = load(&fixture("llama"), false, DType::F32);
        decoder.attach(&adapter_of("llama"), 0.0).expect("the adapter fits");
        decoder
    };
    let tree = Batch::packed(&rows, &[0, 1, 2], 8);
    let places: Vec<(u32, usize)> = tree.learned.iter().map(|token| (token.target, token.position)).collect();
    let [_, found, _] = told(adapted(), tree, Scope::Token, Recompute::None);
    let base = load(&fixture("llama"), false, DType::F32);
    for (index, row) in rows.iter().enumerate() {
        let alone = Batch::new(&rows, &[index], 8);
        let expected = nll(&base, &alone);
        for (token, expected) in alone.learned.iter().zip(expected) {
            let place = places.iter().position(|place| *place == (token.target, token.position)).expect("its place");
            assert!((found[place] - expected).abs() < 1e-5, "{:?}: {} for {expected}", row.ids, found[place]);
        }
    }
}

/// PiSSA takes what is largest out of a matrix and trains it: the base is the matrix as it was.
#[test]
fn the_base_of_pissa_is_the_original_model() {
    let settings = AdapterSettings { pissa: true, ..AdapterSettings::new(4, 6.0) };
    let decoder = with_source(&fixture("llama"), false, DType::F32, |config, source| {
        let mut decoder = Decoder::load(config, source).unwrap_or_else(|fault| panic!("{fault}"));
        decoder.attach_pissa(&settings, 3, source, None).unwrap_or_else(|faults| panic!("{faults}"));
        decoder
    });
    let mut trainee = Trainee { decoder, auxiliaries: Vec::new() };
    let mut objective = Watching { scope: Scope::Token, nll: Vec::new(), base_nll: Vec::new() };
    let mut trainer = Trainer::new(&mut trainee, &mut objective, STEPS.settings());
    for step in 1..=3 {
        trainer.step(step, &[all_rows()]).expect("every adapter is reached");
    }
    let expected = nll(&load(&fixture("llama"), false, DType::F32), &all_rows());
    let last = expected.len() * 2;
    let worst = largest_difference(&objective.base_nll[last..], &expected);
    assert!(worst < 1e-4, "{worst}");
    let moved = objective.nll[last..].iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, larger);
    assert!(moved > 1e-2, "{moved}");
}

/// Before the first update adapted model and base are one, so that nothing is weighed; and a model whose every weight is
/// trained has no base.
#[test]
fn proximal_begins_as_nll_and_needs_a_base() {
    let place = Workplace::new();
    let of = |kind: &str, set: &str| {
        let set = format!("--set objective.kind={kind} --set train.steps=1 --set output.dir={kind} {set}");
        place.trainer(&format!("run recipe.toml {set}")).succeeds();
        place.steps(kind).remove(0)
    };
    let (nll, proximal) = (of("nll", ""), of("proximal", ""));
    assert!((proximal["loss"].as_f64().expect("a loss") - nll["loss"].as_f64().expect("a loss")).abs() < 1e-5);
    assert!((proximal["objective"]["weight_mean"].as_f64().expect("a mean") - 1.0).abs() < 1e-5, "{proximal}");
    let parts = ["objective `proximal` compares the model with its frozen base", "hint: train an adapter"];
    place.refuses("check full.toml --set objective.kind=proximal", &parts);
    // The base passes forward once more.
    let flop = |kind: &str| {
        let plan = place.trainer(&format!("check recipe.toml --json --set objective.kind={kind}")).succeeds().json();
        plan["flop_per_token"].as_f64().expect("a number")
    };
    let ratio = flop("proximal") / flop("nll");
    assert!((1.3..1.5).contains(&ratio), "{ratio}");
}

/// A column of ones is plain nll to the bit, one of halves half of it, and rows of none are not learned; held-out rows need
/// no column.
#[test]
fn rows_count_by_their_column() {
    let place = Workplace::new();
    let rows = |name: &str, weight: &dyn Fn(usize) -> f64| {
        let text = place.text("rows.jsonl");
        let rows = text.lines().enumerate().map(|(index, line)| {
            let end = line.rfind('}').expect("an object");
            format!("{}, \"reward\": {}}}\n", &line[..end], weight(index))
        });
        place.write(&format!("{name}.jsonl"), rows.collect::<String>());
    };
    rows("ones", &|_| 1.0);
    rows("halves", &|_| 0.5);
    rows("half", &|index| if index % 2 == 0 { 2.0 } else { 0.0 });
    let run = |name: &str, rows: &str, kind: &str| {
        let set = format!("--set data.train=[\"{rows}\"] --set output.dir={name} --set train.steps=3 {kind}");
        let ended = place.trainer(&format!("run recipe.toml {set}")).succeeds();
        assert!(!ended.stderr.contains("`reward`"), "{}", ended.stderr);
        place.steps(name)
    };
    let column = "--set objective.kind=weighted --set objective.column=reward";
    let (plain, ones) = (run("plain", "rows.jsonl", ""), run("ones", "ones.jsonl", column));
    let number = |line: &serde_json::Value, name: &str| line[name].as_f64().expect("a number");
    for (plain, ones) in plain.iter().zip(&ones) {
        assert_eq!((number(plain, "loss"), number(plain, "nll")), (number(ones, "loss"), number(ones, "nll")));
    }
    let halves = run("halves", "halves.jsonl", column);
    assert!((number(&halves[0], "loss") / number(&plain[0], "loss") - 0.5).abs() < 1e-6);
    let half = run("half", "half.jsonl", column);
    let active = half[0]["objective"]["active_fraction"].as_f64().expect("a fraction");
    assert!(active > 0.1 && active < 0.9, "{active}");
    // The micro-batches of a step are one step.
    let cut = run("cut", "half.jsonl", &format!("{column} --set train.micro_batch_size=1"));
    assert!((number(&cut[0], "loss") / number(&half[0], "loss") - 1.0).abs() < 1e-5);
    let parts = ["`reward` is missing, the column of numbers that the objective goes by"];
    place.refuses(&format!("check recipe.toml {column}"), &parts);
}
