#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod config;
pub mod demo;
pub mod doctor;
pub mod lifecycle;
pub mod machine;
pub mod status;
pub mod terminal;
