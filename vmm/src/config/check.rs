//! Whether the values of a configuration go together.

use std::path::{Component, Path, PathBuf};

use arch::Layout;

use super::{Config, ConfigError, MIN_MEMORY, Memory, Size, Target};

const PAGE: u64 = 4096;

impl Config {
    /// Whether a machine can be like this, as far as that can be told without looking at the host.
    ///
    /// # Errors
    /// The first thing that is wrong, with what would be right.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.kernel.as_os_str().is_empty() {
            return Err(ConfigError::NoKernel);
        }
        self.memory.check()?;
        self.cpus.topology()?;
        self.check_targets()?;
        self.check_files()
    }

    /// Whether a host with `bytes` of RAM in all can give what is asked for. RAM in a file counts
    /// too: a guest uses all of its RAM sooner or later.
    ///
    /// # Errors
    /// It cannot.
    pub fn check_host_memory(&self, bytes: u64) -> Result<(), ConfigError> {
        let (size, host) = (self.memory.size, Size(bytes));
        if size > host { Err(ConfigError::HostMemory { size, host }) } else { Ok(()) }
    }

    /// No two ports share a file, a socket, or standard input and output.
    fn check_targets(&self) -> Result<(), ConfigError> {
        let ports = self.serial.ports();
        let all = || ports.iter().copied().chain([("debug-console", &self.debug_console)]);
        for (index, (second, target)) in all().enumerate() {
            let shared = |(_, other): &(&str, &Target)| match target.path() {
                Some(path) => other.path().is_some_and(|other| same(path, other)),
                None => *target == Target::Stdio && *other == target,
            };
            if let Some((first, _)) = all().take(index).find(shared) {
                return Err(ConfigError::Shared { first, second, target: target.to_string() });
            }
        }
        Ok(())
    }

    /// No file that is made anew is also something else: opening the one would empty the other.
    fn check_files(&self) -> Result<(), ConfigError> {
        let ports = self.serial.ports();
        let ports = ports.iter().copied().chain([("debug-console", &self.debug_console)]);
        let mut written: Vec<(&'static str, &Path)> =
            ports.filter_map(|(name, target)| Some((name, target.path()?))).collect();
        written.extend(self.memory.backing.path().map(|path| ("memory", path)));
        written.extend(self.trace.as_deref().map(|path| ("trace", path)));
        let mut others = vec![("kernel", self.kernel.as_path())];
        others.extend(self.initrd.as_deref().map(|path| ("initrd", path)));
        others.extend(self.disk.iter().map(|disk| ("disk", disk.path.as_path())));
        for (second, path) in written {
            if let Some((first, _)) = others.iter().find(|(_, other)| same(path, other)) {
                return Err(ConfigError::Overwritten { first, second, path: path.to_owned() });
            }
            others.push((second, path));
        }
        Ok(())
    }
}

/// Whether two paths are one without asking the host: links are not followed.
fn same(a: &Path, b: &Path) -> bool {
    let plain = |path: &Path| {
        path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>()
    };
    plain(a) == plain(b)
}

impl Memory {
    fn check(&self) -> Result<(), ConfigError> {
        let size = self.size;
        if size.0 < MIN_MEMORY {
            return Err(ConfigError::too_small(size));
        }
        let unit = memory::Pages::from(self.pages).huge_size().unwrap_or(PAGE);
        if !size.0.is_multiple_of(unit) {
            let right = format!("with these pages it must be a multiple of {}", Size(unit));
            return Err(ConfigError::Memory { size, right });
        }
        Layout::for_ram(size.0)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Part, Serial};

    fn with_memory(list: &str) -> Config {
        let memory = Memory::default().with(list).unwrap();
        Config { kernel: "vmlinuz".into(), memory, ..Config::default() }
    }

    fn with_serial(list: &str) -> Config {
        let serial = Serial::default().with(list).unwrap();
        Config { kernel: "vmlinuz".into(), serial, ..Config::default() }
    }

