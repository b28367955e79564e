//! Files nobody vouches for: a fault that names the file, never a panic.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use checkpoints::{Adapter, Weights};
use proptest::prelude::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

static MODEL: LazyLock<Vec<u8>> = LazyLock::new(|| read("base/model.safetensors"));
static ADAPTER: LazyLock<Vec<u8>> = LazyLock::new(|| read("patterns/adapter_model.safetensors"));
static CONFIG: LazyLock<Vec<u8>> = LazyLock::new(|| read("patterns/adapter_config.json"));

fn read(name: &str) -> Vec<u8> {
    fs::read(Path::new(FIXTURES).join(name)).unwrap()
}

/// Opens the bytes as a file and reads every tensor; gives the fault when there is one.
fn open(bytes: &[u8]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    match Weights::open(folder.path()) {
        Ok(weights) => {
            for name in weights.names() {
                let held = weights.bytes(name).unwrap().len();
                let numbers: usize = weights.shape(name).unwrap().iter().product();
                assert_eq!(numbers * weights.dtype(name).unwrap().bitsize(), held * 8);
                let _ = weights.f32(name);
            }
            None
        }
        Err(fault) => {
            assert!(fault.to_string().contains("model.safetensors"), "{fault}");
            Some(fault.message)
        }
    }
}

fn with_header(header: &[u8], data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((0usize..2200, any::<u8>()), 1..4)) {
        let mut bytes = MODEL.clone();
        for (place, value) in flips {
            bytes[place] = value;
        }
        open(&bytes);
    }

    #[test]
    fn a_cut_file_is_always_a_fault(length in 0usize..14592) {
        prop_assert!(open(&MODEL[..length]).is_some());
    }

    #[test]
    fn arbitrary_headers_never_panic(
        header in r#"\{("[a-c]":\{"dtype":"(F32|BF16|F4|I64|Q9)","shape":\[([0-9]{1,20},){0,2}[0-9]\],"data_offsets":\[[0-9]{1,20},[0-9]{1,20}\]\},?){0,3}\}"#,
        data in 0usize..64,
    ) {
        open(&with_header(header.as_bytes(), data));
    }

    #[test]
    fn a_broken_adapter_never_panics(
        in_config in any::<bool>(), place in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut config, mut tensors) = (CONFIG.clone(), ADAPTER.clone());
        let broken = if in_config { &mut config } else { &mut tensors };
        let place = place.index(broken.len());
        if cut { broken.truncate(place) } else { broken[place] = value }
        fs::write(folder.path().join("adapter_config.json"), config).unwrap();
        fs::write(folder.path().join("adapter_model.safetensors"), tensors).unwrap();
        let read = Adapter::read(folder.path());
        if let Err(faults) = &read {
            prop_assert!(faults.list().iter().all(|fault| fault.place.is_some()), "{faults}");
        }
        prop_assert!(!(cut && read.is_ok()) || place == CONFIG.len() - 1, "a cut adapter was read");
    }
}

#[test]
fn the_file_as_it_is_has_no_fault() {
    assert_eq!(open(&MODEL), None);
}

