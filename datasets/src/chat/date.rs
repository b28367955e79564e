//! The moment that `strftime_now` gives to chat templates: one for a whole run, so that its rows stay the same.

use std::fmt;

use faults::Fault;
use jiff::civil::{Date, DateTime};
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

/// A date and a time of day, without a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(DateTime);

impl Moment {
    /// Now, in the time zone of this machine or of the variable `TZ`.
    pub fn now() -> Self {
        let zone = TimeZone::try_system().unwrap_or_else(|error| {
            if std::env::var_os("TZ").is_some_and(|zone| !zone.is_empty()) {
                tracing::warn!("`TZ` names no time zone that is known here, so that chat templates get UTC: {error}");
            }
            TimeZone::UTC
        });
        Self(jiff::Timestamp::now().to_zoned(zone).datetime())
    }

    /// Reads `2026-11-28` or `2026-11-28T09:05:07`.
    ///
    /// # Errors
    /// Neither of the two.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let date = || text.parse::<Date>().ok().filter(|_| text.len() == 10).map(Date::into);
        let moment = || text.parse::<DateTime>().ok().filter(|_| text.len() >= 19);
        date().or_else(moment).map(Self).ok_or_else(|| {
            Fault::new(format!("\"{text}\" is no date"))
                .hint("write the year first, as in \"2026-11-28\" or \"2026-11-28T09:05:07\"")
        })
    }

    /// `datetime.strftime(format)` in the C locale.
    pub(super) fn format(self, format: &str) -> Result<String, jiff::Error> {
        let mut plain = String::with_capacity(format.len());
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                plain.push(letter);
                continue;
            }
            match letters.next() {
                Some('c') => plain.push_str("%a %b %e %H:%M:%S %Y"),
                Some('x') => plain.push_str("%m/%d/%y"),
                Some('X') => plain.push_str("%H:%M:%S"),
                Some('f') => plain.push_str(&format!("{:06}", self.0.subsec_nanosecond() / 1000)),
                // A time without a zone has none to name.
                Some('Z' | 'z') => {}
                Some(other) => plain.extend(['%', other]),
                None => plain.push_str("%%"),
            }
        }
        strtime::format(&plain, self.0)
    }
}

impl fmt::Display for Moment {
    /// As [`Moment::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%dT%H:%M:%S"))
    }
}
