//! Links the system's libraries behind mediasoup's C++ worker; see `native/README.md`.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=MEDIASOUP_DEPS");
    println!("cargo:rustc-check-cfg=cfg(media_dependencies, values(\"bundled\"))");
    if env::var("MEDIASOUP_DEPS").is_ok_and(|dependencies| dependencies == "bundled") {
        println!("cargo:rustc-cfg=media_dependencies=\"bundled\"");
        return;
    }
    // The linker takes from a library only what is missing so far, so these must follow the worker's archive, which is
    // inside mediasoup-sys's rlib. `rustc-link-lib` would put them before it.
    for library in ["srtp2", "uv", "ssl", "crypto"] {
        println!("cargo:rustc-link-arg=-l{library}");
    }
}
