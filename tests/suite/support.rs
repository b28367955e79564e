//! What the tests share: a folder of its own for each, the program run in it, and small rows and models.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_trainer");

/// Longer than any command here takes on a busy machine; a command that hangs fails its test.
const LIMIT: Duration = Duration::from_secs(120);

/// Six steps of four rows on the model inside the program.
const RECIPE: &str = r#"seed = 3
[model]
path = "builtin:tiny"
[adapter]
rank = 4
alpha = 8
[data]
train = ["rows.jsonl"]
eval = ["held_out.jsonl"]
[optimizer]
learning_rate = 5e-3
[train]
steps = 6
batch_size = 4
[checkpoint]
every = 2
[output]
dir = "run"
"#;

/// A folder with `recipe.toml`, `full.toml` (the same, every weight trained), `rows.jsonl` (24 rows) and
/// `held_out.jsonl` (8 rows).
pub struct Workplace {
    folder: TempDir,
}

impl Workplace {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rows = datasets::builtin::rows("world-train").expect("a built-in data set");
        // From all over the file, so that prompts and lengths differ.
        let every = |start: usize, step: usize, count: usize| -> String {
            rows.lines().skip(start).step_by(step).take(count).flat_map(|row| [row, "\n"]).collect()
        };
        let place = Self { folder };
        place.write("recipe.toml", RECIPE);
        place.write("full.toml", RECIPE.replace("rank = 4\nalpha = 8", "kind = \"none\""));
        place.write("rows.jsonl", every(0, 83, 24));
        place.write("held_out.jsonl", every(41, 250, 8));
        place
    }

    /// The same with a copy of the embedded model in `model/`.
    pub fn with_model() -> Self {
        let place = Self::new();
        place.model("model");
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and the folders it lies in.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a written file");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).expect("UTF-8")
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs the program here, with arguments separated by blanks.
    pub fn trainer(&self, arguments: &str) -> Ended {
        self.trainer_with(&arguments.split_whitespace().collect::<Vec<_>>(), &[])
    }

    pub fn trainer_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        let mut command = assert_cmd::Command::new(PROGRAM);
        command.current_dir(self.folder.path()).args(arguments).timeout(LIMIT);
        for name in SILENCED {
            command.env_remove(name);
        }
        command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", self.path("no-hub"));
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command.envs(environment.iter().copied());
        Ended::of(&command.output().expect("the program runs"), &arguments.join(" "))
    }

    /// A line of shell with the program as `trainer` on its path.
    pub fn shell(&self, script: &str) -> Ended {
        let folder = Path::new(PROGRAM).parent().expect("a folder");
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = assert_cmd::Command::new("sh");
        command.current_dir(self.folder.path()).args(["-c", script]).env("PATH", path).timeout(LIMIT);
        Ended::of(&command.output().expect("a shell runs"), script)
    }

    /// Starts the program and leaves it running, its output in files.
    pub fn start(&self, arguments: &str) -> Child {
        self.start_by("", arguments)
    }

    /// The same by a command that turns into it, such as `env`.
    pub fn start_by(&self, starter: &str, arguments: &str) -> Child {
        let file = |name: &str| Stdio::from(fs::File::create(self.path(name)).expect("a file"));
        let mut words = starter.split_whitespace().chain([PROGRAM]).chain(arguments.split_whitespace());
        let mut command = std::process::Command::new(words.next().expect("the program at least"));
        command.current_dir(self.folder.path()).args(words).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", self.path("cache"));
        for name in SILENCED {
            command.env_remove(name);
        }
        command.stdout(file("stdout")).stderr(file("stderr")).spawn().expect("the program starts")
    }

    /// Waits until `done`.
    pub fn wait_until(&self, what: &str, done: impl FnMut() -> bool) {
        self.look_until(what, || std::thread::sleep(Duration::from_millis(2)), done);
    }

    /// Waits until `done`, which may not stay so.
    pub fn catch(&self, what: &str, done: impl FnMut() -> bool) {
        self.look_until(what, std::thread::yield_now, done);
    }

    fn look_until(&self, what: &str, pause: impl Fn(), mut done: impl FnMut() -> bool) {
        let started = Instant::now();
        while !done() {
            assert!(started.elapsed() < LIMIT, "{what} never happened:\n{}", self.text("stderr"));
            pause();
        }
    }

    /// Runs a command that must fail with the user's error, naming all of `expected`, and change nothing here.
    pub fn refuses(&self, arguments: &str, expected: &[&str]) -> Ended {
        let before = self.tree("");
        let ended = self.trainer(arguments).fails(expected);
        self.assert_unchanged(&before, arguments);
        ended
    }

    pub fn assert_unchanged(&self, before: &BTreeMap<PathBuf, Vec<u8>>, after: &str) {
        let now = self.tree("");
        let names = |tree: &BTreeMap<PathBuf, Vec<u8>>| tree.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(before), names(&now), "files came or went: {after}");
        assert!(*before == now, "a file changed: {after}");
    }

    /// Every file and empty folder under `name` with its content.
    pub fn tree(&self, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.path(name)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let relative = path.strip_prefix(self.folder.path()).expect("a path inside").to_owned();
                if path.is_dir() {
                    found.insert(relative.join(""), Vec::new());
                    folders.push(path);
                } else if !path.ends_with("stdout") && !path.ends_with("stderr") {
                    found.insert(relative, fs::read(&path).expect("a file"));
                }
            }
        }
        found
    }

    /// The lines of a run's `metrics.jsonl`.
    pub fn metrics(&self, run: &str) -> Vec<Value> {
        let text = self.text(&format!("{run}/metrics.jsonl"));
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The same without the time that a step took.
    pub fn timeless(&self, run: &str) -> Vec<Value> {
        let mut lines = self.metrics(run);
        for line in &mut lines {
            line.as_object_mut().expect("an object").remove("seconds").expect("the time of the step");
        }
        lines
    }

    /// Whole lines in `metrics.jsonl` of `run` so far, none before there is such a file.
    pub fn metrics_length(&self) -> usize {
        fs::read_to_string(self.path("run/metrics.jsonl")).map_or(0, |text| text.matches('\n').count())
    }

    /// The lines of training steps.
    pub fn steps(&self, run: &str) -> Vec<Value> {
        self.metrics(run).into_iter().filter(|line| line["split"] == "train").collect()
    }

    /// A copy of `builtin:tiny` as a folder of Hugging Face files.
    pub fn model(&self, name: &str) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("backbone/src/tiny");
        for file in ["config.json", "model.safetensors"] {
            self.write(&format!("{name}/{file}"), fs::read(source.join(file)).expect("the embedded model"));
        }
        for (file, text) in datasets::builtin::tokenizer_files() {
            self.write(&format!("{name}/{file}"), text);
        }
    }
}