    fn refusal(config: &Config) -> String {
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn a_kernel_is_all_that_is_needed() {
        let config = Config { kernel: "vmlinuz".into(), ..Config::default() };
        assert!(config.check().is_ok());
        assert!(refusal(&Config::default()).starts_with("no kernel was given; say --kernel PATH"));
    }

    #[test]
    fn memory_that_is_too_small_or_odd_is_refused_with_what_is_right() {
        let small = "memory of 0B: a machine needs at least 2M";
        assert_eq!(refusal(&with_memory("0")), small);
        assert_eq!(refusal(&with_memory("1M")), "memory of 1M: a machine needs at least 2M");
        assert!(with_memory("2M").check().is_ok());
        let odd = "memory of 4098K: with these pages it must be a multiple of 4K";
        assert_eq!(refusal(&with_memory("4098K")), odd);
        let odd = "memory of 513M: with these pages it must be a multiple of 2M";
        assert_eq!(refusal(&with_memory("513M,pages=2M")), odd);
        let odd = "memory of 1536M: with these pages it must be a multiple of 1G";
        assert_eq!(refusal(&with_memory("1536M,pages=1G")), odd);
    }

    #[test]
    fn more_memory_than_any_machine_has_is_refused() {
        assert!(refusal(&with_memory("16777215T")).contains("RAM"));
    }

    #[test]
    fn more_memory_than_the_host_has_is_refused_with_both_sizes() {
        let config = with_memory("2G");
        assert!(config.check_host_memory(2 << 30).is_ok());
        assert_eq!(
            config.check_host_memory(1 << 30).unwrap_err().to_string(),
            "memory of 2G is more than the 1G that this host has in all; ask for less"
        );
    }

    #[test]
    fn an_impossible_topology_is_refused() {
        let mut config = with_memory("64M");
        config.cpus.count = 65;
        assert!(refusal(&config).starts_with("65 CPUs"));
    }

    #[test]
    fn two_ports_on_the_terminal_are_refused_by_name() {
        let shared = "com1 and com3 are both on stdio; \
                      set one of them to none or to another target";
        assert_eq!(refusal(&with_serial("com3=stdio")), shared);
        assert!(with_serial("none,com3=stdio").check().is_ok());
    }

    #[test]
    fn the_debug_console_is_a_port_like_the_others() {
        let config = Config { debug_console: Target::Stdio, ..with_serial("stdio") };
        assert!(refusal(&config).starts_with("com1 and debug-console are both on stdio"));
        let config = Config { debug_console: Target::Stdio, ..with_serial("none") };
        assert!(config.check().is_ok());
    }

    #[test]
    fn a_file_that_would_be_emptied_is_nothing_else() {
        let lost =
            "kernel and com1 are both the file vmlinuz; give com1 another, because it is made anew";
        assert_eq!(refusal(&with_serial("file:vmlinuz")), lost);
        let config =
            Config { initrd: Some("initrd".into()), ..with_memory("64M,backing=file:initrd") };
        assert!(refusal(&config).starts_with("initrd and memory are both the file initrd"));
        let config = Config { trace: Some("./log".into()), ..with_serial("none,com4=append:log") };
        assert!(refusal(&config).starts_with("com4 and trace are both the file ./log"));
    }

    #[test]
    fn kernel_and_initrd_may_be_one_file() {
        let config = Config { initrd: Some("vmlinuz".into()), ..with_memory("64M") };
        assert!(config.check().is_ok());
    }

    #[test]
    fn two_ports_on_one_path_are_refused_however_it_is_spelled() {
        let shared = refusal(&with_serial("file:/tmp/./a,com2=append:/tmp//a"));
        assert!(shared.starts_with("com1 and com2 are both on append:/tmp//a"), "{shared}");
        let config =
            Config { debug_console: Target::Unix("s".into()), ..with_serial("com2=unix:./s") };
        assert!(refusal(&config).starts_with("com2 and debug-console are both on"));
        assert!(with_serial("pty,com2=pty").check().is_ok());
    }
}
