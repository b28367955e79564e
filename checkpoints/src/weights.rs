//! The weights of a model folder, mapped into memory and read tensor by tensor.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use faults::{Fault, Place, json as python, nearest, refuse_pointer};
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::Dtype;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::names::{self, HEAD_WEIGHT};
use crate::tensor::StoredTensor;
use crate::{files, format, tensor};

/// The name of the weights of a model in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The name of the list of files of a model in several.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// A model's weights: `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
///
/// Tensors go by the names that transformers has for them, which may be others than those in the files. The files are
/// mapped, not read: they must not change while this exists.
pub struct Weights {
    name: String,
    files: Vec<Source>,
    tensors: BTreeMap<String, Tensor>,
    index: Option<Map<String, Value>>,
}

/// One file of weights.
struct Source {
    name: String,
    path: String,
    bytes: Bytes,
}

enum Bytes {
    Mapped(Mmap),
    Embedded(&'static [u8]),
}

/// Where a tensor lies.
struct Tensor {
    /// Its name there.
    stored: String,
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Source {
    fn map(path: &Path, name: &str) -> Result<Self, Fault> {
        let read = |error| files::fault("read", path, &error);
        if path.is_dir() {
            return Err(Fault::new("expected a file of weights, found a folder")
                .at(Place::file(path))
                .hint("take the model's files from where they come from again"));
        }
        let file = faults::open_file(path).map_err(read)?;
        // SAFETY: nobody may cut the file while it is mapped, as `Weights` documents; no reader of weights can check it.
        let mapped = unsafe { Mmap::map(&file) }.map_err(read)?;
        Ok(Self { name: name.into(), path: path.display().to_string(), bytes: Bytes::Mapped(mapped) })
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(mapped) => mapped,
            Bytes::Embedded(bytes) => bytes,
        }
    }
}

impl Weights {
    /// The weights in a model folder.
    ///
    /// # Errors
    /// No weights in the folder, a shard that is missing, a broken file, an index that does not fit its shards.
    pub fn open(folder: &Path) -> Result<Self, Fault> {
        let single = folder.join(SINGLE);
        if files::is_there(&single)? {
            return Self::open_file(&single);
        }
        let index = folder.join(INDEX);
        if files::is_there(&index)? {
            return Self::open_shards(folder, &index);
        }
        let fault = Fault::new(format!("no weights here: neither `{SINGLE}` nor `{INDEX}`")).at(Place::file(folder));
        Err(if !folder.is_dir() {
            Fault::new("no such model folder").at(Place::file(folder)).hint("check the path for a typing error")
        } else if folder.join("pytorch_model.bin").exists() || folder.join("pytorch_model.bin.index.json").exists() {
            fault.hint("the model is in PyTorch's own format; save it with `save_pretrained` to get safetensors")
        } else {
            fault.hint("a model folder holds `config.json`, `tokenizer.json` and safetensors weights")
        })
    }

    /// The weights in one safetensors file.
    ///
    /// # Errors
    /// The file cannot be read or is broken.
    pub fn open_file(path: &Path) -> Result<Self, Fault> {
        Self::of_one(path.display().to_string(), Source::map(path, SINGLE)?)
    }

    /// The weights in a safetensors file that the program carries inside; `name` is shown in faults.
    ///
    /// # Errors
    /// The file is broken.
    pub fn from_bytes(name: &str, bytes: &'static [u8]) -> Result<Self, Fault> {
        let source = Source { name: SINGLE.into(), path: name.into(), bytes: Bytes::Embedded(bytes) };
        Self::of_one(name.into(), source)
    }

    fn of_one(name: String, source: Source) -> Result<Self, Fault> {
        let mut tensors = Tensor::all(&source, 0)?;
        refuse_doubled(&name, &tensors)?;
        name_embedding(&mut tensors);
        Ok(Self { name, files: vec![source], tensors, index: None })
    }

