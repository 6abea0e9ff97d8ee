//! Compiles the filters of the built-in surfaces ahead of time, so that a start does not.

use std::fmt::Write as _;
use std::path::PathBuf;

use syscalls::abi::Arch;
use syscalls::filter::compile;
use syscalls::table::{Feature, Routes, Surface};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let arch = match std::env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => Arch::X86_64,
        "aarch64" => Arch::Aarch64,
        other => return Err(format!("{other} is not supported: the table knows x86_64 and aarch64").into()),
    };
    let mut code = String::new();
    let sets: [(&str, &[Feature]); 4] = [
        ("ISOLATED", &[]),
        ("COPIES", &[Feature::Copies]),
        ("HOST_NETWORK", &[Feature::HostNetwork]),
        ("COPIES_HOST_NETWORK", &[Feature::Copies, Feature::HostNetwork]),
    ];
    for (surface_name, surface) in
        [("JUDGE", Surface::Judge), ("DEFAULT", Surface::Default), ("COMPAT", Surface::Compat)]
    {
        for (set_name, features) in sets {
            let program = compile(&Routes::new(arch, surface, features));
            writeln!(code, "/// Surface {surface:?}, features {features:?}.")?;
            writeln!(code, "pub static {surface_name}_{set_name}: [Instruction; {}] = [", program.len())?;
            for step in program {
                let (code_, jt, jf, k) = (step.code, step.jt, step.jf, step.k);
                writeln!(code, "    Instruction {{ code: {code_}, jt: {jt}, jf: {jf}, k: {k} }},")?;
            }
            writeln!(code, "];")?;
        }
    }
    std::fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("filters.rs"), code)?;
    Ok(())
}
