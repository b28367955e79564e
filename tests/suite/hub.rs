//! Repositories of a hub, which is a thread of the test: what is wrong with one is found before its weights are fetched.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::Workplace;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one repository, which remembers the paths that it was asked for.
struct Hub {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn of(files: BTreeMap<String, Vec<u8>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        // It ends with the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &files, &log);
            }
        });
        Self { endpoint, asked }
    }

    fn asked_for(&self, end: &str) -> bool {
        self.asked.lock().expect("the log").iter().any(|path| path.ends_with(end))
    }
}

fn answer(mut stream: TcpStream, files: &BTreeMap<String, Vec<u8>>, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut header = String::new();
    while reader.read_line(&mut header).ok()? > 2 {
        header.clear();
    }
    log.lock().ok()?.push(path.clone());
    let names: Vec<Value> = files.keys().map(|name| json!({"rfilename": name})).collect();
    let of_repository = path.strip_prefix("/datasets").unwrap_or(&path);
    let body = match of_repository.strip_prefix(&format!("/org/name/resolve/{COMMIT}/")) {
        Some(name) => files.get(name)?.clone(),
        None => json!({"sha": COMMIT, "siblings": names}).to_string().into_bytes(),
    };
    let (length, etag) = (body.len(), path.replace('/', "-"));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nETag: \"e{etag}\"\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    if method != "HEAD" {
        stream.write_all(&body).ok()?;
    }
    Some(())
}

/// The embedded model as the files of a repository.
fn files(place: &Workplace) -> BTreeMap<String, Vec<u8>> {
    place.model("model");
    let names = std::fs::read_dir(place.path("model")).expect("a folder").flatten();
    names
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("it")))
        .collect()
}

#[test]
fn a_repository_that_cannot_be_used_is_refused_before_its_weights_are_fetched() {
    let place = Workplace::new();
    place.trainer("run recipe.toml --set train.steps=1").succeeds();
    place.trainer("export run --out adapter").succeeds();
    let mut config = place.json("adapter/adapter_config.json");
    config["base_model_name_or_path"] = "org/name".into();
    place.write("adapter/adapter_config.json", config.to_string());
    let whole = files(&place);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut files = whole.clone();
        let mut config: Value = serde_json::from_slice(&files["config.json"]).expect("JSON");
        change(&mut config);
        files.insert("config.json".into(), config.to_string().into_bytes());
        files
    };
    let mut without_tokenizer = whole.clone();
    without_tokenizer.remove("tokenizer.json");
    let mut pointer = whole.clone();
    pointer.insert("tokenizer.json".into(), b"version https://git-lfs.github.com/spec/v1\nsize 5\n".to_vec());
    let mut broken = whole.clone();
    broken.insert("config.json".into(), b"{".to_vec());
    let cases: [(BTreeMap<String, Vec<u8>>, &str); 7] = [
        (with(&|config| config["model_type"] = "mamba2".into()), "unknown architecture `mamba2`"),
        (with(&|config| config["quantization_config"] = json!({"quant_method": "awq"})), "quantised already"),
        (with(&|config| config["num_local_experts"] = 8.into()), "`num_local_experts` of this model is not understood"),
        (with(&|config| config["vocab_size"] = 100.into()), "768 tokens"),
        (without_tokenizer, "`tokenizer.json` is missing"),
        (pointer, "Git LFS pointer"),
        (broken, "not valid JSON"),
    ];
    let commands = [
        "check recipe.toml --set model.path=org/name",
        "run recipe.toml --set model.path=org/name --set output.dir=other",
        "sample org/name --prompt a",
        "eval org/name --data rows.jsonl",
        "bench --model org/name",
        "inspect org/name",
        "sample adapter --prompt a",
        "export adapter --out merged --merge",
    ];
    for (case, (files, expected)) in cases.into_iter().enumerate() {
        let hub = Hub::of(files);
        for (index, command) in commands.iter().enumerate() {
            let cache = place.path(&format!("hub-{case}-{index}"));
            let arguments: Vec<&str> = command.split(' ').collect();
            let home = [("HF_ENDPOINT", hub.endpoint.as_str()), ("HF_HUB_OFFLINE", "0")];
            let ended =
                place.trainer_with(&arguments, &[&home[..], &[("HF_HOME", cache.to_str().expect("a path"))]].concat());
            ended.fails(&[expected, "hint: "]);
        }
        assert!(hub.asked_for("/config.json") && !hub.asked_for(".safetensors"), "{expected}");
    }
    let hub = Hub::of(whole);
    let home = [("HF_ENDPOINT", hub.endpoint.as_str()), ("HF_HUB_OFFLINE", "0")];
    place.trainer_with(&["sample", "org/name", "--prompt", "a"], &home).succeeds();
    assert!(hub.asked_for("/model.safetensors"));
}

