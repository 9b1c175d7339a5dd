//! Whether the values of a configuration go together.

use std::path::{Component, Path, PathBuf};

use arch::Layout;

use super::{
    Config, ConfigError, Console, Disk, MAX_IO_THREADS, MEMORY_STEP, MIN_MEMORY, Memory, Net, Size,
    Target, VhostUser, Vsock,
};

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
        self.check_memory_max()?;
        self.cpus.topology()?;
        if !(1..=MAX_IO_THREADS).contains(&self.io_threads) {
            return Err(ConfigError::IoThreads(self.io_threads));
        }
        self.disk.iter().try_for_each(Disk::check)?;
        self.net.iter().try_for_each(Net::check)?;
        self.vsock.as_ref().map_or(Ok(()), Vsock::check)?;
        self.balloon.map_or(Ok(()), |balloon| balloon.check(self.memory.size))?;
        self.check_fs()?;
        self.check_vhost_user()?;
        self.check_targets()?;
        self.check_files()
    }

    /// Decides what was left to chance, once for all machines that are built like this: the addresses
    /// of network cards.
    pub fn settle(&mut self) {
        self.net.iter_mut().for_each(Net::settle);
        self.vhost_user.iter_mut().for_each(VhostUser::settle);
    }

    /// Whether a host with `bytes` of RAM in all can give what is asked for. RAM in a file counts
    /// too, and RAM that the machine can gain: a guest uses all of its RAM sooner or later.
    ///
    /// # Errors
    /// It cannot.
    pub fn check_host_memory(&self, bytes: u64) -> Result<(), ConfigError> {
        let (size, host) = (self.memory_max.size.unwrap_or(self.memory.size), Size(bytes));
        if size > host { Err(ConfigError::HostMemory { size, host }) } else { Ok(()) }
    }

    /// How much memory the guest is asked to have from the start on, bytes.
    pub(crate) fn requested(&self) -> u64 {
        self.memory_max.requested.unwrap_or(self.memory.size).0
    }

    fn check_memory_max(&self) -> Result<(), ConfigError> {
        let boot = self.memory.size;
        let wrong = |size, right| Err(ConfigError::MemoryMax { size, right });
        let Some(most) = self.memory_max.size else {
            return match self.memory_max.requested {
                Some(size) => {
                    wrong(size, "what is requested needs a size that there can be".into())
                }
                None => Ok(()),
            };
        };
        if most <= boot {
            return wrong(most, format!("it must be more than memory, which has {boot}"));
        }
        if memory::Pages::from(self.memory.pages).huge_size().is_some() {
            let right = "reserved pages cannot be given back; leave out pages=2M or pages=1G";
            return wrong(most, right.into());
        }
        for size in [most, Size(self.requested())] {
            let step = Size(MEMORY_STEP);
            let inside = boot <= size && size <= most;
            if !inside || !(size.0 - boot.0).is_multiple_of(step.0) {
                let right = format!("sizes go from {boot} to {most} in steps of {step}");
                return wrong(size, right);
            }
        }
        Layout::for_ram(boot.0)?.add(most.0 - boot.0)?;
        Ok(())
    }

    /// Every console, with what it is called.
    pub fn targets(&self) -> impl Iterator<Item = (&'static str, &Target)> {
        let consoles = self.console.iter().enumerate();
        let consoles = consoles.map(|(index, console)| (Console::label(index), &console.target));
        let debug = [("debug-console", &self.debug_console)];
        self.serial.ports().into_iter().chain(debug).chain(consoles)
    }

    /// No two ports share a file, a socket, or standard input and output.
    fn check_targets(&self) -> Result<(), ConfigError> {
        let all = || self.targets();
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
        let ports = self.targets();
        let mut written: Vec<(&'static str, &Path)> =
            ports.filter_map(|(name, target)| Some((name, target.path()?))).collect();
        written.extend(self.memory.backing.path().map(|path| ("memory", path)));
        written.extend(self.trace.as_deref().map(|path| ("trace", path)));
        written.extend(self.vsock.as_ref().map(|vsock| ("vsock", vsock.path.as_path())));
        let mut others = vec![("kernel", self.kernel.as_path())];
        others.extend(self.initrd.as_deref().map(|path| ("initrd", path)));
        others.extend(self.disk.iter().map(|disk| ("disk", disk.path.as_path())));
        others.extend(self.pmem.iter().map(|pmem| ("pmem", pmem.path.as_path())));
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
    use crate::config::{MemoryMax, Part, Pmem, Serial};

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
    fn a_machine_has_a_thread_for_its_devices_and_not_too_many() {
        let with =
            |io_threads| Config { kernel: "vmlinuz".into(), io_threads, ..Config::default() };
        assert_eq!(refusal(&with(0)), "io-threads of 0; devices are served by 1 to 32 threads");
        assert!(with(32).check().is_ok() && with(33).check().is_err());
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
    fn memory_that_grows_out_of_bounds_or_step_is_refused_with_what_is_right() {
        let with = |list: &str| {
            let memory_max = MemoryMax::default().with(list).unwrap();
            Config { memory_max, ..with_memory("64M") }
        };
        for right in ["66M", "1G", "1G,requested=64M", "1G,requested=1G", "1G,requested=512M"] {
            with(right).check().unwrap();
        }
        let more = "memory-max of 64M: it must be more than memory, which has 64M";
        assert_eq!(refusal(&with("64M")), more);
        assert!(refusal(&with("0")).starts_with("memory-max of 0B: it must be more"));
        let steps = "memory-max of 65M: sizes go from 64M to 65M in steps of 2M";
        assert_eq!(refusal(&with("65M")), steps);
        for wrong in ["32M", "2G", "129M"] {
            let told = refusal(&with(&format!("1G,requested={wrong}")));
            let right = format!("memory-max of {wrong}: sizes go from 64M to 1G in steps of 2M");
            assert_eq!(told, right);
        }
        assert!(refusal(&with("requested=1G")).starts_with("memory-max of 1G: what is requested"));
        let reserved = Config { memory: with_memory("64M,pages=2M").memory, ..with("1G") };
        assert!(refusal(&reserved).contains("leave out pages=2M"));
        assert!(refusal(&with("1000T")).starts_with("there is no place for"));
    }

    #[test]
    fn memory_that_a_machine_can_gain_must_be_there_on_the_host() {
        let memory_max = MemoryMax::default().with("4G").unwrap();
        let config = Config { memory_max, ..with_memory("64M") };
        config.check_host_memory(4 << 30).unwrap();
        let error = config.check_host_memory(2 << 30).unwrap_err().to_string();
        assert!(error.starts_with("memory of 4G is more than the 2G"), "{error}");
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
        let pmem = vec![Pmem::default().with("log").unwrap()];
        let config = Config { pmem, ..with_serial("append:log") };
        assert!(refusal(&config).starts_with("pmem and com1 are both the file log"));
        let config = Config { trace: Some("./log".into()), ..with_serial("none,com4=append:log") };
        assert!(refusal(&config).starts_with("com4 and trace are both the file ./log"));
    }

    #[test]
    fn a_socket_to_the_guest_is_nothing_else() {
        let vsock = Some(crate::config::Vsock::default().with("s").unwrap());
        let config = Config { vsock, ..with_serial("unix:./s") };
        assert!(refusal(&config).starts_with("com1 and vsock are both the file s"));
        let reserved = Some(crate::config::Vsock::default().with("s,cid=2").unwrap());
        let config = Config { vsock: reserved, ..config };
        assert!(refusal(&config).starts_with("2 cannot be a guest's CID"));
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
