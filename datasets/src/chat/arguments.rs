//! Arguments of filters, functions and methods by place or by name, as Python takes them.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// The arguments under their names; `None` where one is absent.
pub(super) fn bind<const N: usize>(
    callee: &str,
    arguments: &[Value],
    names: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    let (by_place, by_name) = match arguments.split_last() {
        Some((last, rest)) if last.is_kwargs() => (rest, Some(Kwargs::try_from(last.clone())?)),
        _ => (arguments, None),
    };
    if by_place.len() > N {
        return Err(refused(format!("{callee}() takes at most {N} arguments ({} given)", by_place.len())));
    }
    let mut bound = std::array::from_fn(|index| by_place.get(index).cloned());
    if let Some(by_name) = by_name {
        for name in by_name.args() {
            match names.iter().position(|known| *known == name) {
                Some(place) if bound[place].is_none() => bound[place] = Some(by_name.peek(name)?),
                _ => return Err(refused(format!("{callee}() got an unexpected argument '{name}'"))),
            }
        }
    }
    Ok(bound)
}

/// An error of the template's own making.
pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// An argument that may be left out or be `none`.
pub(super) fn given(argument: &Option<Value>) -> Option<&Value> {
    argument.as_ref().filter(|value| !value.is_none())
}

/// A string argument that must be there.
pub(super) fn string<'a>(callee: &str, argument: &'a Option<Value>) -> Result<&'a str, Error> {
    argument.as_ref().and_then(Value::as_str).ok_or_else(|| refused(format!("{callee}() takes a string")))
}

/// A whole number that may be left out.
pub(super) fn whole(argument: &Option<Value>) -> Result<Option<i64>, Error> {
    given(argument).map(|value| i64::try_from(value.clone())).transpose()
}

/// A flag that may be left out.
pub(super) fn flag(argument: &Option<Value>) -> bool {
    argument.as_ref().is_some_and(Value::is_true)
}

/// True for a value that template code holds for a number.
pub(super) fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

/// Refuses to make so many bytes more than the rendering may: the engine charges for what a filter gives once it is made,
/// which is too late where it does not fit into memory.
pub(super) fn room(state: &State, bytes: usize) -> Result<(), Error> {
    match state.fuel_levels() {
        Some((_, left)) if bytes as u64 / BYTES >= left => Err(Error::from(ErrorKind::OutOfFuel)),
        _ => Ok(()),
    }
}

/// Charges for looking at so many bytes.
pub(super) fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes as u64 / BYTES)
}

/// What one unit of fuel pays for (minijinja 3.1, `vm/fuel.rs`).
const BYTES: u64 = 64;