/// Trained from a data set by name, and once more from the cache alone.
#[test]
fn rows_of_a_data_set_are_had_by_its_name() {
    let place = Workplace::new();
    let (rows, held) = (place.read("rows.jsonl"), place.read("held_out.jsonl"));
    place.trainer("run recipe.toml").succeeds();
    let card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: rows/*.jsonl\n  - split: test\n    path: held/a.jsonl\n---\n";
    let files = [
        ("README.md", card.as_bytes().to_vec()),
        ("rows/1.jsonl", rows),
        ("held/a.jsonl", held),
        ("big.bin", vec![0; 9]),
    ];
    let hub = Hub::of(files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect());
    let cache = place.path("hub");
    let home = [("HF_ENDPOINT", hub.endpoint.as_str()), ("HF_HOME", cache.to_str().expect("a path"))];
    for (output, offline) in [("first", "0"), ("second", "1")] {
        let line = format!(
            "run recipe.toml --set data.train=[\"org/name\"] --set data.eval=[\"org/name:test\"] --set output.dir={output}"
        );
        let arguments: Vec<&str> = line.split_whitespace().collect();
        place.trainer_with(&arguments, &[&home[..], &[("HF_HUB_OFFLINE", offline)]].concat()).succeeds();
        assert_eq!(place.timeless(output), place.timeless("run"));
    }
    assert!(!hub.asked_for("big.bin"));
    let asked = |split: &str| {
        let line = format!("check recipe.toml --set data.train=[\"org/name:{split}\"]");
        let arguments: Vec<&str> = line.split_whitespace().collect();
        place.trainer_with(&arguments, &[&home[..], &[("HF_HUB_OFFLINE", "1")]].concat())
    };
    asked("tset").fails(&["`org/name` has no split `tset`", "hint: "]);
}

/// What the recipe, the rows and the small files are enough for is not found out after gigabytes.
#[test]
fn a_run_that_cannot_be_is_refused_before_the_weights_of_its_base_are_fetched() {
    let place = Workplace::new();
    let whole = files(&place);
    let changed = |file: &str, change: &dyn Fn(&mut Value)| {
        let mut files = whole.clone();
        let mut object: Value = serde_json::from_slice(&files[file]).expect("JSON");
        change(&mut object);
        files.insert(file.into(), object.to_string().into_bytes());
        files
    };
    place.write("broken.jsonl", "{\"text\": \"a\"\n");
    place.write("shapeless.jsonl", "{\"colour\": \"red\"}\n");
    place.write("empty.jsonl", "");
    place.write("broken.jinja", "{% for message in messages %}");
    place.write(
        "chat.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n",
    );
    let dropout = changed("config.json", &|config| config["attention_dropout"] = 0.1.into());
    let silent = changed("tokenizer_config.json", &|config| {
        config.as_object_mut().expect("an object").remove("chat_template");
    });
    let cases = [
        (&dropout, "", "dropout inside of the model is not supported"),
        (&whole, "--set data.train=broken.jsonl", "broken.jsonl:1"),
        (&whole, "--set data.train=shapeless.jsonl", "shapeless.jsonl:1"),
        (&whole, "--set data.eval=empty.jsonl", "the file has no rows"),
        (&whole, "--set data.train=none.jsonl", "cannot open the data file"),
        (&whole, "--set data.max_length=100000", "is more than the model's"),
        (&whole, "--set data.end_of_turn=<none>", "`<none>` is no token"),
        (&whole, "--set data.chat_template=broken.jinja", "cannot read the chat template"),
        (&whole, "--set adapter.targets=[\"c_attn\"]", "`adapter.targets` names `c_attn`"),
        (&whole, "--set adapter.init_from=nowhere --set adapter.rank= --set adapter.alpha=", "nowhere"),
        (&whole, "--set schedule.warmup=10", "`schedule.warmup` = 10 does not end before `train.steps` = 6"),
        (&whole, "--set data.max_length=4", "more than 4"),
        (&silent, "--set data.train=chat.jsonl", "chat template"),
    ];
    for (case, (files, set, expected)) in cases.into_iter().enumerate() {
        let hub = Hub::of(files.clone());
        for command in ["check", "run"] {
            let cache = place.path(&format!("cache-{case}-{command}"));
            let line = format!("{command} recipe.toml --set model.path=org/name {set}");
            let arguments: Vec<&str> = line.split_whitespace().collect();
            let home = [("HF_ENDPOINT", hub.endpoint.as_str()), ("HF_HUB_OFFLINE", "0")];
            let ended =
                place.trainer_with(&arguments, &[&home[..], &[("HF_HOME", cache.to_str().expect("a path"))]].concat());
            ended.fails(&[expected]);
        }
        assert!(!hub.asked_for(".safetensors"), "{expected}");
    }
    place.write("goes_on.toml", place.text("recipe.toml").replace("rank = 4\nalpha = 8", "init_from = \"nowhere\""));
    let refused = place.refuses("check goes_on.toml --set model.path=no/where", &["nowhere", "hint: "]);
    assert!(!refused.stderr.contains("no/where"), "{}", refused.stderr);
    // To be asked, a model with dropout is whole.
    let hub = Hub::of(dropout.clone());
    let cache = place.path("cache");
    let cache = cache.to_str().expect("a path");
    let home = [("HF_ENDPOINT", hub.endpoint.as_str()), ("HF_HUB_OFFLINE", "0"), ("HF_HOME", cache)];
    place.trainer_with(&["sample", "org/name", "--prompt", "a"], &home).succeeds();
    assert!(hub.asked_for(".safetensors"));
    // What was looked at beforehand is the plan, the same as of the same model in a folder.
    let hub = Hub::of(whole.clone());
    let cache = place.path("other");
    let cache = cache.to_str().expect("a path");
    let home = [("HF_ENDPOINT", hub.endpoint.as_str()), ("HF_HUB_OFFLINE", "0"), ("HF_HOME", cache)];
    let check = ["check", "--json", "recipe.toml", "--set", "model.path=org/name"];
    let fetched = place.trainer_with(&check, &home).succeeds().json();
    let again = place.trainer_with(&check, &home).succeeds().json();
    assert_eq!((&fetched["data"], &fetched["example"]), (&again["data"], &again["example"]));
}