/// What a user's environment may hold that changes what is printed.
pub const SILENCED: [&str; 7] =
    ["RUST_LOG", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_BACKTRACE", "HF_TOKEN", "HF_ENDPOINT"];

/// What became of a command.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    command: String,
}

impl Ended {
    fn of(output: &std::process::Output, command: &str) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command: command.into(),
        }
    }

    pub fn exits(self, code: i32) -> Self {
        let Self { stdout, stderr, command, .. } = &self;
        assert_eq!(self.code, Some(code), "{command}\n{stdout}\n{stderr}");
        assert!(!stderr.contains("a fault of this program") && !stderr.contains("panicked"), "{command}\n{stderr}");
        self
    }

    pub fn succeeds(self) -> Self {
        self.exits(0)
    }

    /// The user's error: exit code 1, nothing on stdout, and each of `expected` on stderr.
    pub fn fails(self, expected: &[&str]) -> Self {
        let ended = self.exits(1);
        assert_eq!(ended.stdout, "", "{}", ended.command);
        assert!(ended.stderr.contains("error: "), "{}\n{}", ended.command, ended.stderr);
        ended.says(expected)
    }

    /// Each of `expected` stands on stderr.
    pub fn says(self, expected: &[&str]) -> Self {
        for part in expected {
            assert!(self.stderr.contains(part), "{part:?} is not said by {}\n{}", self.command, self.stderr);
        }
        self
    }

    /// The number after `words` on stderr.
    pub fn number_after(&self, words: &str) -> f64 {
        let rest = self.stderr.split(words).nth(1).unwrap_or_else(|| panic!("{words:?} is not in\n{}", self.stderr));
        rest.split([' ', ';', '\n']).next().expect("a word").parse().expect("a number")
    }

    /// Each line of stdout as JSON.
    pub fn lines(&self) -> Vec<Value> {
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}:\n{line}"));
        self.stdout.lines().map(line).collect()
    }

    /// Stdout as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{}", self.stdout))
    }
}

/// The larger of two errors; NaN is larger than all, where `f32::max` passes over it.
pub fn larger<T: PartialOrd>(most: T, error: T) -> T {
    if error <= most { most } else { error }
}
