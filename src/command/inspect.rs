//! `trainer inspect`: what a model, an adapter or a checkpoint holds, from its files alone; no model is built.

mod architecture;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use backbone::ModelFiles;
use checkpoints::{Adapter, Checkpoint, TargetModules, Weights, find_checkpoint};
use clap::Args;
use faults::{Fault, Faults, Place};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{Outcome, argument, print};
use crate::engine::state::RunState;
use crate::inspection::{Difference, Norms, Tensor, Update, in_order};
use crate::loading::is_run;
use crate::plan::print::{bytes, count};

/// Show what a model, an adapter or a checkpoint holds: shapes, types, scaling, norms.
///
/// Norms are Frobenius norms; `|s B A|` is that of the update an adapter makes to a matrix. With `--diff`, how far the
/// updates of two adapters are apart: `|U - V| / |U|` and the cosine between them, module by module.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A base model (folder, `org/name`, `builtin:tiny`), an adapter's folder, a run (its latest checkpoint, or
    /// `RUN@best`, `RUN@latest`, `RUN@STEP`), a checkpoint or a safetensors file.
    path: String,
    /// Compare the adapter with another.
    #[arg(long, value_name = "OTHER")]
    diff: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Names listed one by one.
const NAMED: usize = 8;

/// Runs the command.
///
/// # Errors
/// A path that is nothing of these, files that are broken, or two sides that cannot be compared.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    let found = Found::at(&arguments.path).map_err(|faults| faults.map(|f| f.or_at(Place::file(&arguments.path))))?;
    let (text, object) = match &arguments.diff {
        None => found.show()?,
        Some(other) => {
            let second = Found::at(other).map_err(|faults| faults.map(|fault| fault.or_at(argument("diff"))))?;
            let sides = (found.adapter(&arguments.path)?, second.adapter(other)?);
            Comparison::new((&arguments.path, &sides.0), (other, &sides.1))?.show()
        }
    };
    print(&if arguments.json { format!("{object:#}\n") } else { text })?;
    Ok(Outcome::Done)
}

/// What a path stands for.
enum Found {
    Model { name: String, files: Option<ModelFiles>, weights: Weights },
    Adapter { name: String, adapter: Box<Adapter> },
    Checkpoint { checkpoint: Checkpoint, state: Box<RunState> },
}

impl Found {
    fn at(path: &str) -> Result<Self, Faults> {
        let folder = Path::new(path);
        if folder.extension().is_some_and(|extension| extension == "safetensors") && folder.is_file() {
            return Ok(Self::Model { name: path.into(), files: None, weights: Weights::open_file(folder)? });
        }
        if is_run(folder) {
            let checkpoint = find_checkpoint(folder)?;
            let state = Box::new(RunState::read(&checkpoint)?);
            return Ok(Self::Checkpoint { checkpoint, state });
        }
        if folder.join("adapter_config.json").is_file() {
            let adapter = Box::new(Adapter::read_unchecked(folder)?);
            return Ok(Self::Adapter { name: path.into(), adapter });
        }
        let files = ModelFiles::locate(path, None)?;
        let weights = files.weights()?;
        Ok(Self::Model { name: path.into(), files: Some(files), weights })
    }

    fn adapter(self, path: &str) -> Result<Adapter, Faults> {
        match self {
            Self::Adapter { adapter, .. } => Ok(*adapter),
            Self::Checkpoint { checkpoint, .. } if checkpoint.has_adapter() => {
                Adapter::read_unchecked(&checkpoint.folder)
            }
            _ => Err(Fault::new("`--diff` compares two adapters, and this is a whole model")
                .at(Place::file(path))
                .hint("give the folder of an adapter, a checkpoint or a run on both sides")
                .into()),
        }
    }

    fn show(&self) -> Result<(String, Value), Faults> {
        Ok(match self {
            Self::Model { name, files, weights } => {
                let (text, mut object) = model(files.as_ref(), weights)?;
                object["kind"] = json!("model");
                object["path"] = json!(name);
                (text, object)
            }
            Self::Adapter { name, adapter } => {
                let (text, mut object) = one_adapter(adapter)?;
                object["kind"] = json!("adapter");
                object["path"] = json!(name);
                (format!("{}{text}", line("adapter", name)), object)
            }
            Self::Checkpoint { checkpoint, state } => self::checkpoint(checkpoint, state)?,
        })
    }
}