    fn open_shards(folder: &Path, index: &Path) -> Result<Self, Fault> {
        let fault = |message: String| Fault::new(message).at(Place::file(index)).hint("download the model again");
        let text = files::read(index)?;
        refuse_pointer(index, &text)?;
        let read = python::read_object_of(&text).map_err(|error| fault(format!("not a JSON object: {error}")))?;
        read.refuse_odd(|key| key == "weight_map").map_err(|odd| fault(odd.message))?;
        let whole = read.with_special_floats();
        let Index { weight_map } = Index::deserialize(&Value::Object(whole.clone()))
            .map_err(|error| fault(format!("not an index of weights: {error}")))?;
        let mut sources: Vec<Source> = Vec::new();
        let mut held: Vec<BTreeMap<String, Tensor>> = Vec::new();
        let mut tensors = BTreeMap::new();
        for (name, shard) in &weight_map {
            let file = match sources.iter().position(|source| source.name == *shard) {
                Some(file) => file,
                None => {
                    if !files::is_plain_name(shard) {
                        return Err(fault(format!("tensor `{name}` lies in {shard:?}, which is no plain file name")));
                    }
                    let path = folder.join(shard);
                    if !path.exists() {
                        return Err(fault(format!("the shard `{shard}` is missing, which holds tensor `{name}`")));
                    }
                    let source = Source::map(&path, shard)?;
                    held.push(Tensor::all(&source, sources.len())?);
                    sources.push(source);
                    sources.len() - 1
                }
            };
            let present = names::present(name).into_owned();
            let tensor = held[file].remove(&present).filter(|tensor| tensor.stored == *name);
            let tensor = tensor.ok_or_else(|| fault(format!("tensor `{name}` is not in its shard `{shard}`")))?;
            if let Some(Tensor { stored, .. }) = tensors.insert(present, tensor) {
                return Err(fault(format!("`{name}` and `{stored}` are two names of one tensor")));
            }
        }
        refuse_doubled(&folder.display().to_string(), &tensors)?;
        name_embedding(&mut tensors);
        Ok(Self { name: folder.display().to_string(), files: sources, tensors, index: Some(whole) })
    }

    /// What the weights are called in faults: their file or folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensor that is the weight `name`: a head without one of its own has the embedding's.
    pub fn holder<'a>(&'a self, name: &'a str) -> &'a str {
        if name == HEAD_WEIGHT && !self.contains(HEAD_WEIGHT) { self.embedding().unwrap_or(name) } else { name }
    }

    /// The tokens' embedding.
    fn embedding(&self) -> Option<&str> {
        self.names().find(|name| names::is_embedding(name))
    }

    /// True when the files hold the head's matrix and none of an embedding: it is both.
    pub fn head_is_embedding(&self) -> bool {
        self.embedding().is_some_and(|name| names::present(&self.tensors[name].stored) == HEAD_WEIGHT)
    }

    /// True when the files hold two matrices, and they are not the same.
    pub fn has_two_ends(&self) -> bool {
        let own = |name: &str| Some((self.dtype(name)?, self.bytes(name).ok()?));
        match (own(HEAD_WEIGHT), self.embedding().and_then(own)) {
            (Some(head), Some(embedding)) => head != embedding,
            _ => false,
        }
    }

    /// What a tensor is called in the files; one that is not there, what it would be called. The head's name is the
    /// embedding's where it stands for both and that is not `untied`.
    pub(crate) fn stored_name<'a>(&'a self, name: &'a str, untied: bool) -> Cow<'a, str> {
        let lent = untied && names::is_embedding(name) && self.head_is_embedding();
        match self.tensors.get(name).filter(|_| !lent) {
            Some(tensor) => Cow::Borrowed(&tensor.stored),
            None => {
                let names = self.tensors.iter().map(|(present, tensor)| (present.as_str(), tensor.stored.as_str()));
                names::stored_like(name, names)
            }
        }
    }

    /// These weights after a training: those of `left_alone` as they are here, and the `trained` ones in place of all
    /// others.
    pub fn after(mut self, trained: Self, left_alone: impl Fn(&str) -> bool) -> Self {
        let first = trained.files.len();
        let renamed = trained.tensors.into_iter().map(|(name, tensor)| {
            let stored = self.stored_name(&name, false).into_owned();
            (name, Tensor { stored, ..tensor })
        });
        let mut tensors: BTreeMap<String, Tensor> = renamed.collect();
        let kept = std::mem::take(&mut self.tensors).into_iter().filter(|(name, _)| left_alone(name));
        tensors.extend(kept.map(|(name, tensor)| (name, Tensor { file: tensor.file + first, ..tensor })));
        Self { name: trained.name, files: trained.files.into_iter().chain(self.files).collect(), tensors, index: None }
    }

