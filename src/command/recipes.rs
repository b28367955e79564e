//! `trainer recipes`: the recipes that come with the program, to start one's own from.

mod real;

pub(super) use real::{RealRun, rate as real_rate};

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use faults::{Fault, Faults, Place, nearest};

use super::{Outcome, print};

/// The embedded recipe of a name.
macro_rules! embedded {
    ($name:literal) => {
        Embedded { name: $name, text: include_str!(concat!("../../recipes/", $name, ".toml")) }
    };
}

/// Every file of the folder `recipes`, first those that need nothing else, in the order they are listed.
pub static RECIPES: [Embedded; 42] = [
    embedded!("nll"),
    embedded!("cdiv_alpha1.4"),
    embedded!("quickstart_compare"),
    embedded!("trunc_r"),
    embedded!("lambda_pr"),
    embedded!("focal"),
    embedded!("gem"),
    embedded!("entropy_bonus"),
    embedded!("label_smoothing"),
    embedded!("tofu"),
    embedded!("trunc"),
    embedded!("gold"),
    embedded!("tailr"),
    embedded!("mixce"),
    embedded!("dft"),
    embedded!("deft"),
    embedded!("eaft"),
    embedded!("forking"),
    embedded!("proximal"),
    embedded!("diffuse_numbers"),
    embedded!("intent_chat"),
    embedded!("intent_comments"),
    embedded!("intent_steps"),
    embedded!("intent_code"),
    embedded!("mtp"),
    embedded!("sfr_words"),
    embedded!("tiny_base"),
    embedded!("gsm8k_cdiv"),
    embedded!("paper_nll"),
    embedded!("paper_cdiv"),
    embedded!("paper_trunc_r"),
    embedded!("paper_lambda_pr"),
    embedded!("paper_focal"),
    embedded!("paper_trunc"),
    embedded!("paper_gold"),
    embedded!("paper_tailr"),
    embedded!("paper_mixce"),
    embedded!("diffuse_smollm2"),
    embedded!("diffuse_biographies"),
    embedded!("intent_qwen2.5"),
    embedded!("mtp_gsm8k"),
    embedded!("sfr_gsm8k"),
];

/// The first line of a recipe, by which an editor finds what it completes and checks the recipe by: a file beside it, that
/// `trainer schema` writes.
pub(super) const SCHEMA_LINE: &str = "#:schema ./trainer.schema.json\n";

/// A recipe inside the program.
pub struct Embedded {
    /// Its file name without the ending.
    pub name: &'static str,
    /// Its text; the first line is for editors, the second a comment that says what it is.
    pub text: &'static str,
}

impl Embedded {
    fn description(&self) -> &'static str {
        self.after_schema().lines().next().unwrap_or_default().trim_start_matches('#').trim()
    }

    /// Its text without the line for editors.
    fn after_schema(&self) -> &'static str {
        self.text.strip_prefix(SCHEMA_LINE).unwrap_or(self.text)
    }

    /// True when model and rows are inside the program too.
    fn needs_nothing(&self) -> bool {
        self.text.contains("train = [\"builtin:")
    }
}

