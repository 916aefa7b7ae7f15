//! Compiles every file of `proto/` to Rust, without protoc: protox parses, tonic-prost-build generates.
//!
//! Fields of type `bytes` become `bytes::Bytes`, so that payloads are not copied on their way. The descriptors of all
//! files go into `rewind.descriptors`, from which the server answers reflection.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir("proto")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    std::fs::write(out.join("rewind.descriptors"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_client(true)
        .build_server(true)
        .build_transport(true)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
