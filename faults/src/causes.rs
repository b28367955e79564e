//! Faults that a file can have by the thousand: those of one cause are one, with the places where it stands.

use crate::{Fault, Faults, Place};

/// Causes that are named one by one.
const CAUSES: usize = 20;

/// Places of a cause that are named one by one.
const PLACES: usize = 20;

/// Faults of rows as they come, gathered by their cause: the same file, and the same words but for numbers in them.
#[derive(Debug, Default)]
pub struct Causes {
    named: Vec<Cause>,
    unnamed: usize,
}

#[derive(Debug)]
struct Cause {
    key: String,
    first: Fault,
    places: Vec<String>,
    count: usize,
}

impl Causes {
    /// No fault yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault.
    pub fn push(&mut self, fault: Fault) {
        let key = key(&fault);
        let known = self.named.iter().position(|cause| cause.key == key);
        match known {
            Some(index) => {
                let cause = &mut self.named[index];
                cause.count += 1;
                if cause.places.len() < PLACES {
                    cause.places.extend(fault.place.as_ref().and_then(number));
                }
            }
            None if self.named.len() < CAUSES => {
                let places = fault.place.as_ref().and_then(number).into_iter().collect();
                self.named.push(Cause { key, first: fault, places, count: 1 });
            }
            None => self.unnamed += 1,
        }
    }

    /// How many faults have been added.
    pub fn count(&self) -> usize {
        self.unnamed + self.named.iter().map(|cause| cause.count).sum::<usize>()
    }

    /// The faults, each cause once: the first of them with the lines of the first twenty and their count, and how many
    /// faults of other causes there are.
    pub fn into_list(self) -> Vec<Fault> {
        let last = self.named.last().and_then(|cause| cause.first.place.clone());
        let mut list: Vec<Fault> = self.named.into_iter().map(Cause::told).collect();
        if self.unnamed > 0 {
            let rest = Fault::new(format!("and {} more faults of other kinds", self.unnamed));
            list.push(Fault { place: last, ..rest.hint("mend those above first") });
        }
        list
    }

    /// `Ok` when there is none.
    ///
    /// # Errors
    /// As [`Causes::into_list`].
    pub fn check(self) -> Result<(), Faults> {
        Faults::check(self.into_list())
    }
}

impl Extend<Fault> for Causes {
    fn extend<T: IntoIterator<Item = Fault>>(&mut self, faults: T) {
        faults.into_iter().for_each(|fault| self.push(fault));
    }
}

impl Cause {
    fn told(self) -> Fault {
        let Self { first, places, count, .. } = self;
        if count == 1 || places.is_empty() {
            return first;
        }
        let what = if matches!(first.place, Some(Place::Element { .. })) { "elements" } else { "lines" };
        let more = match count - places.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!("{} ({count} rows: {what} {}{more})", first.message, places.join(", "));
        Fault { message, ..first }
    }
}

/// What faults of one cause have in common.
fn key(fault: &Fault) -> String {
    let mut key = match &fault.place {
        Some(Place::Line { file, .. } | Place::Element { file, .. }) => format!("{file}: "),
        Some(place) => format!("{place}: "),
        None => String::new(),
    };
    let mut in_number = false;
    for c in fault.message.chars() {
        let is_digit = c.is_ascii_digit();
        if !is_digit {
            key.push(c);
        } else if !in_number {
            key.push('#');
        }
        in_number = is_digit;
    }
    key
}

/// The number of a row in its file.
fn number(place: &Place) -> Option<String> {
    match place {
        Place::Line { line, .. } => Some(line.to_string()),
        Place::Element { element, .. } => Some(element.to_string()),
        Place::Span(..) | Place::File(_) | Place::Named(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(faults: impl IntoIterator<Item = Fault>) -> Vec<String> {
        let mut causes = Causes::new();
        causes.extend(faults);
        causes.into_list().iter().map(Fault::line).collect()
    }

    #[test]
    fn faults_of_one_cause_are_one_with_their_lines() {
        let empty = |line| Fault::new("`a` is empty").at(Place::line("f", line)).hint("fill it");
        let long = |tokens, line| Fault::new(format!("{tokens} tokens, more than 9")).at(Place::line("f", line));
        let other = Fault::new("`a` is empty").at(Place::line("g", 1));
        assert_eq!(
            told([empty(2), long(12, 3), empty(5), long(300, 6), other]),
            [
                "f:2: `a` is empty (2 rows: lines 2, 5); hint: fill it",
                "f:3: 12 tokens, more than 9 (2 rows: lines 3, 6)",
                "g:1: `a` is empty",
            ]
        );
        let element = |element| Fault::new("x").at(Place::Element { file: "f".into(), line: 1, element });
        assert_eq!(told([element(18), element(32)]), ["f:1 (element 18): x (2 rows: elements 18, 32)"]);
    }

    #[test]
    fn of_many_places_and_of_many_causes_the_first_are_named_and_the_others_counted() {
        let of_one = told((1..=53).map(|line| Fault::new("x").at(Place::line("f", line))));
        assert_eq!(of_one.len(), 1);
        assert!(of_one[0].starts_with("f:1: x (53 rows: lines 1, 2, 3,"), "{of_one:?}");
        assert!(of_one[0].ends_with(", 19, 20 and 33 more)"), "{of_one:?}");
        let letters = ('a'..='z').map(|c| Fault::new(c.to_string()).at(Place::line("f", 1)));
        let of_many = told(letters);
        assert_eq!(
            (of_many.len(), of_many[20].as_str()),
            (21, "f:1: and 6 more faults of other kinds; hint: mend those above first")
        );
        assert_eq!(Causes::new().check(), Ok(()));
    }
}
