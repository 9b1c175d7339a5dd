//! Code in documents is the code: a fenced block after `<!-- include: FILE -->` or
//! `<!-- include: FILE#ANCHOR -->` holds what the file holds, whole or between the lines
//! `// anchor: ANCHOR` and `// end: ANCHOR`. `--write` brings the documents up to date.

use std::{fs, path::Path, process::ExitCode};

use super::{files, verdict};
use crate::{
    error::{AtPath, Error, Result},
    workspace::{Workspace, say},
};

/// Options of `cargo xtask listings`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Bring the documents up to date instead of complaining.
    #[arg(long)]
    pub(crate) write: bool,
}

/// `cargo xtask listings`.
pub(crate) fn main(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let mut findings = Vec::new();
    for name in files(workspace, ".md")? {
        let path = workspace.root().join(&name);
        let text = fs::read_to_string(&path).at("read", &path)?;
        let fresh = renew(&text, |file| source(workspace.root(), file))?;
        if fresh == text {
            continue;
        }
        if options.write {
            fs::write(&path, fresh).at("write", &path)?;
            say("listings", &format!("{name} is up to date now"));
        } else {
            findings
                .push(format!("{name} differs from the code; run cargo xtask listings --write"));
        }
    }
    verdict("listings", &findings)
}

/// What `reference` (`FILE` or `FILE#ANCHOR`) holds.
fn source(root: &Path, reference: &str) -> Result<String> {
    let (file, anchor) = match reference.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (reference, None),
    };
    let path = root.join(file);
    let text = fs::read_to_string(&path).at("read", &path)?;
    match anchor {
        None => Ok(text),
        Some(anchor) => between(&text, anchor)
            .ok_or_else(|| Error::new(format!("{file} has no `// anchor: {anchor}` with an end"))),
    }
}

fn between(text: &str, anchor: &str) -> Option<String> {
    let (start, end) = (format!("// anchor: {anchor}"), format!("// end: {anchor}"));
    let mut lines = text.lines().skip_while(|line| line.trim() != start).skip(1).peekable();
    lines.peek()?;
    let inside: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != end).collect();
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let margin = inside.iter().filter(|line| !line.trim().is_empty()).map(indent).min()?;
    let cut = |line: &&str| line.get(margin..).unwrap_or_default().to_owned() + "\n";
    Some(inside.iter().map(cut).collect())
}

/// `text` with every included block replaced by what `source` gives.
fn renew(text: &str, source: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut fresh = String::with_capacity(text.len());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        fresh.push_str(line);
        fresh.push('\n');
        let reference = line.strip_prefix("<!-- include: ").and_then(|l| l.strip_suffix(" -->"));
        let Some(reference) = reference else { continue };
        let fence = lines.next().filter(|line| line.starts_with("```"));
        let fence =
            fence.ok_or_else(|| Error::new(format!("no code block after include: {reference}")))?;
        lines.by_ref().find(|line| *line == "```");
        fresh.push_str(&format!("{fence}\n{}```\n", source(reference)?));
    }
    Ok(fresh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_included_block_is_replaced_and_the_rest_kept() {
        let text = "a\n<!-- include: x.rs -->\n```rust\nold\n```\nb\n";
        let fresh = renew(text, |file| Ok(format!("// {file}\n"))).unwrap();
        assert_eq!(fresh, "a\n<!-- include: x.rs -->\n```rust\n// x.rs\n```\nb\n");
    }

    #[test]
    fn an_anchor_gives_the_lines_between_without_their_margin() {
        let text = "fn f() {\n    // anchor: a\n    one();\n        two();\n    // end: a\n}\n";
        assert_eq!(between(text, "a").unwrap(), "one();\n    two();\n");
        assert_eq!(between(text, "b"), None);
    }

    #[test]
    fn an_include_without_a_block_is_an_error() {
        assert!(renew("<!-- include: x -->\ntext\n", |_| Ok(String::new())).is_err());
    }
}
