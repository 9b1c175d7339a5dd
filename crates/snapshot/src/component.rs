//! The traits of what can be saved.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::Section;

/// A saved form: plain data with a name and a version, never the runtime type.
///
/// Changing the fields of a saved form means raising `VERSION` and teaching
/// [`upgrade`](Versioned::upgrade) the old one.
pub trait Versioned: Serialize + DeserializeOwned {
    /// What this is the state of, for example `legacy.serial`.
    const KIND: &'static str;
    /// The version of the fields, from 1 on.
    const VERSION: u32;

    /// Makes today's form out of version `from`. Refuses unless a type knows better.
    ///
    /// # Errors
    /// The old version is not supported, or its fields are wrong.
    fn upgrade(from: u32, _old: Value) -> Result<Self, RestoreError> {
        Err(RestoreError::Version { kind: Self::KIND, found: from, supported: Self::VERSION })
    }
}

/// A runtime type that can be saved, and restored into a machine built from the same configuration.
pub trait Persist {
    /// The saved form.
    type State: Versioned;

    /// The state as it is now. The machine is paused while this runs.
    ///
    /// # Errors
    /// The state cannot be read, or is not in a shape that can be saved.
    fn save(&mut self) -> Result<Self::State, SaveError>;

    /// Takes a saved state. Saved data is input: it is checked before anything changes.
    ///
    /// # Errors
    /// The state does not fit; `self` is then unchanged.
    fn restore(&mut self, state: Self::State) -> Result<(), RestoreError>;
}

/// The object-safe twin of [`Persist`], implemented for every `Persist + Send`.
pub trait Component: Send {
    /// [`Persist::save`], with kind and version.
    ///
    /// # Errors
    /// Those of [`Persist::save`].
    fn save_section(&mut self) -> Result<Section, SaveError>;

    /// [`Persist::restore`], after checking kind and version.
    ///
    /// # Errors
    /// The section is of another kind or an unsupported version, or those of [`Persist::restore`].
    fn restore_section(&mut self, section: Section) -> Result<(), RestoreError>;
}

impl<P: Persist + Send> Component for P {
    fn save_section(&mut self) -> Result<Section, SaveError> {
        Section::of(&self.save()?)
    }

    fn restore_section(&mut self, section: Section) -> Result<(), RestoreError> {
        self.restore(section.into_state()?)
    }
}

/// Why a state could not be saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The host refused to give the state.
    #[error("the state of {what} cannot be read")]
    Read {
        /// Which part.
        what: String,
        /// What the host said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The state has no written form.
    #[error("the state of {kind} cannot be written down")]
    Encode {
        /// The section's kind.
        kind: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

/// Why a saved state was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A section that the machine needs is not there.
    #[error("the snapshot has no section `{0}`")]
    Missing(String),
    /// The section holds something else.
    #[error("expected a section of kind `{expected}`, found `{found}`")]
    Kind {
        /// What was to be restored.
        expected: &'static str,
        /// What the section says it is.
        found: String,
    },
    /// The section's version cannot be read.
    #[error("`{kind}` has version {found}; this build reads version {supported}")]
    Version {
        /// The section's kind.
        kind: &'static str,
        /// The version found.
        found: u32,
        /// The version that this build writes.
        supported: u32,
    },
    /// The fields are not those of the kind and version.
    #[error("the fields of `{kind}` are not what its version says")]
    Decode {
        /// The section's kind.
        kind: &'static str,
        /// Which field.
        source: serde_json::Error,
    },
    /// The values do not make sense.
    #[error("`{kind}` cannot be restored: {why}")]
    Invalid {
        /// The section's kind.
        kind: &'static str,
        /// Which value, and what would be right.
        why: String,
    },
    /// The host refused the state.
    #[error("the host refuses the state of {what}")]
    Host {
        /// Which part.
        what: String,
        /// What the host said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
