//! Sections, and the named set of them that a machine saves.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{RestoreError, SaveError, Versioned};

/// One saved state: kind, version and fields, encoded once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// [`Versioned::KIND`].
    pub kind: String,
    /// [`Versioned::VERSION`] at the time.
    pub version: u32,
    /// The fields.
    pub state: Value,
}

impl Section {
    /// The section that holds `state`.
    ///
    /// # Errors
    /// `state` has no written form.
    pub fn of<S: Versioned>(state: &S) -> Result<Self, SaveError> {
        let encode = |source| SaveError::Encode { kind: S::KIND, source };
        let state = serde_json::to_value(state).map_err(encode)?;
        Ok(Self { kind: S::KIND.to_owned(), version: S::VERSION, state })
    }

    /// The state that the section holds.
    ///
    /// # Errors
    /// Another kind, an unsupported version, or fields that are not those of the version.
    pub fn into_state<S: Versioned>(self) -> Result<S, RestoreError> {
        if self.kind != S::KIND {
            return Err(RestoreError::Kind { expected: S::KIND, found: self.kind });
        }
        if self.version != S::VERSION {
            return S::upgrade(self.version, self.state);
        }
        let decode = |source| RestoreError::Decode { kind: S::KIND, source };
        serde_json::from_value(self.state).map_err(decode)
    }
}

/// The sections of one machine, by the name that each part was attached under.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    sections: BTreeMap<String, Section>,
}

/// Sections that nothing took: the snapshot is of another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftovers(pub Vec<String>);

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the machine has no part for the sections `{}`", self.0.join("`, `"))
    }
}

impl std::error::Error for Leftovers {}

impl Snapshot {
    /// A snapshot without sections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a section; the section that had the name before is returned.
    pub fn put(&mut self, name: &str, section: Section) -> Option<Section> {
        self.sections.insert(name.to_owned(), section)
    }

    /// Takes the section called `name` out.
    ///
    /// # Errors
    /// There is none.
    pub fn take(&mut self, name: &str) -> Result<Section, RestoreError> {
        self.sections.remove(name).ok_or_else(|| RestoreError::Missing(name.to_owned()))
    }

    /// Says that all has been restored.
    ///
    /// # Errors
    /// Some sections were not taken.
    pub fn finish(self) -> Result<(), Leftovers> {
        if self.sections.is_empty() {
            return Ok(());
        }
        Err(Leftovers(self.sections.into_keys().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Component, Persist};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct CounterState {
        count: u8,
    }

    impl Versioned for CounterState {
        const KIND: &'static str = "test.counter";
        const VERSION: u32 = 2;

        fn upgrade(from: u32, old: Value) -> Result<Self, RestoreError> {
            match (from, old.as_u64().and_then(|count| u8::try_from(count).ok())) {
                (1, Some(count)) => Ok(Self { count }),
                _ => Err(RestoreError::Version { kind: Self::KIND, found: from, supported: 2 }),
            }
        }
    }

    struct Counter(u8);

    impl Persist for Counter {
        type State = CounterState;

        fn save(&mut self) -> Result<CounterState, SaveError> {
            Ok(CounterState { count: self.0 })
        }

        fn restore(&mut self, state: CounterState) -> Result<(), RestoreError> {
            self.0 = state.count;
            Ok(())
        }
    }

    fn section(version: u32, state: Value) -> Section {
        Section { kind: "test.counter".to_owned(), version, state }
    }

    #[test]
    fn a_saved_component_comes_back() {
        let saved = Counter(7).save_section().unwrap();
        let mut counter = Counter(0);
        counter.restore_section(saved).unwrap();
        assert_eq!(counter.0, 7);
    }

    #[test]
    fn an_old_version_is_upgraded_and_a_newer_one_refused() {
        let mut counter = Counter(0);
        counter.restore_section(section(1, 9.into())).unwrap();
        assert_eq!(counter.0, 9);
        let error = counter.restore_section(section(3, 9.into())).unwrap_err();
        assert_eq!(error.to_string(), "`test.counter` has version 3; this build reads version 2");
    }

    #[test]
    fn another_kind_and_wrong_fields_are_refused() {
        let mut counter = Counter(1);
        let other = Section { kind: "test.other".to_owned(), ..section(2, Value::Null) };
        assert!(matches!(counter.restore_section(other), Err(RestoreError::Kind { .. })));
        let wrong = section(2, serde_json::json!({ "count": 256 }));
        assert!(matches!(counter.restore_section(wrong), Err(RestoreError::Decode { .. })));
        assert_eq!(counter.0, 1);
    }

    #[test]
    fn a_missing_section_is_named() {
        let error = Snapshot::new().take("com1").unwrap_err();
        assert_eq!(error.to_string(), "the snapshot has no section `com1`");
    }

    #[test]
    fn sections_that_nothing_took_are_an_error() {
        let mut snapshot = Snapshot::new();
        snapshot.put("com1", section(2, Value::Null));
        let leftovers = snapshot.finish().unwrap_err();
        assert_eq!(leftovers.to_string(), "the machine has no part for the sections `com1`");
    }
}