    /// True when there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|tensor| tensor.shape.clone())
    }

    /// The type of a tensor's numbers.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.tensors.get(name).map(|tensor| tensor.dtype)
    }

    /// A tensor's numbers as they lie in the file, little-endian.
    ///
    /// # Errors
    /// There is no such tensor.
    pub fn bytes(&self, name: &str) -> Result<&[u8], Fault> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.missing(name))?;
        Ok(&self.files[tensor.file].bytes()[tensor.range.clone()])
    }

    /// A tensor's numbers as f32, converted on all cores.
    ///
    /// # Errors
    /// There is no such tensor, or it does not hold f32, bf16, f16 or f64.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, Fault> {
        let bytes = self.bytes(name)?;
        let dtype = self.dtype(name).ok_or_else(|| self.missing(name))?;
        let values = tensor::decode(dtype, bytes)
            .map_err(|fault| Fault { message: format!("tensor `{name}`: {}", fault.message), ..fault })
            .map_err(|fault| fault.at(self.place_of(name)))?;
        self.release(name);
        Ok(values)
    }

    /// Takes the pages of a tensor that was read out of this process: beside what was made of them they would be a second
    /// copy of a whole model. They stay in the system's cache, and are read again where they are asked for again.
    pub(crate) fn release(&self, name: &str) {
        #[cfg(unix)]
        if let Some(Tensor { file, range, .. }) = self.tensors.get(name)
            && let Bytes::Mapped(mapped) = &self.files[*file].bytes
        {
            // SAFETY: the map is of a file and never written, so that its pages come back as they were. Where the system
            // keeps them, nothing is lost but memory.
            let _ = unsafe { mapped.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        }
        #[cfg(not(unix))]
        let _ = name;
    }

    /// Reads all floating-point numbers.
    ///
    /// # Errors
    /// NaN or infinity in a tensor: the first by name.
    pub fn refuse_not_finite(&self) -> Result<(), Fault> {
        for (name, tensor) in &self.tensors {
            let finite = tensor::all_finite(tensor.dtype, self.bytes(name)?);
            self.release(name);
            if !finite {
                return Err(Fault::new(format!("the tensor `{}` holds a value that is not finite", tensor.stored))
                    .at(self.place_of(name))
                    .hint("fetch the model again, or repair it: nothing can be trained on NaN or infinity"));
            }
        }
        Ok(())
    }

    /// How many numbers all tensors hold together.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum()
    }

    /// The file a tensor lies in, or the whole model when there is no such tensor.
    pub fn place_of(&self, name: &str) -> Place {
        let path = self.tensors.get(name).map(|tensor| &self.files[tensor.file].path);
        Place::File(path.unwrap_or(&self.name).clone())
    }

    /// Each file's name with the names of its tensors in the order of their data.
    pub(crate) fn shards(&self) -> Vec<(&str, Vec<&str>)> {
        let mut shards: Vec<(&str, Vec<(usize, &str)>)> =
            self.files.iter().map(|source| (source.name.as_str(), Vec::new())).collect();
        for (name, tensor) in &self.tensors {
            shards[tensor.file].1.push((tensor.range.start, name));
        }
        shards
            .into_iter()
            .map(|(file, mut tensors)| {
                tensors.sort();
                (file, tensors.into_iter().map(|(_, name)| name).collect())
            })
            .collect()
    }

    /// The index of a model in several files, as read.
    pub(crate) fn index(&self) -> Option<&Map<String, Value>> {
        self.index.as_ref()
    }

    fn missing(&self, name: &str) -> Fault {
        let fault = Fault::new(format!("there is no tensor `{name}`")).at(Place::File(self.name.clone()));
        match nearest(name, self.names()) {
            Some(near) => fault.hint(format!("the nearest is `{near}`")),
            None => fault.hint("the file holds no tensor at all"),
        }
    }
}

