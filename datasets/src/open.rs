//! A path as rows: those of the program, of stdin, or of a file in any form.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use faults::{Fault, Place};

use crate::builtin;
use crate::form::{self, Form, Opened};
use crate::lines::{NumberedRow, Rows};
use crate::parquet::Table;
use crate::row::Names;
use crate::separated::Separated;
use crate::table;

/// The path that stands for stdin.
pub(crate) const STDIN: &str = "-";

/// Rows with their places.
pub(crate) type Opening<'a> = Box<dyn Iterator<Item = Result<NumberedRow, Fault>> + 'a>;

/// What a path is called in faults and reports.
pub(crate) fn shown(path: &Path) -> String {
    if path.as_os_str() == STDIN { "stdin".into() } else { path.display().to_string() }
}

/// The rows of `path`, which is called `name`; columns have `names`. `doing` says for what it is opened.
///
/// # Errors
/// A path that cannot be opened, or is no file of rows.
pub(crate) fn rows<'a>(name: &'a str, path: &Path, names: Names<'a>, doing: &str) -> Result<Opening<'a>, Fault> {
    let (is_table, rows) = read(name, path, names, doing)?;
    Ok(Box::new(rows.map(move |row| row.map(|row| with_turns(row, names, is_table)))))
}

/// The row with lists where turns stand in it as a text.
pub(crate) fn with_turns(mut row: NumberedRow, names: Names<'_>, is_table: bool) -> NumberedRow {
    table::read_turns(&mut row.object, names, is_table);
    row
}

/// The rows as the file has them, and whether it is a table.
fn read<'a>(name: &'a str, path: &Path, names: Names<'a>, doing: &str) -> Result<(bool, Opening<'a>), Fault> {
    if name.starts_with(builtin::PREFIX) {
        let text = builtin::rows(name).map_err(|fault| fault.at(Place::file(path)))?;
        return Ok((false, Box::new(Rows::new(name, Cursor::new(text))?)));
    }
    if path.as_os_str() == STDIN {
        return of_reader(name, path, Box::new(std::io::stdin()), names);
    }
    let file = File::open(path).map_err(|error| Fault::of_file(doing, path, &error))?;
    let is_regular = file.metadata().is_ok_and(|found| found.is_file());
    match is_regular.then(|| file.try_clone().ok()).flatten() {
        // A table is read from its end, and not taken into memory.
        Some(table) if is_parquet(&file) => Ok((true, Box::new(Table::of_file(name, table, names)?))),
        _ => of_reader(name, path, Box::new(file), names),
    }
}

/// True for a regular file that begins as a table in Parquet does; it is read from its beginning afterwards.
pub(crate) fn is_parquet(mut file: &File) -> bool {
    let mut head = [0; 4];
    let begins = file.read_exact(&mut head).is_ok() && &head == b"PAR1";
    file.rewind().is_ok() && begins
}

fn of_reader<'a>(
    name: &'a str,
    path: &Path,
    reader: Box<dyn Read>,
    names: Names<'a>,
) -> Result<(bool, Opening<'a>), Fault> {
    let Opened { form, mut reader } = form::open(path, reader)?;
    match form {
        Form::Json => Ok((false, Box::new(Rows::new(name, BufReader::with_capacity(1 << 20, reader))?))),
        Form::Separated(separator) => Ok((true, Box::new(Separated::new(name, separator, reader, names)?))),
        Form::Parquet => {
            let mut bytes = Vec::new();
            let read = reader.read_to_end(&mut bytes);
            read.map_err(|error| form::fault("cannot read the table", name, &error))?;
            Ok((true, Box::new(Table::of_bytes(name, bytes, names)?)))
        }
    }
}