#[test]
fn claims_that_cannot_be_true_are_faults_that_say_so() {
    let entry = |name: &str, dtype: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let file = |entries: &[String], data: usize| with_header(format!("{{{}}}", entries.join(",")).as_bytes(), data);
    let mut huge_header = MODEL.clone();
    huge_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut long_header = MODEL.clone();
    long_header[..8].copy_from_slice(&20_000u64.to_le_bytes());
    let two_to_61 = 1u64 << 61;
    let almost_all: Vec<String> = (0..8)
        .map(|index| {
            let (start, end) = (index * (two_to_61 - 1), (index + 1) * (two_to_61 - 1));
            entry(&format!("t{index}"), "U8", &format!("[{}]", two_to_61 - 1), &format!("[{start},{end}]"))
        })
        .collect();
    let cases = [
        (Vec::new(), "0 bytes are too few"),
        (huge_header, "claims a header of 18446744073709551615 bytes"),
        (long_header, "is cut short"),
        (with_header(b"{\"a\xff\":1}", 0), "the header is broken"),
        (with_header(&b"[".repeat(100_000), 0), "the header is broken"),
        (file(&[entry("a", "F32", "[2]", "[0,4]")], 4), "tensor `a` cannot be F32 [2]"),
        (file(&[entry("a", "F32", "[4294967296,4294967296]", "[0,4]")], 4), "tensor `a` cannot be"),
        (file(&[entry("a", "F32", "[1]", "[0,4]"), entry("b", "F32", "[1]", "[2,6]")], 8), "`b`"),
        (file(&[entry("a", "F32", "[1]", "[4,0]")], 8), "`a`"),
        (file(&[entry("a", "F32", "[1]", "[4,8]")], 8), "`a`"),
        (file(&[entry("a", "F32", "[-1]", "[0,4]")], 8), "`a`"),
        (file(&[entry("a", "F33", "[1]", "[0,4]")], 8), "`a`"),
        (file(&[entry("a", "F32", "[1]", "[0,4]")], 8), "bytes that belong to no tensor"),
        (file(&[entry("a", "F32", "[3]", "[0,12]")], 8), "tensor `a` ends at byte 12"),
        (file(&almost_all, 8), "is cut short"),
    ];
    for (bytes, expected) in cases {
        let message = open(&bytes).unwrap_or_else(|| panic!("read without a fault, expected: {expected}"));
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    }
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("model");
    fs::create_dir(&folder).unwrap();
    let index = folder.join("model.safetensors.index.json");
    let absolute = outer.path().join("x.safetensors");
    fs::write(&absolute, &*MODEL).unwrap();
    fs::write(folder.join("here.safetensors"), &*MODEL).unwrap();
    let tensor = "model.norm.weight";
    let open = |shard: &str, tensor: &str| {
        let text = serde_json::json!({"weight_map": {tensor: shard}}).to_string();
        fs::write(&index, text).unwrap();
        Weights::open(&folder).map(|weights| weights.f32(tensor).unwrap().len()).map_err(|fault| fault.to_string())
    };
    assert_eq!(open("here.safetensors", tensor), Ok(16));
    for shard in ["../x.safetensors", absolute.to_str().unwrap(), "a/../../x.safetensors", "", ".", "..", ".hidden"] {
        let fault = open(shard, tensor).unwrap_err();
        assert!(fault.contains("no plain file name") && fault.contains(tensor), "{shard:?}: {fault}");
    }
    assert!(open("gone.safetensors", tensor).unwrap_err().contains("`gone.safetensors` is missing"));
    assert!(open("here.safetensors", "no.such.weight").unwrap_err().contains("`no.such.weight` is not in its shard"));
    for text in ["", "[]", "{\"weight_map\": 3}", "{\"weight_map\": {\"a\": 3}}"] {
        fs::write(&index, text).unwrap();
        assert!(Weights::open(&folder).is_err(), "{text}");
    }
}

/// As Python writes an index, and reads it: what is not asked for may be anything.
#[test]
fn an_index_is_read_as_python_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("here.safetensors"), &*MODEL).unwrap();
    let open = |metadata: &str, name: &str, shard: &str| {
        let text = format!(r#"{{"metadata": {metadata}, "weight_map": {{"{name}": {shard}}}}}"#);
        fs::write(folder.path().join("model.safetensors.index.json"), text).unwrap();
        Weights::open(folder.path()).map(|weights| weights.names().count()).map_err(|fault| fault.to_string())
    };
    let (name, shard) = ("model.norm.weight", r#""here.safetensors""#);
    for metadata in ["{\"total_size\": NaN}", "Infinity", r#"{"by": "\ud83d"}"#, r#"{"a": 1, "a": -1e999}"#] {
        assert_eq!(open(metadata, name, shard), Ok(1), "{metadata}");
    }
    let fault = open("{}", name, "NaN").unwrap_err();
    assert!(fault.contains("`weight_map.model.norm.weight` is `NaN`"), "{fault}");
    let fault = open("{}", r"\ud83d", shard).unwrap_err();
    assert!(fault.contains("half of a surrogate pair"), "{fault}");
}

/// What a clone without `git lfs` has.
#[test]
fn a_pointer_in_the_place_of_a_file_is_named() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4096\n";
    let folder = tempfile::tempdir().unwrap();
    let says = |fault: String| assert!(fault.contains("Git LFS pointer") && fault.contains("lfs pull"), "{fault}");
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    put("model.safetensors", pointer);
    says(Weights::open(folder.path()).err().unwrap().to_string());
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    put("model.safetensors.index.json", br#"{"weight_map": {"a": "s.safetensors"}}"#);
    put("s.safetensors", pointer);
    says(Weights::open(folder.path()).err().unwrap().to_string());
    put("model.safetensors.index.json", pointer);
    says(Weights::open(folder.path()).err().unwrap().to_string());
    put("adapter_config.json", pointer);
    put("adapter_model.safetensors", pointer);
    says(Adapter::read(folder.path()).unwrap_err().to_string());
    put("adapter_config.json", br#"{"peft_type": "LORA", "r": 1, "lora_alpha": 1}"#);
    says(Adapter::read(folder.path()).unwrap_err().to_string());
}

#[test]
fn folders_without_weights_say_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Weights::open(folder.path()).err().unwrap().message.contains("no weights here"));
    fs::write(folder.path().join("pytorch_model.bin"), b"").unwrap();
    assert!(Weights::open(folder.path()).err().unwrap().hint.unwrap().contains("PyTorch"));
    assert!(Weights::open(&folder.path().join("gone")).err().unwrap().message.contains("no such model folder"));
}
