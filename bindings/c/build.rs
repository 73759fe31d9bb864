//! Gives the shared library its soname, which changes with each incompatible change of the interface: see
//! RINGPOST_ABI_VERSION.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libringpost.so.0");
    // It has threads, which dlclose would leave without their code.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