fn line(name: &str, text: &str) -> String {
    format!("{name:<12} {}\n", in_one_line(text))
}

/// What a file holds as it may be printed within a line.
fn in_one_line(text: &str) -> String {
    faults::visible(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// Names, the first of them one by one.
fn named(names: &[&str]) -> String {
    let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".into(),
        1..=NAMED => shown,
        more => format!("{shown} and {} more", more - NAMED),
    }
}

/// Columns of text, the first to the left and the others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| in_one_line(cell)).collect()).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let cell = |(column, text): (usize, &String)| match column {
        0 => format!("{text:<width$}", width = widths[0]),
        _ => format!("  {text:>width$}", width = widths[column]),
    };
    rows.iter().map(|row| row.iter().enumerate().map(cell).collect::<String>() + "\n").collect()
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        1e-3..1e6 => format!("{value:.4}"),
        _ => format!("{value:.3e}"),
    }
}

/// A model's weights, and what its configuration says of them.
fn model(files: Option<&ModelFiles>, weights: &Weights) -> Result<(String, Value), Faults> {
    let tensors = Tensor::all(weights)?;
    let values: u64 = tensors.iter().map(Tensor::values).sum();
    let mut types: BTreeMap<String, u64> = BTreeMap::new();
    let mut size = 0;
    for tensor in &tensors {
        *types.entry(tensor.dtype.to_string()).or_default() += tensor.values();
        size += weights.bytes(&tensor.name)?.len() as u64;
    }
    let mut text = String::new();
    let mut object = json!({});
    if let Some(files) = files {
        match files.config() {
            Ok(config) => {
                text += &architecture::lines(&config);
                architecture::describe(&config, &mut object);
            }
            Err(fault) => {
                // The weights are there to be looked at all the same.
                text += &line("model", &format!("not one that can be trained here: {}", fault.message));
                object["unknown"] = json!(fault.message);
            }
        }
    }
    let kinds: Vec<String> = types.iter().map(|(dtype, values)| format!("{} {dtype}", count(*values))).collect();
    text += &line("weights", &format!("{} tensors, {}, {}", tensors.len(), kinds.join(", "), bytes(size)));
    let bad: Vec<&str> = tensors.iter().filter(|tensor| tensor.not_finite > 0).map(|t| t.name.as_str()).collect();
    text += &line("not finite", &named(&bad));
    text += "\n";
    text += &table(&groups(&tensors));
    text += "\n";
    text += &table(&shapes(&tensors));
    object["values"] = json!(values);
    object["bytes"] = json!(size);
    object["dtypes"] = json!(types);
    object["not_finite"] = json!(bad);
    let one = |tensor: &Tensor| {
        let Tensor { name, shape, dtype, norm, not_finite } = tensor;
        json!({"name": name, "shape": shape, "dtype": dtype.to_string(), "norm": norm, "not_finite": not_finite})
    };
    object["tensors"] = tensors.iter().map(one).collect();
    Ok((text, object))
}

/// A row for each layer and for each tensor beside them.
fn groups(tensors: &[Tensor]) -> Vec<Vec<String>> {
    let mut rows = vec![["part", "tensors", "values", "type", "norm"].map(str::to_owned).to_vec()];
    let mut rest = tensors;
    while let Some(first) = rest.first() {
        let end = rest.iter().position(|tensor| tensor.group() != first.group()).unwrap_or(rest.len());
        let (group, others) = rest.split_at(end);
        rest = others;
        let types: BTreeSet<String> = group.iter().map(|tensor| tensor.dtype.to_string()).collect();
        let squares: Option<f64> = group.iter().map(|tensor| tensor.norm.map(|norm| norm * norm)).sum();
        rows.push(vec![
            first.group().into(),
            group.len().to_string(),
            count(group.iter().map(Tensor::values).sum()),
            types.into_iter().collect::<Vec<_>>().join(" "),
            squares.map_or("-".into(), |squares| number(squares.sqrt())),
        ]);
    }
    rows
}

