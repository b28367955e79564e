//! The page of files that `trainer eval` wrote, on stdout: `cargo run -p pages --example compare -- EVAL.jsonl.. > page.html`.

use std::process::ExitCode;

use pages::{Comparison, read, render};

fn main() -> ExitCode {
    let mut comparison = Comparison { title: "Comparison".into(), ..Comparison::default() };
    for path in std::env::args().skip(1) {
        let read = std::fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(|text| {
            let read = read::evaluations(&text, &path, &mut comparison.runs);
            read.map_err(|trouble| format!("line {}: {}", trouble.line, trouble.message))
        });
        if let Err(message) = read {
            eprintln!("{path}: {message}");
            return ExitCode::FAILURE;
        }
    }
    println!("{}", render(&comparison).expect("the first is the baseline"));
    ExitCode::SUCCESS
}
