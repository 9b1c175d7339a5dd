//! Directories of the host that the guest sees.

use std::path::Path;

use board::BoardBuilder;
use nix::sys::resource::{Resource, getrlimit};
use virtio_fs::{Cache, Fs, FsConfig, Tag};

use super::{BuildError, command, command::Told, virtio};
use crate::config::{Config, ConfigError, FsCache};

/// Attaches the root, then what else `config` names, in its order. If a command runs in the root: what it
/// will have told.
pub(super) fn attach(
    board: &mut BoardBuilder,
    config: &Config,
) -> Result<Option<Told>, BuildError> {
    let shares = descriptors(config.fs.len() + usize::from(config.root.is_some()));
    let settings = |tag: &str, cache, read_only| {
        let tag: Tag = tag.parse().map_err(ConfigError::from)?;
        let config = FsConfig::new(tag);
        Ok::<_, BuildError>(FsConfig {
            cache: policy(cache),
            read_only,
            descriptors: shares.unwrap_or(config.descriptors),
            ..config
        })
    };
    let mut told = None;
    if let Some(root) = &config.root {
        let settings = settings(Config::ROOT_TAG, root.cache, root.read_only)?;
        let mut fs = open(&root.path, settings)?;
        if !config.command.is_empty() {
            let (with_command, status) = command::attach(board, fs, &config.command)?;
            (fs, told) = (with_command, Some(status));
        }
        virtio::attach(board, config.transport(), "root", fs)?;
    }
    for (index, share) in config.fs.iter().enumerate() {
        let settings = settings(&share.tag, share.cache, share.read_only)?;
        virtio::attach(
            board,
            config.transport(),
            &format!("fs{index}"),
            open(&share.path, settings)?,
        )?;
    }
    Ok(told)
}

fn open(path: &Path, settings: FsConfig) -> Result<Fs, BuildError> {
    Ok(Fs::open(path, settings)?)
}

fn policy(cache: FsCache) -> Cache {
    match cache {
        FsCache::Auto => Cache::Auto,
        FsCache::Always => Cache::Always,
        FsCache::None => Cache::None,
    }
}

/// The most descriptors that all directories together may take, however many the process may have: each
/// is memory of the host's kernel.
const MOST_DESCRIPTORS: usize = 3072;

/// How many descriptors each of `count` directories gets: together half of what this process may have,
/// and at most [`MOST_DESCRIPTORS`].
/// A guest keeps a file open for each program and library that runs in it.
fn descriptors(count: usize) -> Option<usize> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    usize::try_from(soft / 2).ok()?.min(MOST_DESCRIPTORS).checked_div(count)
}
