//! The shards that a `model.safetensors.index.json` names.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use faults::{Fault, Place, json as python, refuse_pointer};
use serde::Deserialize;
use serde_json::Value;

/// An index of a model with a hundred thousand tensors has about ten mebibytes.
const LARGEST_INDEX: u64 = 64 << 20;

#[derive(Deserialize)]
struct Index {
    weight_map: std::collections::HashMap<String, String>,
}

/// The names of the shards, each once, in order.
///
/// # Errors
/// A file that is no index, and shard names that are not plain names of files beside it.
pub(super) fn shards(path: &Path) -> Result<Vec<String>, Fault> {
    let broken = |why: String| {
        Fault::new(format!("`model.safetensors.index.json` cannot be used: {why}"))
            .at(Place::file(path))
            .hint("delete the file to have it downloaded again; if that does not help, the repository is broken")
    };
    let mut text = Vec::new();
    let file = fs_err::File::open(path).map_err(|error| broken(error.to_string()))?;
    file.take(LARGEST_INDEX + 1).read_to_end(&mut text).map_err(|error| broken(error.to_string()))?;
    if text.len() as u64 > LARGEST_INDEX {
        return Err(broken(format!("it is larger than {} MiB", LARGEST_INDEX >> 20)));
    }
    refuse_pointer(path, &text)?;
    let read = python::read_object_of(&text).map_err(|error| broken(error.to_string()))?;
    read.refuse_odd(|key| key == "weight_map").map_err(|odd| broken(odd.message))?;
    let index = Index::deserialize(&Value::Object(read.value)).map_err(|error| broken(error.to_string()))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(name) = shards.iter().find(|name| !is_plain_name(name) || !name.ends_with(".safetensors")) {
        return Err(broken(format!("it names `{}`, expected a `.safetensors` file beside it", name.escape_debug())));
    }
    if shards.is_empty() {
        return Err(broken("it names no weights".into()));
    }
    Ok(shards.into_iter().collect())
}

/// A name that can only be a file of its own folder.
pub(super) fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(plain)
}
