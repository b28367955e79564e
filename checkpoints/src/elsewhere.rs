//! Folders of other programs: where in them an adapter or a model lies, and adapters of another kind than PEFT's.

use std::path::{Path, PathBuf};

use faults::{Fault, Place};
use serde_json::Value;

use crate::adapter::{CONFIG, TENSORS};

/// Folders that are looked into below the one that was named.
const DEEP: usize = 2;

/// The folder below `folder` that has one of `files`: of checkpoints that trainers number, the last. `None` where there is
/// none.
pub fn inside(folder: &Path, files: &[&str]) -> Option<PathBuf> {
    let mut found = Vec::new();
    collect(folder, files, DEEP, &mut found);
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.rsplit(['-', '_']).next()?.parse::<u64>().ok()
    };
    found.sort();
    found.into_iter().max_by_key(number)
}

fn collect(folder: &Path, files: &[&str], deep: usize, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !path.is_dir() {
            continue;
        }
        if files.iter().any(|file| path.join(file).is_file()) {
            found.push(path);
        } else if deep > 1 {
            collect(&path, files, deep - 1, found);
        }
    }
}

/// What to name in place of a folder without an adapter's configuration.
pub(crate) fn hint_inside(folder: &Path, files: &[&str]) -> String {
    match inside(folder, files) {
        Some(found) => format!("there is one in `{}`: give that folder", found.display()),
        None => "give the folder that PEFT or `trainer` wrote".into(),
    }
}

/// An adapter's folder that has a configuration and not the tensors of PEFT.
pub(crate) fn without_tensors(folder: &Path) -> Fault {
    let has = |name: &str| folder.join(name).exists();
    let config = faults::read_text(&folder.join(CONFIG)).unwrap_or_default();
    let config: Value = serde_json::from_str(&config).unwrap_or_default();
    let of_mlx = ["fine_tune_type", "lora_parameters", "lora_layers"].iter().any(|key| config.get(key).is_some());
    let fault = match of_mlx && config.get("peft_type").is_none() || has("adapters.safetensors") {
        true => Fault::new("this is an adapter of mlx-lm, expected one of PEFT").hint(
            "`mlx_lm.fuse --model BASE --adapter-path DIR --save-path OUT` merges it into its base; that folder is a model",
        ),
        false if has("adapter_model.bin") => Fault::new(format!("the adapter has no `{TENSORS}`"))
            .hint("it is in PyTorch's own format; load and save it with PEFT to get safetensors"),
        false if has("adapter_model.safetensors.index.json") => {
            Fault::new(format!("the adapter is in several files, expected one `{TENSORS}`")).hint(
                "PEFT reads one alone, too: put the tensors of all of them into one file (`safetensors.torch.load_file` and \
                 `save_file`)",
            )
        }
        false => Fault::new(format!("the adapter has no `{TENSORS}`"))
            .hint("the folder was not copied completely: fetch or write it again"),
    };
    fault.at(Place::file(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Adapter;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }

    fn refusal(folder: &Path) -> String {
        Adapter::read(folder).expect_err("no adapter").to_string()
    }

    #[test]
    fn the_last_of_numbered_checkpoints_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        for step in ["checkpoint-9", "checkpoint-10", "checkpoint-8", "runs"] {
            let file = if step == "runs" { "events" } else { CONFIG };
            write(&out.join(step).join(file), "{}");
        }
        assert_eq!(inside(&out, &[CONFIG]), Some(out.join("checkpoint-10")));
        assert!(refusal(&out).contains("out/checkpoint-10`: give that folder"), "{}", refusal(&out));
        // PEFT's adapters of another name than the first, and what lies a folder further down.
        let named = folder.path().join("named");
        write(&named.join("policy").join(CONFIG), "{}");
        assert!(refusal(&named).contains("named/policy`"), "{}", refusal(&named));
        assert_eq!(inside(folder.path(), &[CONFIG]), Some(out.join("checkpoint-10")));
        let empty = tempfile::tempdir().expect("a folder");
        assert!(refusal(empty.path()).contains("PEFT or `trainer` wrote"));
    }

    #[test]
    fn an_adapter_of_mlx_is_told_from_one_that_was_cut() {
        for (config, file, expected) in [
            (r#"{"fine_tune_type": "lora", "lora_parameters": {"rank": 8}}"#, "adapters.safetensors", "of mlx-lm"),
            (r#"{"fine_tune_type": "dora"}"#, "0000100_adapters.safetensors", "of mlx-lm"),
            (r#"{"lora_layers": 16, "lora_parameters": {"rank": 8}}"#, "adapters.npz", "of mlx-lm"),
            (r#"{"peft_type": "LORA", "r": 8}"#, "README.md", "not copied completely"),
            (r#"{"peft_type": "LORA", "r": 8}"#, "adapter_model.bin", "PyTorch's own format"),
            (r#"{"peft_type": "LORA", "r": 8}"#, "adapter_model.safetensors.index.json", "in several files"),
            ("{", "README.md", "not copied completely"),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            write(&folder.path().join(CONFIG), config);
            write(&folder.path().join(file), "");
            assert!(refusal(folder.path()).contains(expected), "{config}: {}", refusal(folder.path()));
        }
    }
}