/// A row for each shape of each tensor, those of all layers together.
fn shapes(tensors: &[Tensor]) -> Vec<Vec<String>> {
    let mut counted: Vec<([String; 3], usize)> = Vec::new();
    for tensor in tensors {
        let name = match tensor.name.strip_prefix(tensor.group()).zip(tensor.group().rsplit_once('.')) {
            Some((rest, (stem, number))) if number.parse::<usize>().is_ok() => format!("{stem}.*{rest}"),
            _ => tensor.name.clone(),
        };
        let row = [name, format!("{:?}", tensor.shape), tensor.dtype.to_string()];
        match counted.iter_mut().find(|(known, _)| *known == row) {
            Some((_, count)) => *count += 1,
            None => counted.push((row, 1)),
        }
    }
    let row = |([name, shape, dtype], count): ([String; 3], usize)| vec![name, shape, dtype, count.to_string()];
    let head = ["tensor", "shape", "type", "of them"].map(str::to_owned).to_vec();
    [head].into_iter().chain(counted.into_iter().map(row)).collect()
}

/// An adapter's factors as numbers, layer after layer.
fn updates(adapter: &Adapter) -> Result<Vec<Update>, Faults> {
    let mut updates = adapter.modules()?.iter().map(Update::new).collect::<Result<Vec<_>, Fault>>()?;
    in_order(&mut updates);
    Ok(updates)
}

