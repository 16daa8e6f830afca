//! How the shared library is linked.

fn main() {
    for argument in [
        // The name that programs are linked to; its digit moves only when a symbol goes or changes shape.
        "-Wl,-soname,libpgaad.so.0",
        // Connections and fork handlers point into the library: it is never unloaded.
        "-Wl,-z,nodelete",
        "-Wl,-z,relro,-z,now",
        // libpq's functions are looked for in the process; the shared library does not ask the loader for them.
        "-Wl,-z,nodynamic-undefined-weak",
    ] {
        println!("cargo::rustc-cdylib-link-arg={argument}");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
