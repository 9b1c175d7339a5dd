//! Nothing outgrows its room: lines of a file, methods of a trait. Functions and parameters are
//! clippy's (`.clippy.toml`).

use std::{fs, process::ExitCode};

use super::{files, verdict};
use crate::{
    error::{AtPath, Result},
    workspace::Workspace,
};

const FILE_LINES: usize = 500;
const TRAIT_METHODS: usize = 10;

/// `cargo xtask sizes`.
pub(crate) fn main(workspace: &Workspace) -> Result<ExitCode> {
    let mut findings = Vec::new();
    for name in files(workspace, ".rs")? {
        let path = workspace.root().join(&name);
        let text = fs::read_to_string(&path).at("read", &path)?;
        findings.extend(look(&text).into_iter().map(|finding| format!("{name}: {finding}")));
    }
    verdict("sizes", &findings)
}

fn look(text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES {
        findings.push(format!("{lines} lines; a file has at most {FILE_LINES}"));
    }
    let large = traits(text).into_iter().filter(|(_, methods)| *methods > TRAIT_METHODS);
    findings.extend(large.map(|(name, methods)| {
        format!("trait {name} has {methods} methods; a trait has at most {TRAIT_METHODS}")
    }));
    findings
}

/// The traits that `text` defines, with how many methods each has. Formatted code only: a trait ends
/// at a brace in the column where it begins.
fn traits(text: &str) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let code = line.trim_start();
        match &open {
            Some(end) if line == end => open = None,
            Some(end) => {
                let inside = indent.len() == end.len() + 3;
                if let Some((_, methods)) = found.last_mut().filter(|_| inside && is_fn(code)) {
                    *methods += 1;
                }
            }
            None => {
                if let Some(name) = trait_name(code).filter(|_| !line.ends_with('}')) {
                    found.push((name, 0));
                    open = Some(format!("{indent}}}"));
                }
            }
        }
    }
    found
}

fn is_fn(code: &str) -> bool {
    ["fn ", "unsafe fn ", "async fn ", "const fn "].iter().any(|start| code.starts_with(start))
}

fn trait_name(code: &str) -> Option<String> {
    let code = code.strip_prefix("pub ").unwrap_or(code);
    let code = code.strip_prefix("pub(crate) ").unwrap_or(code);
    let name = code.strip_prefix("trait ")?;
    Some(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_trait_of(methods: usize) -> String {
        format!(
            "pub trait Wide: Send {{\n{}}}\n\nfn free() {{}}\n",
            "    fn m();\n".repeat(methods)
        )
    }

    #[test]
    fn a_trait_of_ten_methods_fits_and_one_of_eleven_does_not() {
        assert!(look(&a_trait_of(10)).is_empty());
        assert_eq!(look(&a_trait_of(11)), ["trait Wide has 11 methods; a trait has at most 10"]);
    }

    #[test]
    fn bodies_of_methods_do_not_count() {
        let text = "trait A {\n    fn a() {\n        fn inner() {}\n    }\n}\n";
        assert_eq!(traits(text), [("A".to_owned(), 1)]);
    }

    #[test]
    fn a_file_of_more_than_500_lines_is_found() {
        assert!(look(&"\n".repeat(500)).is_empty());
        assert_eq!(look(&"\n".repeat(501)).len(), 1);
    }
}
