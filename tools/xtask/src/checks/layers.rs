//! A crate may depend only on crates in lower layers, never on its own.

use std::{
    collections::BTreeMap,
    process::{Command, ExitCode},
};

use serde::Deserialize;

use super::verdict;
use crate::{
    error::{Context, Result},
    workspace::{Workspace, run},
};

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    metadata: Option<Layer>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Layer {
    layer: Option<u32>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// `cargo xtask layers`.
pub(crate) fn main(workspace: &Workspace) -> Result<ExitCode> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace.root());
    let output = run(cargo.args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Metadata = serde_json::from_slice(&output)
        .context(|| "cannot read the output of cargo metadata".to_owned())?;
    verdict("layers", &findings(&metadata.packages))
}

fn findings(packages: &[Package]) -> Vec<String> {
    let layer = |package: &Package| package.metadata.as_ref().and_then(|m| m.layer);
    let layers: BTreeMap<&str, Option<u32>> =
        packages.iter().map(|package| (package.name.as_str(), layer(package))).collect();
    let mut findings = Vec::new();
    for package in packages {
        let Some(own) = layer(package) else {
            let name = &package.name;
            findings.push(format!("{name} has no [package.metadata] layer in its Cargo.toml"));
            continue;
        };
        // Tests may look anywhere; what is built may not.
        let built = package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev"));
        let below = |d: &&Dependency| {
            let other = layers.get(d.name.as_str()).copied().flatten();
            other.is_some_and(|other| other >= own)
        };
        findings.extend(built.filter(below).map(|dependency| {
            let (name, other) = (&package.name, &dependency.name);
            format!("{name} (layer {own}) depends on {other}, which is not in a lower layer")
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, layer: Option<u32>, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependency = |(name, kind): &(&str, Option<&str>)| Dependency {
            name: (*name).to_owned(),
            kind: kind.map(str::to_owned),
        };
        Package {
            name: name.to_owned(),
            metadata: Some(Layer { layer }),
            dependencies: dependencies.iter().map(dependency).collect(),
        }
    }

    #[test]
    fn a_dependency_on_the_same_or_a_higher_layer_is_found() {
        let packages = [
            package("low", Some(0), &[("high", None), ("serde", None)]),
            package("peer", Some(0), &[("low", None)]),
            package("high", Some(1), &[("low", None)]),
        ];
        let findings = findings(&packages);
        assert_eq!(findings.len(), 2);
        assert!(findings[0].starts_with("low (layer 0) depends on high"));
        assert!(findings[1].starts_with("peer (layer 0) depends on low"));
    }

    #[test]
    fn tests_may_depend_on_anything_and_a_missing_layer_is_found() {
        let packages =
            [package("low", Some(0), &[("high", Some("dev"))]), package("high", None, &[])];
        assert_eq!(findings(&packages), ["high has no [package.metadata] layer in its Cargo.toml"]);
    }
}
