//! Gives the shared library its soname, which changes with each incompatible change of the interface.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libringpost.so.0");
}
