//! From a file to a configuration.

use std::{fs, path::Path};

use super::{Config, ConfigError, error::readable};

impl Config {
    /// Reads the TOML file at `path`. A relative path in it is taken from the file's directory, so
    /// that a machine's files can be moved together and run from anywhere.
    ///
    /// The values are each of the right form; whether they go together is for
    /// [`check`](Self::check), after the flags had their say.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or has an unknown key, a key twice, or a value that its
    /// key does not allow; the line is named.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.into(), source };
        let text = fs::read_to_string(path).map_err(read)?;
        let mut config = Self::parse(&text).map_err(|(line, message)| ConfigError::File {
            path: path.into(),
            line,
            message,
        })?;
        if let Some(directory) = path.parent() {
            config.rebase(directory);
        }
        Ok(config)
    }

    /// The configuration in `text`, or the line and what is wrong with it.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            (line, readable(error.message()))
        })
    }

    /// Takes relative paths from `directory`.
    fn rebase(&mut self, directory: &Path) {
        let targets = self.serial.targets_mut().into_iter().chain([&mut self.debug_console]);
        let paths = targets.filter_map(|target| target.path_mut());
        let paths = paths.chain(self.memory.backing.path_mut());
        let disks = self.disk.iter_mut();
        let disks =
            disks.flat_map(|disk| disk.backing.path_mut().into_iter().chain([&mut disk.path]));
        let paths = paths.chain(disks);
        let paths = paths.chain(self.pmem.iter_mut().map(|pmem| &mut pmem.path));
        let paths = paths.chain(self.net.iter_mut().filter_map(|net| net.socket.as_mut()));
        let paths = paths.chain(self.vsock.as_mut().map(|vsock| &mut vsock.path));
        let devices = self.vhost_user.iter_mut();
        let paths = paths.chain(devices.map(|device| &mut device.socket));
        let paths = paths.chain(self.fs.iter_mut().map(|fs| &mut fs.path));
        let paths = paths.chain(self.root.iter_mut().map(|root| &mut root.path));
        let paths = paths.chain(self.rng.as_mut().map(|rng| &mut rng.path));
        let paths = paths.chain(self.console.iter_mut().filter_map(|console| console.path_mut()));
        for path in paths.chain(&mut self.initrd).chain(&mut self.trace) {
            *path = directory.join(&*path);
        }
        if !self.kernel.as_os_str().is_empty() {
            self.kernel = directory.join(&self.kernel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Backing, Bus, OnReset, Pages, Protocol, Size, Tables, Target};

    const WHOLE: &str = r#"
        name = "web"
        kernel = "vmlinuz"
        initrd = "/boot/initrd"
        cmdline = "console=ttyS0 quiet"
        protocol = "linux"
        tables = "acpi"
        bus = "pci"
        debug-console = "append:debug.log"
        on-reset = "reboot"
        grace = 3
        io-threads = 2
        trace = "run.json"

        vsock = "vm.sock,cid=7"

        [memory]
        size = "1G"
        backing = "shared"
        pages = "2M"
        prefault = true

        [cpus]
        count = 4
        threads = 2

        [serial]
        com1 = "none"
        com2 = "unix:com2.sock"

        [[vhost-user]]
        socket = "fs.sock"
        type = "fs"
        tag = "home"
        queues = 2

        [[vhost-user]]
        socket = "gpu.sock"
        type = 16
    "#;

    fn wrong(text: &str) -> (usize, String) {
        Config::parse(text).unwrap_err()
    }

    #[test]
    fn every_virtio_device_counts_as_one() {
        let words = [
            "disk = [\"a\"]",
            "net = [\"user\"]",
            "pmem = [\"a\"]",
            "fs = [\"a\"]",
            "root = \"a\"",
            "rng = \"a\"",
            "console = [\"pty\"]",
            "balloon = \"on\"",
            "vsock = \"a\"",
            "vhost-user = [\"a,type=blk\"]",
            "memory-max = \"1G\"",
        ];
        for word in words {
            assert!(Config::parse(word).unwrap().has_virtio(), "{word}");
        }
        assert!(!Config::default().has_virtio());
    }

    #[test]
    fn every_key_is_read() {
        let config = Config::parse(WHOLE).unwrap();
        assert_eq!((config.name.as_str(), config.grace, config.io_threads), ("web", 3, 2));
        assert_eq!((config.protocol, config.tables), (Protocol::Linux, Tables::Acpi));
        assert_eq!((config.on_reset, config.bus), (OnReset::Reboot, Bus::Pci));
        assert_eq!(config.debug_console.to_string(), "append:debug.log");
        assert_eq!((config.memory.size, config.memory.pages), (Size(1 << 30), Pages::Huge2M));
        assert_eq!((config.memory.backing, config.memory.prefault), (Backing::Shared, true));
        let devices = config.vhost_user.iter().map(|device| device.settings().unwrap().0);
        assert_eq!(devices.collect::<Vec<_>>(), [26, 16]);
        assert_eq!((config.cpus.count, config.cpus.threads), (4, Some(2)));
        assert_eq!(config.serial.com1, Target::None);
        assert_eq!(config.serial.com2, Target::Unix("com2.sock".into()));
        let vsock = config.vsock.unwrap();
        assert_eq!((vsock.path, vsock.cid), ("vm.sock".into(), 7));
    }

    #[test]
    fn a_string_in_flag_syntax_says_the_same_as_a_table() {
        let table = Config::parse(WHOLE).unwrap();
        let (head, _) = WHOLE.split_once("[memory]").unwrap();
        let strings = "memory = '1G,backing=shared,pages=2M,prefault=on'\n\
                       cpus = '4,threads=2'\nserial = 'none,com2=unix:com2.sock'\n\
                       vhost-user = ['fs.sock,type=fs,tag=home,queues=2', 'gpu.sock,type=16']";
        assert_eq!(Config::parse(&format!("{head}\n{strings}")).unwrap(), table);
    }

    #[test]
    fn memory_beside_ram_is_read_from_tables_and_strings() {
        let tables = "[memory-max]\nsize = '4G'\nrequested = '1G'\n\
                      [[pmem]]\npath = 'a'\nread-only = true\n[[pmem]]\npath = 'b'";
        let strings = "memory-max = '4G,requested=1G'\npmem = ['a,read-only=on', 'b']";
        let config = Config::parse(tables).unwrap();
        assert_eq!(Config::parse(strings).unwrap(), config);
        assert_eq!(config.memory_max.requested, Some(Size(1 << 30)));
        assert_eq!((config.pmem.len(), config.pmem[0].read_only), (2, true));
    }

    #[test]
    fn a_number_stands_for_the_main_value() {
        let config = Config::parse("memory = 64\ncpus = 2").unwrap();
        assert_eq!((config.memory.size, config.cpus.count), (Size(64 << 20), 2));
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
        let unknown = wrong("name = 'a'\nmemroy = '1G'");
        assert_eq!(unknown, (2, "unknown key `memroy`; did you mean `memory`?".into()));
        let unknown = wrong("[memory]\nsize = '1G'\npage = '2M'");
        assert_eq!(unknown, (3, "unknown key `page`; did you mean `pages`?".into()));
        let unknown = wrong("\n\n\nmemory = '1G,page=2M'");
        assert_eq!(
            unknown,
            (4, "\"1G,page=2M\": unknown key `page`; did you mean `pages`?".into())
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line_and_what_is_right() {
        let (line, message) = wrong("\n[memory]\nsize = '1X'");
        assert_eq!(line, 3);
        assert!(message.starts_with("\"1X\" is no size; a size is a whole number"), "{message}");
        let (_, message) = wrong("[memory]\nprefault = 'maybe'");
        assert_eq!(message, "\"maybe\" is no switch; a switch is on or off");
        let (_, message) = wrong("cpus = -1");
        assert!(message.contains("a whole number from 0 to"), "{message}");
        let (line, message) = wrong("\non-reset = 'rebot'");
        assert_eq!((line, message.as_str()), (2, "unknown value `rebot`; did you mean `reboot`?"));
    }

    #[test]
    fn a_key_given_twice_is_refused_with_its_line() {
        let (line, message) = wrong("name = 'a'\nname = 'b'");
        assert_eq!((line, message.as_str()), (2, "duplicate key"));
    }

    #[test]
    fn relative_paths_are_taken_from_the_directory_of_the_file() {
        let mut config = Config::parse(WHOLE).unwrap();
        config.memory.backing = Backing::File("ram".into());
        config.rebase(Path::new("/vm"));
        assert_eq!(config.kernel, PathBuf::from("/vm/vmlinuz"));
        assert_eq!(config.initrd, Some("/boot/initrd".into()));
        assert_eq!(config.trace, Some("/vm/run.json".into()));
        assert_eq!(config.serial.com2, Target::Unix("/vm/com2.sock".into()));
        assert_eq!(config.debug_console.to_string(), "append:/vm/debug.log");
        assert_eq!(config.vsock.unwrap().path, PathBuf::from("/vm/vm.sock"));
        assert_eq!(config.vhost_user[0].socket, PathBuf::from("/vm/fs.sock"));
        assert_eq!(config.memory.backing, Backing::File("/vm/ram".into()));
    }

    #[test]
    fn a_file_without_kernel_has_none_after_rebasing() {
        let mut config = Config::default();
        config.rebase(Path::new("/vm"));
        assert_eq!(config.kernel, PathBuf::new());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Path::new("/nonexistent/vm.toml")).unwrap_err();
        assert_eq!(error.to_string(), "the configuration file /nonexistent/vm.toml cannot be read");
    }
}
