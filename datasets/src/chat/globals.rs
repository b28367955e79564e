//! Functions that every template can call.

use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Object, ObjectRepr, Rest, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State, Value};

use super::arguments::{bind, charge, refused};
use super::python;

/// `raise_exception(message)`.
pub(super) fn raise_exception(state: &State, message: Value) -> Result<Value, Error> {
    Err(refused(python::text(state, &message)?))
}

/// `dict(pairs or another dictionary, name=value, ..)`.
pub(super) fn dict(state: &State, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    for value in arguments.into_values() {
        for item in value.try_iter()? {
            let (key, item) = match value.kind() {
                ValueKind::Map => (item.clone(), value.get_item(&item)?),
                _ => (item.get_item_by_index(0)?, item.get_item_by_index(1)?),
            };
            // Each is looked for among all others.
            charge(state, size_of::<Value>() * pairs.len())?;
            match pairs.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known = item,
                None => pairs.push((key, item)),
            }
        }
    }
    Ok(Value::from_pairs(pairs))
}

/// `cycler(a, b, ..)`: gives its items in turn.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: Mutex<usize>,
}

/// A new cycler.
pub(super) fn cycler(items: Rest<Value>) -> Result<Value, Error> {
    if items.is_empty() {
        return Err(refused("at least one item has to be provided"));
    }
    Ok(Value::from_object(Cycler { items: items.to_vec(), at: Mutex::new(0) }))
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        (key.as_str() == Some("current")).then(|| self.items[at].clone())
    }

    fn call_method(self: &Arc<Self>, _: &mut State, method: &str, _: &[Value]) -> Result<Value, Error> {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        match method {
            "next" => {
                let item = self.items[*at].clone();
                *at = (*at + 1) % self.items.len();
                Ok(item)
            }
            "reset" => {
                *at = 0;
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// `joiner(text)`: nothing when first called, then the text.
#[derive(Debug)]
struct Joiner {
    text: Value,
    is_used: Mutex<bool>,
}

/// A new joiner.
pub(super) fn joiner(arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [text] = bind("joiner", &arguments.into_values(), ["sep"])?;
    Ok(Value::from_object(Joiner { text: text.unwrap_or_else(|| Value::from(", ")), is_used: Mutex::new(false) }))
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State, _: &[Value]) -> Result<Value, Error> {
        let mut is_used = self.is_used.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(if std::mem::replace(&mut *is_used, true) { self.text.clone() } else { Value::from("") })
    }
}
