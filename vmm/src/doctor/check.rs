//! One thing that was looked at.

use serde::Serialize;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it is there.
    pub state: State,
    /// Whether no guest runs without it.
    pub required: bool,
    /// What was found.
    pub found: String,
    /// What it is needed for.
    pub purpose: String,
    /// How to get it, if it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is, and can be used.
    Ok,
    /// It is there in part, or it cannot be told.
    Warning,
    /// It is not, or this user may not use it.
    Missing,
}

impl State {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
        }
    }
}

impl Check {
    /// Something that `found` shows to be there.
    pub(super) fn ok(name: &str, purpose: &str, found: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            state: State::Ok,
            required: false,
            found: found.into(),
            purpose: purpose.into(),
            remedy: None,
        }
    }

    /// The same check, with another outcome.
    pub(super) fn but(self, state: State, remedy: impl Into<String>) -> Self {
        Self { state, remedy: Some(remedy.into()), ..self }
    }

    /// The same check, without which no guest runs.
    pub(super) fn required(self) -> Self {
        Self { required: true, ..self }
    }
}
