//! Builds `src/seed.c` into the binary, in place of the C library's functions of the same names.

fn main() {
    println!("cargo::rerun-if-changed=src/seed.c");
    // Whole: nothing but weak symbols refers to it, and those would leave it out.
    cc::Build::new().file("src/seed.c").link_lib_modifier("+whole-archive").compile("atoll_seed");
    // Exported: some look functions up by name at run time.
    println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol=getrandom");
    println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol=clock_gettime");
}
