//! Every committed seed through its target, on any toolchain: what fuzzing once found stays found.

use std::path::Path;

#[test]
fn seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, check) in emissary_fuzz::TARGETS {
        assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "no target {name}");
        let mut count = 0;
        for entry in std::fs::read_dir(folder.join("seeds").join(name)).unwrap_or_else(|error| panic!("seeds/{name}: {error}")) {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            check(&std::fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
    assert_eq!(std::fs::read_dir(folder.join("fuzz_targets")).unwrap().count(), emissary_fuzz::TARGETS.len());
}
