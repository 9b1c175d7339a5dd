//! Flag syntax: `value,key=value,...`, read into a table and decoded as a file's table is.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        DeserializeOwned, Error, MapAccess, Visitor,
        value::{MapAccessDeserializer, StrDeserializer},
    },
};
use toml::{Table, Value};

use super::{ConfigError, error::readable};

/// A part of the configuration that is a table in a file and a list of `key=value` in a flag.
///
/// A list is separated by commas; its first entry may lack the key, and then stands for the key
/// [`MAIN`](Self::MAIN). A comma inside a value is written twice.
pub trait Part: Serialize + DeserializeOwned + Default {
    /// The key of a value without key.
    const MAIN: &'static str;

    /// This part, with the keys that `list` names set anew.
    ///
    /// # Errors
    /// The list has an unknown key or one key twice, or a value that its key does not allow.
    fn with(&self, list: &str) -> Result<Self, ConfigError> {
        let wrong = |message| ConfigError::Value { text: list.into(), message };
        let given = parse(Self::MAIN, list).map_err(wrong)?;
        let mut table = Table::try_from(self).map_err(|error| wrong(error.to_string()))?;
        table.extend(given);
        table.try_into().map_err(|error: toml::de::Error| wrong(readable(error.message())))
    }
}

/// Reads one word as a file would: the value of an enum, or a [`Target`](super::Target).
///
/// # Errors
/// The word is none of those that `T` has.
pub fn word<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    let word: StrDeserializer<'_, serde::de::value::Error> = StrDeserializer::new(text);
    T::deserialize(word).map_err(|error| ConfigError::Value {
        text: text.into(),
        message: readable(&error.to_string()),
    })
}

/// Reads a part from either spelling.
pub(super) fn part<'de, D: Deserializer<'de>, T: Part>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(Spelling(PhantomData))
}

/// Reads a part from either spelling, where nothing may be said.
pub(super) fn some_part<'de, D: Deserializer<'de>, T: Part>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    part(deserializer).map(Some)
}

/// Reads a list of parts, each in either spelling.
pub(super) fn parts<'de, D: Deserializer<'de>, T: Part>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let spelled = Vec::<Spelled<T>>::deserialize(deserializer)?;
    Ok(spelled.into_iter().map(|Spelled(part)| part).collect())
}

/// A part read from either spelling.
#[derive(Deserialize)]
#[serde(bound = "T: Part")]
struct Spelled<T>(#[serde(deserialize_with = "part")] T);

struct Spelling<T>(PhantomData<T>);

impl<'de, T: Part> Visitor<'de> for Spelling<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a table, or a string of the form {}=VALUE,KEY=VALUE,...", T::MAIN)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }

    fn visit_str<E: Error>(self, list: &str) -> Result<T, E> {
        T::default().with(list).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// Splits `list` into keys and values, all of them text.
fn parse(main: &str, list: &str) -> Result<Table, String> {
    let mut table = Table::new();
    let entries = entries(list);
    for (index, entry) in entries.iter().enumerate() {
        let (key, value) = match with_key(entry) {
            Some(both) => both,
            _ if list.is_empty() => return Err(format!("{main} is missing")),
            _ if entry.is_empty() => {
                return Err("a value is missing before or after a comma".into());
            }
            _ if index == 0 => (main, entry.as_str()),
            _ => return Err(format!("{entry:?} has no key; only the first value may go without")),
        };
        if table.insert(key.into(), Value::String(value.into())).is_some() {
            let first = entries.first().filter(|first| key == main && with_key(first).is_none());
            let taken = first.map(|first| format!(", which {first:?} is"));
            return Err(format!(
                "duplicate key `{key}`{}; give it once",
                taken.unwrap_or_default()
            ));
        }
    }
    Ok(table)
}

/// Key and value of an entry that has both.
fn with_key(entry: &str) -> Option<(&str, &str)> {
    // Else the sign belongs to a value without key, as in `file:/tmp/a=b`.
    entry.split_once('=').filter(|(key, _)| is_key(key))
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The entries between single commas, with double commas made single.
fn entries(list: &str) -> Vec<String> {
    let mut entries = Vec::new();
    let mut entry = String::new();
    let mut letters = list.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ',' if letters.next_if_eq(&',').is_some() => entry.push(','),
            ',' => entries.push(std::mem::take(&mut entry)),
            _ => entry.push(letter),
        }
    }
    entries.push(entry);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backing, Cpus, Memory, Pages, Protocol, Serial, Size, Target};

    fn pairs(list: &str) -> Vec<(String, String)> {
        let table = parse("main", list).unwrap();
        table.into_iter().map(|(key, value)| (key, value.as_str().unwrap().into())).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn the_first_value_may_go_without_key() {
        assert_eq!(pairs("512M,b=2"), [pair("b", "2"), pair("main", "512M")]);
    }

    #[test]
    fn a_double_comma_is_a_comma_of_the_value() {
        assert_eq!(pairs("a=x,,y,b=2"), [pair("a", "x,y"), pair("b", "2")]);
    }

    #[test]
    fn an_equals_sign_after_what_is_no_key_belongs_to_the_value() {
        assert_eq!(pairs("file:/tmp/a=b"), [pair("main", "file:/tmp/a=b")]);
        assert_eq!(pairs("c=file:/tmp/a=b"), [pair("c", "file:/tmp/a=b")]);
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        assert_eq!(parse("a", "b=1,b=2").unwrap_err(), "duplicate key `b`; give it once");
        let told = "duplicate key `a`, which \"1\" is; give it once";
        assert_eq!(parse("a", "1,a=2").unwrap_err(), told);
    }

    #[test]
    fn a_later_value_without_key_and_an_empty_one_are_refused() {
        assert!(parse("a", "1,2").unwrap_err().contains("\"2\" has no key"));
        assert_eq!(parse("a", "").unwrap_err(), "a is missing");
        assert!(parse("a", "").unwrap_err().contains("missing"));
        assert!(parse("a", "1,").unwrap_err().contains("missing"));
    }

    #[test]
    fn keys_that_the_list_does_not_name_keep_their_values() {
        let memory = Memory::default().with("1G,pages=2M").unwrap().with("2G").unwrap();
        assert_eq!((memory.size, memory.pages), (Size(2 << 30), Pages::Huge2M));
    }

    #[test]
    fn every_value_survives_when_another_is_set() {
        let memory = Memory {
            size: Size(12345),
            backing: Backing::File("a,b=c".into()),
            pages: Pages::Huge1G,
            prefault: false,
        };
        let expected = Memory { prefault: true, ..memory.clone() };
        assert_eq!(memory.with("prefault=on").unwrap(), expected);
        let cpus = Cpus { count: 8, threads: Some(2), cores: None, sockets: Some(2) };
        let expected = Cpus { cores: Some(2), ..cpus.clone() };
        assert_eq!(cpus.with("cores=2").unwrap(), expected);
        let list = "none,com2=append:x,com3=unix:y";
        let serial = Serial::default().with(list).unwrap();
        let expected = Serial { com4: Target::Pty, ..serial.clone() };
        assert_eq!(serial.with("com4=pty").unwrap(), expected);
    }

    #[test]
    fn a_wrong_word_is_answered_with_the_nearest_right_one() {
        let error = word::<Protocol>("linx").unwrap_err().to_string();
        assert_eq!(error, "\"linx\": unknown value `linx`; did you mean `linux`?");
    }
}