impl Tensor {
    /// Those of one file by their present names.
    fn all(source: &Source, file: usize) -> Result<BTreeMap<String, Tensor>, Fault> {
        let header = format::read_header(&source.path, source.bytes())?;
        let start = header.data_start;
        let mut tensors = BTreeMap::new();
        for (stored, info) in header.tensors {
            let range = start + info.data_offsets.0..start + info.data_offsets.1;
            let name = names::present(&stored).into_owned();
            let tensor = Tensor { stored, file, dtype: info.dtype, shape: info.shape, range };
            if let Some(Tensor { stored, .. }) = tensors.insert(name.clone(), tensor) {
                let message = format!("`{}` and `{stored}` are two names of one tensor", tensors[&name].stored);
                return Err(Fault::new(message)
                    .at(Place::File(source.path.clone()))
                    .hint("take the model's files from where they come from again"));
            }
        }
        Ok(tensors)
    }
}

/// Refuses a decoder that was saved as the part of another one, whose names nothing else has.
fn refuse_doubled(name: &str, tensors: &BTreeMap<String, Tensor>) -> Result<(), Fault> {
    match names::doubled(tensors.values().map(|tensor| tensor.stored.as_str())) {
        None => Ok(()),
        Some(stored) => Err(Fault::new(format!("the names of the tensors have `model.` twice, as in `{stored}`"))
            .at(Place::File(name.to_owned()))
            .hint(
                "a program saved the model with another one around it: save the model within, or take one `model.` off",
            )),
    }
}

/// Gives the head's matrix the embedding's name where a decoder has no other.
fn name_embedding(tensors: &mut BTreeMap<String, Tensor>) {
    let embedding = names::embedding_beside(tensors.keys().map(String::as_str));
    if let Some(embedding) = embedding.filter(|name| !tensors.contains_key(name))
        && let Some(head) = tensors.remove(HEAD_WEIGHT)
    {
        tensors.insert(embedding, head);
    }
}

/// Writes tensors into a file and reads them back, so that what is on the disk is what was meant.
pub(crate) fn write_tensors(path: &Path, tensors: &BTreeMap<String, StoredTensor>) -> Result<(), Fault> {
    let mut sorted: Vec<(&String, &StoredTensor)> = tensors.iter().collect();
    // Wide types first, so that every tensor is aligned to its type.
    sorted.sort_by_key(|(_, tensor)| Reverse(tensor.dtype));
    let entries: Vec<format::Entry<'_>> = sorted
        .iter()
        .map(|(name, tensor)| format::Entry {
            name: name.as_str(),
            dtype: tensor.dtype,
            shape: &tensor.shape,
            size: tensor.bytes.len(),
        })
        .collect();
    files::write(path, |out| format::write(out, &entries, |index| Ok(Cow::Borrowed(&sorted[index].1.bytes[..]))))?;
    let back = Weights::open_file(path)?;
    let same = back.names().eq(tensors.keys())
        && tensors.iter().all(|(name, tensor)| {
            let same = back.dtype(name) == Some(tensor.dtype)
                && back.shape(name).as_ref() == Some(&tensor.shape)
                && back.bytes(name).is_ok_and(|bytes| bytes == tensor.bytes);
            back.release(name);
            same
        });
    if same {
        Ok(())
    } else {
        Err(Fault::new("what was read back is not what was written").at(Place::file(path)).hint(DISK))
    }
}

/// What to do about files that do not keep what is written into them.
pub(crate) const DISK: &str = "the disk does not keep what it is given: write to another one";

/// All tensors of a file, copied out of it.
pub(crate) fn read_all(weights: &Weights) -> Result<BTreeMap<String, StoredTensor>, Fault> {
    let tensor = |name: &str| -> Result<(String, StoredTensor), Fault> {
        let bytes = weights.bytes(name)?.to_vec();
        let dtype = weights.dtype(name).expect("a tensor with bytes has a type");
        let shape = weights.shape(name).expect("a tensor with bytes has a shape");
        Ok((name.to_owned(), StoredTensor { dtype, shape, bytes }))
    };
    weights.names().map(tensor).collect()
}
