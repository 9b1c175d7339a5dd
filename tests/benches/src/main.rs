#![doc = include_str!("../README.md")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod bench;
mod error;
mod host;
mod options;
mod process;
mod report;
mod rounds;
mod scratch;
mod stats;
mod table;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    bench::Name,
    error::{Result, chain},
    host::Host,
    options::Options,
    report::{Benchmark, Report, Status},
    table::Table,
};

/// So that a benchmark can tell how often the run loop allocates.
#[global_allocator]
static ALLOCATOR: floor::Counting = floor::Counting;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<ExitCode> {
    let host = Host::look();
    let benchmarks = options.names().into_iter().map(|name| measure(name, options)).collect();
    let report = Report { host, benchmarks };
    println!("{}", Table(&report));
    let file = options.json()?;
    report.write(&file)?;
    println!("written to {}", file.display());
    let failed = options.check && !report.passed();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn measure(name: Name, options: &Options) -> Benchmark {
    if name == Name::LinuxInit && options.linux.kernel.is_none() {
        let asked = options.named(name);
        let status = if asked { Status::CannotRun } else { Status::NotAsked };
        return Benchmark::without(name.text(), status, "it needs --kernel (and --initrd)".into());
    }
    eprintln!("bench: {}", name.text());
    match name.run(options) {
        Ok(cases) => Benchmark::measured(name.text(), cases),
        Err(error) => Benchmark::without(name.text(), Status::CannotRun, chain(&error)),
    }
}
