//! The binary from the outside, as far as no guest is needed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use vmm_sys_util::tempdir::TempDir;

fn purlin(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_purlin")).args(arguments).output().unwrap()
}

/// Exit status, and what was said on standard error.
fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let output = purlin(arguments);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn file(directory: &TempDir, name: &str, text: &str) -> String {
    let path = directory.as_path().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn no_kernel_is_a_usage_error_in_one_line() {
    let (status, message) = refusal(&["run"]);
    assert_eq!(status, Some(2));
    assert_eq!(
        message,
        "purlin: error: no kernel was given; say --kernel PATH, or kernel = \"PATH\" in the file\n"
    );
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_the_nearest() {
    let directory = TempDir::new().unwrap();
    let path = file(&directory, "vm.toml", "kernel = 'vmlinuz'\nmemroy = '1G'\n");
    let (status, message) = refusal(&["run", &path]);
    assert_eq!(status, Some(2));
    let told =
        format!("purlin: error: {path}, line 2: unknown key `memroy`; did you mean `memory`?\n");
    assert_eq!(message, told);
}

#[test]
fn more_memory_than_the_host_has_is_a_usage_error() {
    let (status, message) = refusal(&["run", "--kernel", "x", "--memory", "1000G"]);
    assert_eq!(status, Some(2));
    assert!(message.contains("memory of 1000G is more than the "), "{message}");
}

#[test]
fn impossible_values_of_flags_are_usage_errors() {
    for flags in [
        ["--memory", "0"],
        ["--memory", "4097K"],
        ["--memory", "513M,pages=2M"],
        ["--memory", "1M"],
        ["--memory", "99999999999T"],
        ["--cpus", "0"],
        ["--cpus", "65"],
        ["--cpus", "4,threads=3"],
        ["--serial", "stdio,com2=stdio"],
        ["--serial", "file:a,com2=file:./a"],
        ["--grace", "-1"],
        ["--on-reset", "never"],
    ] {
        let (status, message) = refusal(&["run", "--kernel", "x", flags[0], flags[1]]);
        assert_eq!(status, Some(2), "{flags:?}: {message}");
        assert!(message.contains("error: "), "{flags:?}: {message}");
    }
}

#[test]
fn a_file_that_is_no_text_or_not_there_is_named() {
    let directory = TempDir::new().unwrap();
    let path = directory.as_path().join("binary");
    fs::write(&path, [0xff, 0xfe]).unwrap();
    let (status, message) = refusal(&["run", path.to_str().unwrap()]);
    assert_eq!(status, Some(2));
    assert!(message.contains("binary cannot be read: "), "{message}");
    let (status, message) = refusal(&["run", "/nonexistent.toml"]);
    assert_eq!(status, Some(2));
    assert!(message.contains("/nonexistent.toml cannot be read: No such file"), "{message}");
}

#[test]
fn completions_know_the_commands_and_their_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = purlin(&["completions", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("doctor") && script.contains("debug-console"), "{shell}");
    }
}

#[test]
fn the_manual_is_a_page_for_each_command() {
    let directory = TempDir::new().unwrap();
    let output = purlin(&["man", directory.as_path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let pages = [
        "purlin",
        "purlin-run",
        "purlin-demo",
        "purlin-doctor",
        "purlin-completions",
        "purlin-man",
    ];
    for page in pages {
        let text = fs::read_to_string(directory.as_path().join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(String::from_utf8(purlin(&["man"]).stdout).unwrap().contains("EXIT STATUS"));
}

#[test]
fn doctor_in_json_says_whether_a_guest_can_run_and_its_status_agrees() {
    let output = purlin(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = if report["can_run"].as_bool().unwrap() { 0 } else { 4 };
    assert_eq!(output.status.code(), Some(expected));
    assert!(report["checks"].as_array().unwrap().len() > 10);
}

#[test]
fn a_reader_that_stops_reading_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_purlin"));
    let status = command.args(["completions", "bash"]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn the_examples_of_the_readme_are_configurations() {
    let readme =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let examples: Vec<&str> = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(example, _)| example))
        .collect();
    assert!(!examples.is_empty());
    let directory = TempDir::new().unwrap();
    for example in examples {
        let path = file(&directory, "vm.toml", example);
        let config = purlin_vmm::config::Config::load(Path::new(&path)).unwrap();
        config.check().unwrap();
    }
}
