//! Tables in Parquet by rows: lists of structures are lists of objects, as the same rows would be in JSON.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use faults::{Fault, Place, json};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Number, Value};

use crate::lines::{At, NumberedRow};
use crate::row::Names;
use crate::table;

/// The rows of a table, each with its number as its line.
pub(crate) struct Table<'a> {
    name: &'a str,
    names: Names<'a>,
    rows: RowIter<'static>,
    /// Rows read.
    count: usize,
    /// Rows that the file says it has.
    total: usize,
    ended: bool,
}

impl<'a> Table<'a> {
    /// The table in a file.
    ///
    /// # Errors
    /// A file that is cut off, damaged, encrypted, or packed in a way that is not known.
    pub fn of_file(name: &'a str, file: File, names: Names<'a>) -> Result<Self, Fault> {
        Self::new(name, file, names)
    }

    /// The table in what was unpacked or came through a pipe.
    ///
    /// # Errors
    /// As [`Table::of_file`].
    pub fn of_bytes(name: &'a str, bytes: Vec<u8>, names: Names<'a>) -> Result<Self, Fault> {
        Self::new(name, bytes::Bytes::from(bytes), names)
    }

    fn new<R: ChunkReader + 'static>(name: &'a str, source: R, names: Names<'a>) -> Result<Self, Fault> {
        let opened = caught(|| SerializedFileReader::new(source));
        let reader = opened.map_err(|error| broken(&error).at(Place::file(name)))?;
        let total = usize::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
        let schema = reader.metadata().file_metadata().schema();
        let mut columns: Vec<&str> = schema.get_fields().iter().map(|column| column.name()).collect();
        columns.sort_unstable();
        if let Some(twice) = columns.windows(2).find(|pair| pair[0] == pair[1]) {
            let fault = Fault::new(format!("two columns are named `{}`", twice[0])).at(Place::file(name));
            return Err(fault.hint("give each column a name of its own"));
        }
        let rows = RowIter::from_file_into(Box::new(reader));
        Ok(Self { name, names, rows, count: 0, total, ended: false })
    }

    fn row(&self, row: Row, at: At) -> Result<NumberedRow, Fault> {
        let mut oddities = Vec::new();
        let mut object = object(row, "", &mut oddities);
        table::typed(&mut object, self.names)?;
        Ok(NumberedRow { at, object, oddities })
    }
}

impl Iterator for Table<'_> {
    type Item = Result<NumberedRow, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let at = At { line: self.count + 1, element: None };
        let next = caught(|| self.rows.next().transpose());
        let place = || at.place(self.name);
        match next {
            Ok(Some(row)) => {
                self.count += 1;
                Some(self.row(row, at).map_err(|fault| fault.or_at(place())))
            }
            Ok(None) => {
                self.ended = true;
                (self.count < self.total).then(|| {
                    let message = format!("the table ends after {} of its {} rows", self.count, self.total);
                    Err(Fault::new(message).at(Place::file(self.name)).hint(COPY_AGAIN))
                })
            }
            Err(error) => {
                self.ended = true;
                Some(Err(broken(&error).at(place())))
            }
        }
    }
}

const COPY_AGAIN: &str = "it was cut off or changed while it was written or copied: copy it again, or write it anew";

/// What the crate says, be it by a panic: it has some for bytes and types that it does not expect.
fn caught<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(ParquetError::General(words.unwrap_or("it cannot be decoded").to_owned()))
    })
}

fn broken(error: &ParquetError) -> Fault {
    let text = error.to_string();
    let reason = ["Parquet error: ", "External: ", "EOF: ", "NYI: "].iter().find_map(|kind| text.strip_prefix(kind));
    let reason = faults::shortened(reason.unwrap_or(&text).trim());
    let (reason, hint) = match text.as_str() {
        // The one codec that is left out.
        text if text.contains("brotli") => {
            ("it is packed by brotli".to_owned(), "write it again with `compression='zstd'`")
        }
        text if text.contains("ncrypt") => (reason, "write it without encryption"),
        _ => (reason, COPY_AGAIN),
    };
    Fault::new(format!("the Parquet table cannot be read: {reason}")).hint(hint)
}

fn object(row: Row, pointer: &str, oddities: &mut Vec<json::Oddity>) -> Map<String, Value> {
    let columns = row.into_columns().into_iter();
    columns
        .map(|(name, field)| {
            let value = value(field, &format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")), oddities);
            (name, value)
        })
        .collect()
}

/// A value as JSON has it. What is neither text nor number is a text as it is printed; what JSON cannot say is an oddity.
fn value(field: Field, pointer: &str, oddities: &mut Vec<json::Oddity>) -> Value {
    let mut number = |value: f64| match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None => {
            oddities.push(json::Oddity::number(pointer.into(), value));
            Value::Null
        }
    };
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::Bool(value),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        // As it is printed: 0.1 stays 0.1, as it does where the table is written as JSON.
        Field::Float(value) => number(value.to_string().parse().unwrap_or(f64::from(value))),
        Field::Float16(value) => number(value.to_f64()),
        Field::Double(value) => number(value),
        Field::Str(text) => Value::String(text),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            // Spark and Hive write texts so.
            Ok(text) => Value::String(text.to_owned()),
            // No text has this shape, so that it is a fault where it is read as one.
            Err(_) => serde_json::json!({ "bytes": bytes.data().len() }),
        },
        Field::Group(row) => Value::Object(object(row, pointer, oddities)),
        Field::ListInternal(list) => list
            .elements()
            .iter()
            .enumerate()
            .map(|(index, element)| value(element.clone(), &format!("{pointer}/{index}"), oddities))
            .collect(),
        Field::MapInternal(map) => {
            let entry = |(key, entry): &(Field, Field)| {
                let key = match key {
                    Field::Str(text) => text.clone(),
                    other => other.to_string(),
                };
                let value = value(entry.clone(), &format!("{pointer}/{key}"), oddities);
                (key, value)
            };
            Value::Object(map.entries().iter().map(entry).collect())
        }
        other => Value::String(other.to_string()),
    }
}
