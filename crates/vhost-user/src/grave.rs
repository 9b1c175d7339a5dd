//! Where connections end. A back end can send files whose closing waits (a TCP connection that lingers, a
//! file of a file system that does not answer), and they are closed with the connection at the latest.

use std::{sync::Arc, thread};

/// Closes things in threads of its own.
#[derive(Debug, Default)]
pub(crate) struct Grave(Arc<()>);

impl Grave {
    /// Drops `dead`, and keeps nobody waiting.
    pub(crate) fn bury(&self, dead: impl Send + 'static) {
        let open = Arc::clone(&self.0);
        // If there is no thread to be had, both are dropped here.
        let bury = move || drop((dead, open));
        drop(thread::Builder::new().name("vhost-user".to_owned()).spawn(bury));
    }

    /// Whether all is closed.
    pub(crate) fn is_empty(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    struct Slow(Receiver<()>);

    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.recv().unwrap();
        }
    }

    #[test]
    fn what_takes_long_is_waited_for_elsewhere() {
        let grave = Grave::default();
        let (sender, receiver) = sync_channel(0);
        grave.bury(Slow(receiver));
        assert!(!grave.is_empty());
        sender.send(()).unwrap();
        while !grave.is_empty() {
            thread::yield_now();
        }
    }
}