fn one_adapter(adapter: &Adapter) -> Result<(String, Value), Faults> {
    let updates = updates(adapter)?;
    let norms: Vec<Norms> = updates.par_iter().map(Update::norms).collect();
    let config = &adapter.config;
    let base = config.base_model_name_or_path.as_deref().filter(|base| !base.is_empty()).unwrap_or("not named");
    let revision = config.revision.as_ref().map(|revision| format!(" at {revision}")).unwrap_or_default();
    let mut text = line("base", &format!("{base}{revision}"));
    let rule = if config.use_rslora { "alpha / sqrt(rank)" } else { "alpha / rank" };
    let dora = if config.use_dora { ", with magnitudes (DoRA)" } else { "" };
    let (rank, alpha, dropout) = (config.r, config.lora_alpha, config.lora_dropout);
    text += &line("shape", &format!("rank {rank}, alpha {alpha}, scale {rule}, dropout {dropout}{dora}"));
    let modules = |modules: &TargetModules| match modules {
        TargetModules::Names(names) => named(&names.iter().map(String::as_str).collect::<Vec<_>>()),
        TargetModules::Pattern(pattern) => format!("the pattern {pattern}"),
    };
    text += &line("targets", &modules(&config.target_modules));
    if let Some(excluded) = &config.exclude_modules {
        text += &line("but not", &modules(excluded));
    }
    let pattern = |(pattern, value): (&String, String)| format!("{pattern} = {value}");
    let ranks = config.rank_pattern.iter().map(|(key, value)| pattern((key, value.to_string())));
    let alphas = config.alpha_pattern.iter().map(|(key, value)| pattern((key, value.to_string())));
    for (name, patterns) in [("ranks", ranks.collect::<Vec<_>>()), ("alphas", alphas.collect())] {
        if !patterns.is_empty() {
            text += &line(name, &patterns.join(", "));
        }
    }
    let values: usize = adapter.tensors.values().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    let types: BTreeSet<String> = adapter.tensors.values().map(|tensor| tensor.dtype.to_string()).collect();
    let types: Vec<String> = types.into_iter().collect();
    let total = norms.iter().map(|norms| norms.update.powi(2)).sum::<f64>().sqrt();
    text += &line("modules", &format!("{}, {} values in {}", updates.len(), count(values as u64), types.join(" and ")));
    text += &line("update", &format!("norm {} of all modules together", number(total)));
    let chosen = |wanted: fn(&Update) -> bool| -> Vec<&str> {
        updates.iter().filter(|update| wanted(update)).map(|update| update.path.as_str()).collect()
    };
    let (untrained, bad) = (chosen(Update::is_untrained), chosen(|update| !update.is_finite()));
    text += &line("untrained", &named(&untrained));
    text += &line("not finite", &named(&bad));
    let mut columns = vec!["module", "in", "out", "rank", "scale", "|A|", "|B|", "|s B A|"];
    columns.extend(config.use_dora.then_some("|m|"));
    let mut rows = vec![columns.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (update, norms) in updates.iter().zip(&norms) {
        let [inputs, outputs] = update.sides;
        let mut row = vec![update.path.clone(), inputs.to_string(), outputs.to_string(), update.rank.to_string()];
        row.extend([update.scale, norms.a, norms.b, norms.update].map(number));
        row.extend(norms.magnitude.map(number));
        rows.push(row);
    }
    text += "\n";
    text += &table(&rows);
    let one = |(update, norms): (&Update, &Norms)| {
        let [inputs, outputs] = update.sides;
        json!({
            "path": update.path, "in": inputs, "out": outputs, "rank": update.rank, "scale": update.scale,
            "norm_a": norms.a, "norm_b": norms.b, "norm_update": norms.update, "norm_magnitude": norms.magnitude,
        })
    };
    let object = json!({
        "config": config.to_json(),
        "values": values,
        "dtypes": types,
        "norm_update": total,
        "untrained": untrained,
        "not_finite": bad,
        "modules": updates.iter().zip(&norms).map(one).collect::<Vec<_>>(),
    });
    Ok((text, object))
}

/// Where a run stands, and what it has trained.
fn checkpoint(checkpoint: &Checkpoint, state: &RunState) -> Result<(String, Value), Faults> {
    let folder = checkpoint.folder.display().to_string();
    let recipe: toml::Table = toml::from_str(&state.recipe).unwrap_or_default();
    let objective = recipe.get("objective").cloned().unwrap_or(toml::Value::Table(toml::Table::new()));
    let settings: Vec<String> = (objective.as_table().into_iter().flatten())
        .map(
            |(key, value)| {
                if key == "kind" { value.as_str().unwrap_or("?").to_owned() } else { format!("{key} {value}") }
            },
        )
        .collect();
    let mut groups: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (name, tensor) in checkpoint.training_state()? {
        let mut parts = name.split('.');
        let first = parts.next().unwrap_or_default();
        // `value.` is a copy of the trained weights; the others say after their dot which of several they are.
        let group = match (first, parts.next()) {
            ("value", _) | (_, None) => first.to_owned(),
            (_, Some(second)) => format!("{first}.{second}"),
        };
        let sums = groups.entry(group).or_default();
        sums.0 += tensor.shape.iter().product::<usize>() as u64;
        sums.1 += tensor.bytes.len() as u64;
    }
    let best = match state.best {
        Some((step, loss)) => format!("step {step} with {loss:.4}"),
        None => "none".into(),
    };
    let mut text = line("checkpoint", &folder);
    text += &line("step", &format!("{}, {} skipped", state.step, state.skipped));
    text += &line("best", &best);
    text += &line("objective", &settings.join(" "));
    text += &line("train rows", &state.train_fingerprint);
    text += &line("eval rows", state.eval_fingerprint.as_deref().unwrap_or("none"));
    if let Some(base) = &state.base {
        let place = base.folder.as_ref().map(|folder| format!(" in {folder}")).unwrap_or_default();
        text += &line("base", &format!("weights {}{place}", base.weights));
    }
    text += &line("written by", &format!("trainer {}", state.version));
    for (index, (group, (values, size))) in groups.iter().enumerate() {
        let name = if index == 0 { "state" } else { "" };
        text += &line(name, &format!("{group}: {} values, {}", count(*values), bytes(*size)));
    }
    text += "\n";
    let (more, trained) = match checkpoint.has_adapter() {
        true => one_adapter(&Adapter::read_unchecked(&checkpoint.folder)?)?,
        false => model(None, &checkpoint.model()?)?,
    };
    text += &more;
    let sizes: BTreeMap<&String, Value> =
        groups.iter().map(|(group, (values, size))| (group, json!({"values": values, "bytes": size}))).collect();
    let mut object = json!({
        "kind": "checkpoint",
        "path": folder,
        "step": state.step,
        "skipped": state.skipped,
        "best": state.best.map(|(step, loss)| json!({"step": step, "loss": loss})),
        "objective": objective,
        "train_fingerprint": state.train_fingerprint,
        "eval_fingerprint": state.eval_fingerprint,
        "base": state.base.as_ref().map(|base| json!({"weights": base.weights, "folder": base.folder})),
        "version": state.version,
        "training_state": sizes,
    });
    object[if checkpoint.has_adapter() { "adapter" } else { "model" }] = trained;
    Ok((text, object))
}

/// Two adapters beside each other.
struct Comparison {
    names: [String; 2],
    /// Keys of the configuration with both values.
    config: Vec<(String, Value, Value)>,
    only: [Vec<String>; 2],
    modules: Vec<(String, Difference)>,
    all: Difference,
    /// `|m_U - m_V| / |m_U|` of all of DoRA's magnitudes, where both have them.
    magnitudes: Option<f64>,
}

impl Comparison {
    fn new((first, one): (&str, &Adapter), (second, other): (&str, &Adapter)) -> Result<Self, Faults> {
        let (left, right) = (updates(one)?, updates(other)?);
        let (configs, mut config) = ((one.config.to_json(), other.config.to_json()), Vec::new());
        for (key, value) in configs.0.as_object().into_iter().flatten() {
            let new = &configs.1[key];
            if value != new {
                config.push((key.clone(), value.clone(), new.clone()));
            }
        }
        let by_path: BTreeMap<&str, &Update> = right.iter().map(|update| (update.path.as_str(), update)).collect();
        let (mut faults, mut pairs, mut only) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
        for update in &left {
            match by_path.get(update.path.as_str()) {
                None => only[0].push(update),
                Some(same) if same.sides == update.sides => pairs.push((update, *same)),
                Some(same) => faults.push(
                    Fault::new(format!(
                        "the sides of this module are {:?} in one adapter and {:?} in the other",
                        update.sides, same.sides
                    ))
                    .at(Place::Named(update.path.clone()))
                    .hint("the two were made for different base models and cannot be compared"),
                ),
            }
        }
        Faults::check(faults)?;
        let known: BTreeSet<&str> = left.iter().map(|update| update.path.as_str()).collect();
        only[1].extend(right.iter().filter(|update| !known.contains(update.path.as_str())));
        let differences: Vec<Difference> = pairs.par_iter().map(|(u, v)| Difference::new(Some(u), Some(v))).collect();
        let alone = (only[0].iter().map(|update| Difference::new(Some(update), None)))
            .chain(only[1].iter().map(|update| Difference::new(None, Some(update))));
        let alone: Vec<Difference> = alone.collect();
        let magnitudes = pairs.iter().filter_map(|(u, v)| u.magnitudes_apart(v));
        let magnitudes = magnitudes.reduce(|[a, b], [c, d]| [a + c, b + d]).map(|[apart, own]| (apart / own).sqrt());
        Ok(Self {
            names: [first.into(), second.into()],
            magnitudes,
            config,
            only: only.map(|updates| updates.iter().map(|update| update.path.clone()).collect()),
            all: Difference::total(differences.iter().chain(&alone)),
            modules: pairs.iter().map(|(update, _)| update.path.clone()).zip(differences).collect(),
        })
    }

    fn show(&self) -> (String, Value) {
        let [first, second] = &self.names;
        let mut text = line("first", first) + &line("second", second);
        for (index, (key, old, new)) in self.config.iter().enumerate() {
            text += &line(if index == 0 { "config" } else { "" }, &format!("`{key}`: {old} -> {new}"));
        }
        if self.config.is_empty() {
            text += &line("config", "the same");
        }
        let names = |side: usize| self.only[side].iter().map(String::as_str).collect::<Vec<_>>();
        text += &line("first alone", &named(&names(0)));
        text += &line("second alone", &named(&names(1)));
        if let Some(apart) = self.magnitudes {
            text +=
                &line("magnitudes", &format!("|m - m'| / |m| {} of all modules (DoRA); not in U and V", number(apart)));
        }
        let mut rows = vec![["module", "|U|", "|V|", "|U - V| / |U|", "cosine"].map(str::to_owned).to_vec()];
        let row = |name: &str, difference: &Difference| {
            let numbers = [difference.first(), difference.second(), difference.distance()].map(number);
            let cosine = difference.cosine().map_or("-".into(), |cosine| format!("{cosine:.4}"));
            [name.to_owned()].into_iter().chain(numbers).chain([cosine]).collect::<Vec<_>>()
        };
        rows.extend(self.modules.iter().map(|(name, difference)| row(name, difference)));
        rows.push(row("all", &self.all));
        text += "\n";
        text += &table(&rows);
        let one = |difference: &Difference| {
            json!({
                "norm_first": difference.first(), "norm_second": difference.second(),
                "distance": difference.distance(), "cosine": difference.cosine(),
            })
        };
        let modules = self.modules.iter().map(|(path, difference)| {
            let mut object = one(difference);
            object["path"] = json!(path);
            object
        });
        let config: BTreeMap<&String, Value> =
            self.config.iter().map(|(key, old, new)| (key, json!([old, new]))).collect();
        let object = json!({
            "first": first,
            "second": second,
            "config": config,
            "only_first": self.only[0],
            "only_second": self.only[1],
            "modules": modules.collect::<Vec<_>>(),
            "all": one(&self.all),
            "magnitudes": self.magnitudes,
        });
        (text, object)
    }
}
