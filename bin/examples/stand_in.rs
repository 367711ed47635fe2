//! A stand-in for the full executor, for tests of the executor image: says what it was called with.

fn main() {
    let args: Vec<String> = std::env::args().collect();
    println!("full executor: {}", args.join(" "));
}
