//! Generates the client from proto/, and the sizes of the coin categories from the options in coin.proto.
use std::{env, fmt::Write, fs, path::Path};

use protox::prost_reflect::DescriptorPool;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../../proto");
    let mut compiler = protox::Compiler::new(["../../proto"])?;
    compiler.include_imports(true).open_file("aqm/coin/v1/coin_service.proto")?;
    tonic_prost_build::configure().build_server(false).compile_fds(compiler.file_descriptor_set())?;

    let sizes = category_sizes(&compiler.descriptor_pool()).ok_or("coin.proto defines no sizes")?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("category_sizes.rs"), sizes)?;
    Ok(())
}

/// Returns Rust source: an array of (number of the category, public_key_size, signature_size).
fn category_sizes(pool: &DescriptorPool) -> Option<String> {
    let extension = pool.get_extension_by_name("aqm.coin.v1.coin_category_spec")?;
    let mut rows = String::new();
    for value in pool.get_enum_by_name("aqm.coin.v1.CoinCategory")?.values() {
        let options = value.options();
        if options.has_extension(&extension) {
            let spec = options.get_extension(&extension);
            let size = |field: &str| Some(spec.as_message()?.get_field_by_name(field)?.as_i32()?);
            let (key, signature) = (size("public_key_size")?, size("signature_size")?);
            write!(rows, "({}, {key}, {signature}),", value.number()).ok()?;
        }
    }
    Some(format!("&[{rows}]"))
}
