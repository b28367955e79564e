//! TensorBoard's event files, as bytes.
//!
//! A file is a sequence of records: length (u64), its checksum, the data, its checksum, all little-endian; a checksum is
//! a masked crc32c (`tensorflow/core/lib/io/record_writer.h`). The data is an `Event` in protobuf, of which four fields
//! matter here: `wall_time = 1` (double), `step = 2` (int64), `file_version = 3` (string) and `summary = 5`, which holds
//! `value = 1` with `tag = 1` (string) and `simple_value = 2` (float). See `event.proto` and `summary.proto`.

use serde_json::Value;

/// A name that TensorBoard takes for an event file.
pub const FILE_NAME: &str = "events.out.tfevents.0.trainer";

/// The record that opens a file. `wall_time` in seconds since 1970.
pub fn head(wall_time: f64) -> Vec<u8> {
    let mut event = Message::default();
    event.double(1, wall_time);
    event.bytes(3, b"brain.Event:2");
    record(&event.0)
}

/// One line of `metrics.jsonl` as one record: tags such as `train/loss` and `eval/objective/weight_mean`.
pub fn scalars(line: &Value, wall_time: f64) -> Vec<u8> {
    let split = line["split"].as_str().unwrap_or_default();
    let mut summary = Message::default();
    for (name, value) in super::record::scalars(line) {
        let mut scalar = Message::default();
        scalar.bytes(1, format!("{split}/{name}").as_bytes());
        scalar.float(2, value as f32);
        summary.bytes(1, &scalar.0);
    }
    let mut event = Message::default();
    event.double(1, wall_time);
    event.integer(2, line["step"].as_u64().unwrap_or_default());
    event.bytes(5, &summary.0);
    record(&event.0)
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let parts = [&length[..], &masked_crc(&length).to_le_bytes(), data, &masked_crc(data).to_le_bytes()];
    parts.concat()
}

/// Masked so that a checksum of data that holds checksums stays a good one.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A protobuf message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    const VARINT: u64 = 0;
    const FIXED_64: u64 = 1;
    const LENGTH: u64 = 2;
    const FIXED_32: u64 = 5;

    fn integer(&mut self, field: u64, value: u64) {
        self.varint(field << 3 | Self::VARINT);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | Self::FIXED_64);
        self.0.extend(value.to_le_bytes());
    }

    fn float(&mut self, field: u64, value: f32) {
        self.varint(field << 3 | Self::FIXED_32);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | Self::LENGTH);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // RFC 3720, appendix B.4: 32 bytes of zeros.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn records_are_those_that_tensorboard_writes() {
        // From `RecordWriter` and `Event` of the Python package tensorboard 2.21.
        assert_eq!(
            hex(&head(12.5)),
            "1800000000000000a37f4b220900000000000029401a0d627261696e2e4576656e743a326394a44f"
        );
        let line = json!({"step": 300, "split": "eval", "loss": 2.5, "lr": null, "tokens": 9,
                          "objective": {"weight_mean": 0.1}});
        assert_eq!(
            hex(&scalars(&line, 13.5)),
            "4300000000000000b18525a0090000000000002b4010ac022a350a100a096576616c2f6c6f737315000020400a210a1a6576616c2f6f\
             626a6563746976652f7765696768745f6d65616e15cdcccc3d7da7d4d2"
        );
    }
}
