//! Replays every committed seed through its target, on any toolchain. So an error that fuzzing found once stays found.
//!
//! Enters: the files below `fuzz/seeds/TARGET`. `FUZZ_SEED=fuzz/seeds/TARGET/NAME` in the environment chooses one file, committed or not. Refuses: a target
//! without seeds, and a list of targets that differs from `fuzz_targets/`.

use std::path::{Path, PathBuf};

#[test]
fn seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let only = std::env::var_os("FUZZ_SEED").map(PathBuf::from);
    let mut replayed = 0;
    for (name, check) in emissary_fuzz::TARGETS {
        assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "no target {name}");
        let mut count = 0;
        for entry in std::fs::read_dir(folder.join("seeds").join(name)).unwrap_or_else(|error| panic!("seeds/{name}: {error}")) {
            let path = entry.unwrap().path();
            count += 1;
            if only.as_ref().is_none_or(|only| path.ends_with(only)) {
                println!("{}", path.display());
                check(&std::fs::read(path).unwrap());
                replayed += 1;
            }
        }
        assert!(count > 0, "{name} has no seeds");
    }
    assert!(replayed > 0, "no seed is {only:?}");
    assert_eq!(std::fs::read_dir(folder.join("fuzz_targets")).unwrap().count(), emissary_fuzz::TARGETS.len());
}
