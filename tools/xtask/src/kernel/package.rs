//! Which of the kernel packages that apt offers to take.

use super::Flavour;
use crate::apt;
use crate::error::{Error, Result};
use crate::workspace::say;

/// The version that the tests are written for.
const WANTED: [u32; 2] = [6, 12];

/// The package of the newest stock kernel, of the wanted version if there is one.
pub(super) fn newest(topic: &str, flavour: Flavour) -> Result<String> {
    let names = apt::names("linux-image-")?;
    let (name, wanted) = choose(&names, flavour).ok_or_else(|| {
        Error::new(format!(
            "apt knows no stock {flavour} kernel: its sources must be Debian 12's or 13's main, \
             and its lists present (`apt-get update`)"
        ))
    })?;
    if !wanted {
        let [major, minor] = WANTED;
        say(topic, &format!("apt knows no {major}.{minor} kernel, taking {name}"));
    }
    Ok(name.to_owned())
}

/// The best of `names`, and whether it is of the wanted version.
fn choose(names: &[String], flavour: Flavour) -> Option<(&str, bool)> {
    names
        .iter()
        .filter_map(|name| Some((rank(name, flavour)?, name.as_str())))
        .max()
        .map(|((wanted, ..), name)| (name, wanted))
}

/// Orders packages: wanted version, version, and unsigned, whose files are what the compiler made.
fn rank(name: &str, flavour: Flavour) -> Option<(bool, Vec<u32>, bool)> {
    let rest = name.strip_prefix("linux-image-")?;
    let unsigned = rest.strip_suffix("-unsigned");
    let rest = unsigned.unwrap_or(rest).strip_suffix("-amd64")?;
    let cloud = rest.strip_suffix("-cloud");
    if cloud.is_some() != (flavour == Flavour::Cloud) {
        return None;
    }
    let version = version(cloud.unwrap_or(rest))?;
    Some((version.starts_with(&WANTED), version, unsigned.is_some()))
}

/// The numbers of `6.12.117+deb12`, of `6.12.117+deb12.1` or of Debian 12's own `6.1.0-40`.
///
/// `None` for anything else: `6.12-rt` is another kernel, and `6.12` is a name that only points to
/// the newest.
fn version(text: &str) -> Option<Vec<u32>> {
    let (upstream, revision) = match text.split_once("+deb") {
        Some((upstream, revision)) => (upstream, revision),
        None => text.split_once('-').unwrap_or((text, "0")),
    };
    if upstream.split('.').count() < 3 {
        return None;
    }
    let numbers = |text: &str| text.split('.').map(|n| n.parse().ok()).collect::<Option<Vec<_>>>();
    Some([numbers(upstream)?, numbers(revision)?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(names: &[&str], flavour: Flavour) -> Option<(String, bool)> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        choose(&names, flavour).map(|(name, wanted)| (name.to_owned(), wanted))
    }

    const BOOKWORM: &[&str] = &[
        "linux-image-6.1.0-40-amd64",
        "linux-image-6.12-cloud-amd64-dbg",
        "linux-image-6.12.99+deb12-cloud-amd64-unsigned",
        "linux-image-6.12.117+deb12-cloud-amd64",
        "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
        "linux-image-6.12.117+deb12-cloud-amd64-dbg",
        "linux-image-6.12.118+deb12-rt-amd64-unsigned",
        "linux-image-6.12.107+deb12-amd64",
        "linux-image-6.12-amd64",
        "linux-image-6.12-amd64-signed-template",
        "linux-image-amd64",
    ];

    #[test]
    fn the_newest_of_the_flavour_is_chosen_by_number_not_by_letter() {
        let cloud = "linux-image-6.12.117+deb12-cloud-amd64-unsigned";
        assert_eq!(pick(BOOKWORM, Flavour::Cloud), Some((cloud.into(), true)));
    }

    #[test]
    fn the_generic_flavour_is_neither_cloud_nor_realtime() {
        let generic = "linux-image-6.12.107+deb12-amd64";
        assert_eq!(pick(BOOKWORM, Flavour::Generic), Some((generic.into(), true)));
    }

    #[test]
    fn a_newer_kernel_does_not_displace_the_wanted_version() {
        let names = &["linux-image-6.19.2+deb13-amd64", "linux-image-6.12.48+deb13-amd64"];

        assert_eq!(pick(names, Flavour::Generic), Some((names[1].into(), true)));
    }

    #[test]
    fn without_the_wanted_version_the_newest_is_taken_and_told_apart() {
        let names = &["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-40-amd64"];

        assert_eq!(pick(names, Flavour::Generic), Some((names[1].into(), false)));
        assert_eq!(pick(names, Flavour::Cloud), None);
    }
}