/// List the recipes that come with the program, or copy one
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Write a recipe to a file of its name, never over one that is there
    Cp {
        /// A name from the list
        name: String,
        /// The folder to write to
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Write it for this model, a folder or `org/name`: with learning rate, adapter and objective as a real model wants
        /// them
        #[arg(long, value_name = "PATH")]
        model: Option<String>,
        /// The rows to train on, with `--model`
        #[arg(long, value_name = "FILE", requires = "model")]
        train: Vec<String>,
        /// The rows to evaluate on, with `--model`
        #[arg(long, value_name = "FILE", requires = "model")]
        eval: Vec<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// No recipe of that name, a file that is there already or cannot be written.
pub fn run(arguments: Arguments) -> Result<Outcome, Faults> {
    match arguments.action {
        None => print(&list())?,
        Some(Action::Cp { name, dir, model, train, eval }) => {
            let recipe = named(&name)?;
            let text = match model {
                Some(model) => real::text(recipe, &real::RealRun { model, train, eval })?,
                None => recipe.text.to_owned(),
            };
            let path = copy(recipe, &text, dir)?;
            tell_of_schema(&path);
            print(&format!("{}\n", path.display()))?;
        }
    }
    Ok(Outcome::Done)
}

/// Says once how an editor gets to know the keys of a recipe that was written to `path`.
pub(super) fn tell_of_schema(path: &Path) {
    let schema = path.with_file_name("trainer.schema.json");
    if !schema.exists() {
        let schema = schema.display();
        tracing::info!("`trainer schema > {schema}` lets an editor complete and check it (Taplo, Even Better TOML)");
    }
}

/// The recipe of this objective for a model and rows.
///
/// # Errors
/// There is no recipe of that name.
pub(super) fn real_text(objective: &str, run: &RealRun) -> Result<String, Fault> {
    let named =
        |name: &str| RECIPES.iter().find(|recipe| recipe.name == name || recipe.name.starts_with(&format!("{name}_")));
    let exactly = RECIPES.iter().find(|recipe| recipe.name == objective);
    let recipe = exactly.or_else(|| named(objective)).ok_or_else(|| {
        Fault::new(format!("no recipe is written for the objective `{objective}`"))
            .at(super::argument("objective"))
            .hint("write one with `--objective nll`, and change `objective.kind` in it")
    })?;
    real::text(recipe, run)
}

fn list() -> String {
    let width = RECIPES.iter().map(|recipe| recipe.name.len()).max().unwrap_or_default();
    let group = |title: &str, needs_nothing: bool| {
        let recipes = RECIPES.iter().filter(|recipe| recipe.needs_nothing() == needs_nothing);
        let lines: String =
            recipes.map(|recipe| format!("  {:width$}  {}\n", recipe.name, recipe.description())).collect();
        format!("{title}:\n{lines}")
    };
    let own = "with a model of the hub and rows that you put in place, as each file says";
    format!("{}\n{}", group("with the model and the rows inside the program", true), group(own, false))
}

/// The recipe of a name, with or without its ending.
fn named(name: &str) -> Result<&'static Embedded, Fault> {
    let name = name.strip_suffix(".toml").unwrap_or(name);
    RECIPES.iter().find(|recipe| recipe.name == name).ok_or_else(|| {
        let names = RECIPES.each_ref().map(|recipe| recipe.name);
        let hint = match nearest(name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("one of: {}", names.join(", ")),
        };
        Fault::new(format!("no recipe is named `{name}`")).at(Place::Named(name.into())).hint(hint)
    })
}

/// Writes `text` to a file with the name of `recipe`.
fn copy(recipe: &Embedded, text: &str, dir: PathBuf) -> Result<PathBuf, Fault> {
    let name = recipe.name;
    let path = dir.join(format!("{name}.toml"));
    let unwritable = |error: std::io::Error| Fault::of_file("cannot write the recipe", &path, &error);
    fs_err::create_dir_all(&dir).map_err(unwritable)?;
    // `create_new` looks and writes in one go: no file of the user's is ever lost.
    match std::fs::File::create_new(&path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(|error| {
            // A part of a recipe would stand in the way of the next attempt.
            let _ = std::fs::remove_file(&path);
            unwritable(error)
        })?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Fault::new("the file is there already")
                .at(Place::file(&path))
                .hint(format!("`trainer recipes cp {name} DIR` writes it into another folder")));
        }
        Err(error) => return Err(unwritable(error)),
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_of_the_folder_is_inside_described_and_read_without_a_fault() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");
        let mut files: Vec<String> = fs_err::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name.ends_with(".toml"))
            .collect();
        files.sort();
        let mut names = RECIPES.each_ref().map(|recipe| format!("{}.toml", recipe.name));
        names.sort();
        assert_eq!(files, names);
        for recipe in &RECIPES {
            assert!(recipe.text.starts_with(SCHEMA_LINE), "{}", recipe.name);
            assert!(recipe.after_schema().starts_with("# ") && recipe.description().len() > 20, "{}", recipe.name);
            let read =
                crate::recipe::parse(&format!("{}.toml", recipe.name), recipe.text, &[], &losses::Registry::default());
            let read = read.unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(read.warnings, Vec::<String>::new(), "{}", recipe.name);
        }
    }

    #[test]
    fn a_copy_is_the_recipe_and_never_lands_on_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let recipe = named("nll.toml").expect("a recipe");
        let path = copy(recipe, recipe.text, folder.path().join("new")).expect("a new file");
        assert_eq!(fs_err::read_to_string(&path).expect("the copy"), RECIPES[0].text);
        fs_err::write(&path, "mine").expect("a write");
        let fault = copy(recipe, recipe.text, folder.path().join("new")).expect_err("the file is there");
        assert!(fault.to_string().contains("nll.toml: the file is there already"), "{fault}");
        assert_eq!(fs_err::read_to_string(&path).expect("the file"), "mine");
        let fault = named("nlll").err().expect("no such recipe");
        assert_eq!(fault.hint.as_deref(), Some("did you mean `nll`?"));
    }
}
