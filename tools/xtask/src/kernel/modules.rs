//! A kernel's loadable modules, and the order in which to load them.
//!
//! Debian's packages carry no `modules.dep` (that is made when they are installed), so what a module
//! depends on is read from itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::Kernel;
use super::decompress::{Format, decompress};
use crate::error::{AtPath, Error, Result};

/// A module ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// With underscores, as the kernel names it.
    pub name: String,
    /// The ELF file.
    pub bytes: Vec<u8>,
}

/// All modules of a kernel.
#[derive(Debug)]
pub(crate) struct Modules {
    version: String,
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Finds the modules of a kernel.
    pub(crate) fn of(kernel: &Kernel) -> Result<Self> {
        let mut files = BTreeMap::new();
        find(&kernel.modules, &mut files)?;
        let list = kernel.modules.join("modules.builtin");
        let list = fs::read_to_string(&list).at("read", &list)?;
        let builtin = list.lines().map(|line| name(Path::new(line))).collect();
        Ok(Self { version: kernel.version.clone(), files, builtin })
    }

    /// The modules named and those they depend on, each behind what it needs; none that is built in.
    pub(crate) fn load_order(&self, names: &[&str]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        for name in names {
            self.add(name, &mut order)?;
        }
        Ok(order)
    }

    fn add(&self, wanted: &str, order: &mut Vec<Module>) -> Result<()> {
        let name = wanted.replace('-', "_");
        if self.builtin.contains(&name) || order.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let path = self
            .files
            .get(&name)
            .ok_or_else(|| Error::new(format!("kernel {} has no module {wanted}", self.version)))?;
        let file = fs::read(path).at("read", path)?;
        let bytes = match Format::detect(&file) {
            Some(format) => decompress(format, &file)?,
            None => file,
        };
        for dependency in depends(&bytes) {
            self.add(&dependency, order)?;
        }
        order.push(Module { name, bytes });
        Ok(())
    }
}

fn find(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).at("read", dir)? {
        let entry = entry.at("read", dir)?;
        let path = entry.path();
        if entry.file_type().at("look at", &path)?.is_dir() {
            find(&path, files)?;
        } else if path.to_string_lossy().contains(".ko") {
            files.insert(name(&path), path);
        }
    }
    Ok(())
}

/// `kernel/arch/x86/kvm/kvm-amd.ko.xz` is `kvm_amd`.
fn name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

/// What the module's `.modinfo` says it depends on.
fn depends(module: &[u8]) -> Vec<String> {
    // The section is a row of NUL-terminated strings; no other part of a module has such a string.
    let Some(start) = find_bytes(module, b"depends=") else { return Vec::new() };
    let rest = module.get(start + b"depends=".len()..).unwrap_or_default();
    let list = rest.split(|&byte| byte == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn find_bytes(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module() {
        assert_eq!(depends(b"ELF\0license=GPL\0depends=kvm,ccp\0intree=Y\0"), ["kvm", "ccp"]);
        assert!(depends(b"ELF\0depends=\0").is_empty());
        assert!(depends(b"ELF").is_empty());
    }

    #[test]
    fn module_names_have_underscores_and_no_suffix() {
        assert_eq!(name(Path::new("kernel/arch/x86/kvm/kvm-amd.ko.xz")), "kvm_amd");
    }

    #[test]
    fn a_dependency_is_loaded_once_and_first() {
        let dir = std::env::temp_dir().join(format!("purlin-modules-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for (name, depends) in [("a", "b,c"), ("b", "c,builtin"), ("c", "")] {
            let text = format!("depends={depends}\0");
            fs::write(dir.join(format!("{name}.ko")), text).unwrap();
        }
        let mut files = BTreeMap::new();
        find(&dir, &mut files).unwrap();
        let builtin = BTreeSet::from(["builtin".to_owned()]);
        let modules = Modules { version: "6.12".into(), files, builtin };

        let order = modules.load_order(&["a", "c"]).unwrap();
        let missing = modules.load_order(&["d"]).unwrap_err().to_string();

        fs::remove_dir_all(&dir).unwrap();
        let names: Vec<_> = order.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["c", "b", "a"]);
        assert_eq!(missing, "kernel 6.12 has no module d");
    }
}
