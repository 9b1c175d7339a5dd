//! The memory balloon.

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::{ConfigError, Part, Size, scalar};

/// A memory balloon: `--balloon SIZE[,deflate-on-oom=on][,free-page-reporting=on][,statistics=SECONDS]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Balloon {
    /// How much of its memory the guest is asked to give back to the host. `on` is nothing for now.
    #[serde(deserialize_with = "size")]
    pub size: Size,
    /// Whether the guest may take memory back before it runs out of it. Default: off.
    #[serde(deserialize_with = "scalar::switch")]
    pub deflate_on_oom: bool,
    /// Whether the guest reports pages that it does not use, which go back to the host. Default: off.
    #[serde(deserialize_with = "scalar::switch")]
    pub free_page_reporting: bool,
    /// Seconds after which the guest is asked for statistics of its memory, again and again. Default:
    /// 0, never.
    #[serde(deserialize_with = "scalar::count")]
    pub statistics: u32,
}

impl Default for Balloon {
    fn default() -> Self {
        let (deflate_on_oom, free_page_reporting) = (false, false);
        Self { size: Size(0), deflate_on_oom, free_page_reporting, statistics: 0 }
    }
}

impl Part for Balloon {
    const MAIN: &'static str = "size";
}

impl Balloon {
    /// Whether a machine with `memory` can have such a balloon.
    pub(super) fn check(&self, memory: Size) -> Result<(), ConfigError> {
        let size = self.size;
        if size < memory { Ok(()) } else { Err(ConfigError::Balloon { size, memory }) }
    }
}

/// A size, or `on` for 0.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Spelling {
        Text(String),
        Number(u64),
        Switch(bool),
    }
    let text = match Spelling::deserialize(deserializer)? {
        Spelling::Text(text) => text,
        Spelling::Number(number) => number.to_string(),
        Spelling::Switch(on) => if on { "on" } else { "off" }.to_owned(),
    };
    if text == "on" {
        return Ok(Size(0));
    }
    let wrong =
        |message| D::Error::custom(format!("{message}; or on, for a balloon that is empty"));
    text.parse().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balloon_that_is_on_is_empty() {
        let balloon = Balloon::default().with("on,free-page-reporting=on").unwrap();
        assert_eq!(balloon, Balloon { free_page_reporting: true, ..Balloon::default() });
    }

    #[test]
    fn every_key_is_read() {
        let balloon = Balloon::default().with("64M,deflate-on-oom=on,statistics=5").unwrap();
        let expected = Balloon {
            size: Size(64 << 20),
            deflate_on_oom: true,
            free_page_reporting: false,
            statistics: 5,
        };
        assert_eq!(balloon, expected);
        assert_eq!(expected.with("free-page-reporting=on").unwrap().size, expected.size);
    }

    #[test]
    fn what_is_no_size_is_answered_with_what_is() {
        for text in ["off", "1X", "much"] {
            let error = Balloon::default().with(text).unwrap_err().to_string();
            assert!(error.contains(&format!("\"{text}\" is no size")), "{error}");
            assert!(error.contains("or on, for a balloon"), "{error}");
        }
    }

    #[test]
    fn a_balloon_is_smaller_than_memory() {
        let balloon = Balloon::default().with("64M").unwrap();
        assert!(balloon.check(Size(128 << 20)).is_ok());
        let error = balloon.check(Size(64 << 20)).unwrap_err().to_string();
        assert_eq!(error, "a balloon of 64M in a machine with memory of 64M; it must be smaller");
    }
}
