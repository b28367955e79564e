//! The last words of a run: what came of it, what went wrong, and what to do next.

pub(super) mod exact;

use checkpoints::Run;
use datasets::{Asked, Conversation, Example, Message, Part, Template, Tokenizer};
use faults::{Fault, counted};
use serde_json::Value;

use super::sample;
use crate::engine::best::BestBy;
use crate::logging::terminal;
use crate::logging::typed::{escaped, is_one_line, quoted};
use crate::plan::Plan;
use crate::recipe::{Adapter, Backbone};

/// What came of a run that is done, and the commands that go on from it.
///
/// # Errors
/// A file of the run that cannot be read.
pub(super) fn words(run: &Run, plan: &Plan, lines: &[Value]) -> Result<String, Fault> {
    let by = &plan.recipe.checkpoint.best_by;
    let best = better_than_the_end(run, by, lines)?;
    let folder = run.folder().display().to_string();
    let shown = quoted(&folder);
    let (trained, merge) = match plan.recipe.adapter {
        Adapter::Lora(_) => ("adapter", " --merge"),
        Adapter::None => ("model", ""),
    };
    let mut words = results(lines, by, best);
    if let Some(prompts) = &plan.recipe.eval.prompts {
        let step = best.map_or(last_step(lines), |(step, _)| step);
        let table = exact::table(run, step, prompts.temperature, terminal::columns())?;
        if !table.is_empty() {
            words += &format!("\n\n{}", table.trim_end());
        }
    }
    words += &format!(
        "\n\n{trained} and training state are in {shown}, the curves in {}\n",
        quoted(&format!("{folder}/report.html"))
    );
    if let (Backbone::Init(_), Adapter::Lora(_)) = (&plan.recipe.model.backbone, &plan.recipe.adapter) {
        // Nothing can be made of an adapter whose base is gone; the recipe was warned of.
        return Ok(words);
    }
    let model = match best {
        Some((step, _)) => {
            let model = quoted(&format!("{folder}@best"));
            let last = last_step(lines);
            words +=
                &format!("`sample` and `export` take step {last}, the end, of {shown}, and step {step} of {model}\n");
            model
        }
        None => shown,
    };
    words = terminal::wrapped(&words, terminal::columns(), 0);
    words += "next:\n";
    words += &format!("  trainer sample {model} {} --n 5\n", prompt_to_try(plan));
    words += &format!("  trainer export {model} --out exported{merge}\n");
    Ok(words)
}

/// The numbers of a run in a line.
fn results(lines: &[Value], by: &BestBy, best: Option<(u64, f64)>) -> String {
    let nlls: Vec<f64> = of_split(lines, "eval").filter_map(|line| line["nll"].as_f64()).collect();
    let mut words = format!("done: {}", counted(last_step(lines), "step"));
    if let [first, .., last] = nlls[..] {
        words += &format!(", nll of the held-out rows {first:.4} -> {last:.4}");
    }
    if let Some((step, value)) = best {
        let name = if by.needs_prompts() { format!("{} ", by.name()) } else { String::new() };
        words += &format!(", best checkpoint {name}{value:.4} at step {step}");
    }
    let gap = |split: &str| of_split(lines, split).filter_map(|line| line["objective"]["gap"].as_f64()).next_back();
    match (gap("train"), gap("eval")) {
        (Some(train), Some(eval)) => words += &format!(", gap to the floor {train:.4}, of the held-out rows {eval:.4}"),
        (Some(train), None) => words += &format!(", gap to the floor {train:.4}"),
        (None, _) => {}
    }
    words
}

fn of_split<'a>(lines: &'a [Value], split: &str) -> impl DoubleEndedIterator<Item = &'a Value> {
    lines.iter().filter(move |line| line["split"] == split)
}

fn last_step(lines: &[Value]) -> u64 {
    of_split(lines, "train").filter_map(|line| line["step"].as_u64()).max().unwrap_or_default()
}

/// The step of the checkpoint that is better than the last one, if it was kept, with the number that says so.
fn better_than_the_end(run: &Run, by: &BestBy, lines: &[Value]) -> Result<Option<(u64, f64)>, Fault> {
    let Some(best) = run.best()?.map(|checkpoint| checkpoint.step as u64) else { return Ok(None) };
    let at = |step: u64| of_split(lines, "eval").rfind(|line| line["step"] == step).and_then(|line| by.of_line(line));
    let found = at(best).zip(at(last_step(lines)));
    Ok(found.filter(|(best, last)| by.is_better(*best, *last)).map(|(value, _)| (best, value)))
}

/// Rows that are looked at for a prompt to try.
const PROMPTS_TRIED: usize = 1000;

/// A prompt that is short enough to be read in a line.
const SHORT: usize = 80;

/// A prompt longer than this is not printed.
const LONGEST: usize = 600;

/// Letters of a text that it is begun with where rows have no prompt that can be typed.
const BEGINNING: usize = 40;

