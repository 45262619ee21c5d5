//! The pages are embedded as they lie in `web/dist`: when `make web` has built others, so must cargo.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=web/dist");
}
