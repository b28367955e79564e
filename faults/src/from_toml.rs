//! The types that a recipe's values can have.

use crate::Shape;

/// A type that a recipe's value can have.
pub trait FromToml: Sized + Clone {
    /// What a fault says was expected, for example `a whole number`.
    const EXPECTED: &'static str;

    /// What a fault says was expected, for a type that is made of others.
    fn expected() -> String {
        Self::EXPECTED.to_owned()
    }

    /// What such a value looks like, for the schema.
    fn shape() -> Shape;

    /// The value as this type, or `None` when it does not fit.
    fn from_toml(value: &toml::Value) -> Option<Self>;

    /// The value as written into the resolved recipe.
    fn to_toml(&self) -> toml::Value;
}

macro_rules! from_toml {
    ($type:ty, $expected:literal, $shape:expr, $value:ident => $read:expr, $this:ident => $write:expr) => {
        impl FromToml for $type {
            const EXPECTED: &'static str = $expected;
            fn shape() -> Shape {
                $shape
            }
            fn from_toml($value: &toml::Value) -> Option<Self> {
                $read
            }
            fn to_toml(&self) -> toml::Value {
                let $this = self;
                $write
            }
        }
    };
}

from_toml!(bool, "true or false", Shape::Truth, value => value.as_bool(), this => toml::Value::Boolean(*this));
from_toml!(String, "a string", Shape::Text, value => value.as_str().map(str::to_owned), this => toml::Value::String(this.clone()));
from_toml!(f64, "a number", Shape::Number, value => value.as_float().or_else(|| value.as_integer().map(|i| i as f64)),
    this => toml::Value::Float(*this));
from_toml!(usize, "a whole number, zero or more", Shape::Whole(Some(0)), value => value.as_integer().and_then(|i| i.try_into().ok()),
    this => toml::Value::Integer(*this as i64));
from_toml!(i64, "a whole number", Shape::Whole(None), value => value.as_integer(), this => toml::Value::Integer(*this));
from_toml!(u64, "a whole number, zero or more", Shape::Whole(Some(0)), value => value.as_integer().and_then(|i| i.try_into().ok()),
    this => toml::Value::Integer(*this as i64));

impl FromToml for toml::Value {
    const EXPECTED: &'static str = "a value";
    fn shape() -> Shape {
        Shape::Any
    }
    fn from_toml(value: &toml::Value) -> Option<Self> {
        Some(value.clone())
    }
    fn to_toml(&self) -> toml::Value {
        self.clone()
    }
}

impl<T: FromToml> FromToml for Vec<T> {
    const EXPECTED: &'static str = "an array";
    fn expected() -> String {
        format!("an array in which each value is {}", T::expected())
    }
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }
    fn from_toml(value: &toml::Value) -> Option<Self> {
        value.as_array()?.iter().map(T::from_toml).collect()
    }
    fn to_toml(&self) -> toml::Value {
        toml::Value::Array(self.iter().map(T::to_toml).collect())
    }
}