/// A prompt as arguments of `trainer sample`, which reads it as training read it: of the held-out rows before the training
/// rows, of the user's own before built-in ones; the first short one, else the shortest. Where none can be typed, how a row
/// begins. Where rows state intents, samples do.
fn prompt_to_try(plan: &Plan) -> String {
    let held_out = plan.eval.iter().flat_map(|eval| &eval.examples).take(PROMPTS_TRIED).map(|row| (false, row));
    let trained = plan.train.examples.iter().take(PROMPTS_TRIED).map(|row| (true, row));
    let is_built_in = |row: &Example| row.file.starts_with(datasets::builtin::PREFIX);
    let mut rows: Vec<_> =
        held_out.chain(trained).map(|(is_trained, row)| ((is_built_in(row), is_trained), row)).collect();
    rows.sort_by_key(|(kind, _)| *kind);
    let best = rows.iter().take_while(|(kind, _)| *kind == rows[0].0).map(|(_, row)| *row);
    let (mut arguments, row, asked) = match shortest(best, plan) {
        Some((text, row)) => (text, row, row.prompt().len()),
        // A token has a letter or more.
        None => (beginning(rows[0].1, &plan.tokenizer), rows[0].1, BEGINNING),
    };
    if let Some(template) = template_of(row, &plan.tokenizer) {
        return format!("{arguments} --intent {}", template.word());
    }
    let room = plan.config.max_position_embeddings.saturating_sub(asked);
    if room < sample::MAX_TOKENS {
        arguments += &format!(" --max-tokens {}", room.max(1));
    }
    arguments
}

/// The first short prompt of some rows as arguments, else the shortest.
fn shortest<'a>(rows: impl Iterator<Item = &'a Example>, plan: &Plan) -> Option<(String, &'a Example)> {
    let mut shortest: Option<(String, &Example)> = None;
    for (text, row) in rows.filter_map(|row| Some((typed(row, plan)?, row))) {
        if text.len() <= SHORT {
            return Some((text, row));
        }
        if shortest.as_ref().is_none_or(|(known, _)| text.len() < known.len()) {
            shortest = Some((text, row));
        }
    }
    shortest
}

/// The prompt of a row as arguments from which `trainer sample` makes the same tokens, if there are such.
fn typed(row: &Example, plan: &Plan) -> Option<String> {
    let (asked, tokenizer) = (row.prompt(), &plan.tokenizer);
    // A sampler of intents writes the head itself.
    let head = template_of(row, tokenizer).map_or("", Template::head);
    let reads = |asked_as: &Asked| {
        let read = asked_as.text(tokenizer);
        let read = read.and_then(|(text, special)| tokenizer.encode_beginning(&format!("{text}{head}"), special));
        read.is_ok_and(|ids| ids == asked)
    };
    let spelled = tokenizer.decode(asked, false).ok()?;
    let said = spelled.strip_suffix(head).and_then(|whole| users_turn(whole, tokenizer));
    if let Some(text) = said.filter(|text| reads(&conversation(text))) {
        return arguments("--chat ", &text);
    }
    [tokenizer.decode(asked, true).ok()?, spelled].iter().find_map(|whole| {
        let text = whole.strip_suffix(head).filter(|text| reads(&Asked::Text((*text).into())))?;
        arguments("", text)
    })
}

fn arguments(chat: &str, text: &str) -> Option<String> {
    if text.trim().is_empty() || text.len() > LONGEST {
        return None;
    }
    // In one word, so that a prompt may begin with a dash.
    Some(match is_one_line(text) {
        true => format!("{chat}--prompt={}", quoted(text)),
        false => format!("{chat}--escapes --prompt={}", quoted(&escaped(text))),
    })
}

/// What the user says in a conversation of that one turn, as the chat template opens it for the answer.
fn users_turn(whole: &str, tokenizer: &Tokenizer) -> Option<String> {
    // A word that no template has of its own.
    const MARK: &str = "MARK-72d0";
    let (rendered, _) = conversation(MARK).text(tokenizer).ok()?;
    let (before, after) = rendered.split_once(MARK)?;
    Some(whole.strip_prefix(before)?.strip_suffix(after)?.to_owned())
}

fn conversation(text: &str) -> Asked {
    Asked::Conversation(Conversation::new(vec![Message::new("user", text)]))
}

/// How a row begins, as arguments of `trainer sample`: whole words of its first line that has some.
fn beginning(row: &Example, tokenizer: &Tokenizer) -> String {
    let asked = tokenizer.decode(row.prompt(), false).ok().and_then(|whole| users_turn(&whole, tokenizer));
    let chat = if asked.is_some() { "--chat " } else { "" };
    let text = asked.or_else(|| tokenizer.decode(&row.ids, true).ok()).unwrap_or_default();
    // A line of one word may be the name of a speaker.
    let of_words = |line: &&str| line.split_whitespace().count() > 2;
    let line = text.lines().find(of_words).or_else(|| text.lines().find(|line| !line.trim().is_empty()));
    let line = line.unwrap_or_default().trim_start();
    let mut cut = String::new();
    for word in line.split_inclusive(' ') {
        if cut.len() + word.len() > BEGINNING && !cut.is_empty() {
            break;
        }
        cut += word;
    }
    // A blank belongs to the word after it.
    let cut: String = cut.trim_end().chars().take(BEGINNING).filter(|c| !c.is_control()).collect();
    format!("{chat}--prompt={}", quoted(&cut))
}

/// The template of a row, if the row states an intent.
fn template_of(row: &Example, tokenizer: &Tokenizer) -> Option<Template> {
    let intent = row.parts.iter().position(|part| *part == Part::Intent)?;
    let prompt = tokenizer.decode(row.prompt(), true).ok()?;
    Template::of_text(&prompt, &tokenizer.decode(&row.ids[intent..], true).ok()?)
}
