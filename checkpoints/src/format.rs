//! The safetensors format: headers of files nobody vouches for, and files written one tensor at a time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};

use faults::{Fault, Place, refuse_pointer};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

/// The bytes before the header: its length, little-endian.
const LENGTH_BYTES: usize = 8;

/// The longest header that other readers accept.
const LONGEST_HEADER: usize = 100_000_000;

/// What a file says it holds, checked against the bytes it has.
pub(crate) struct Header {
    /// Names and places of the tensors, in the order of their data.
    pub tensors: Vec<(String, TensorInfo)>,
    /// Where the data begins; the offsets in `tensors` count from here.
    pub data_start: usize,
}

/// Reads the header of the file `bytes`, called `name` in faults.
///
/// After this every tensor's bytes lie inside the file and are as many as its shape and type ask for.
pub(crate) fn read_header(name: &str, bytes: &[u8]) -> Result<Header, Fault> {
    let fault = |message: String| Err(Fault::new(message).at(Place::File(name.into())).hint(HINT));
    refuse_pointer(name, bytes)?;
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return fault(format!("not a safetensors file: {} bytes are too few", bytes.len()));
    };
    let length = u64::from_le_bytes(*length);
    let header = match usize::try_from(length) {
        Ok(length) if length <= LONGEST_HEADER => rest.get(..length),
        _ => return fault(format!("not a safetensors file: it claims a header of {length} bytes")),
    };
    let Some(header) = header else {
        let held = bytes.len();
        return fault(format!("the file is cut short: its header is {length} bytes long, the file {held}"));
    };
    // The crate's own check of a whole file adds the sizes a file claims without guarding the sum, so the last step,
    // the comparison with the length of the file, is ours.
    let metadata: Metadata = match serde_json::from_slice(header) {
        Ok(metadata) => metadata,
        Err(error) => return fault(format!("the header is broken: {}", blame(header).unwrap_or(error.to_string()))),
    };
    let held = bytes.len() - LENGTH_BYTES - header.len();
    let claimed = metadata.data_len();
    if claimed != held {
        let last = metadata.offset_keys().pop().unwrap_or_default();
        let what = if claimed > held { "is cut short" } else { "has bytes that belong to no tensor" };
        return fault(format!("the file {what}: tensor `{last}` ends at byte {claimed} of the data, which has {held}"));
    }
    let tensors = metadata
        .offset_keys()
        .into_iter()
        .filter_map(|key| metadata.info(&key).cloned().map(|info| (key, info)))
        .collect();
    Ok(Header { tensors, data_start: LENGTH_BYTES + header.len() })
}

const HINT: &str = "the file is damaged or was not downloaded completely; fetch or write it again";

/// The first tensor whose entry cannot be right, which the crate's error does not always name.
fn blame(header: &[u8]) -> Option<String> {
    let entries: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    entries.iter().filter(|(name, _)| *name != "__metadata__").find_map(|(name, entry)| {
        let info: TensorInfo = match serde_json::from_value(entry.clone()) {
            Ok(info) => info,
            Err(error) => return Some(format!("tensor `{name}`: {error}")),
        };
        let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |bits, size| bits.checked_mul(*size));
        let (start, end) = info.data_offsets;
        let fits = bits.is_some_and(|bits| bits % 8 == 0 && end.checked_sub(start) == Some(bits / 8));
        let TensorInfo { dtype, shape, .. } = info;
        (!fits).then(|| format!("tensor `{name}` cannot be {dtype} {shape:?} in the bytes {start}..{end}"))
    })
}

/// A tensor to be written: what the header says about it.
pub(crate) struct Entry<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// The type of each number.
    pub dtype: Dtype,
    /// The size of each dimension.
    pub shape: &'a [usize],
    /// The length of the data in bytes.
    pub size: usize,
}

/// Writes a file: the header, then the data of each entry in the order given, asked for one at a time.
pub(crate) fn write<'a>(
    out: &mut dyn Write,
    entries: &[Entry<'_>],
    mut data: impl FnMut(usize) -> io::Result<Cow<'a, [u8]>>,
) -> io::Result<()> {
    let mut end = 0;
    let infos = entries
        .iter()
        .map(|entry| {
            let start = end;
            end += entry.size;
            let info = TensorInfo { dtype: entry.dtype, shape: entry.shape.to_vec(), data_offsets: (start, end) };
            (entry.name.to_string(), info)
        })
        .collect();
    let format = HashMap::from([("format".to_string(), "pt".to_string())]);
    let metadata = Metadata::new(Some(format), infos).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&metadata)?;
    // The data begins at a multiple of eight bytes, for readers that map it.
    header.resize(header.len().next_multiple_of(LENGTH_BYTES), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (index, entry) in entries.iter().enumerate() {
        let bytes = data(index)?;
        assert_eq!(bytes.len(), entry.size, "the data of `{}` is as long as its header says", entry.name);
        out.write_all(&bytes)?;
    }
    Ok(())
}
