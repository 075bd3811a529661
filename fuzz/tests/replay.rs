//! Seeds, corpus and some mutations, through every target: `FUZZ_ROUNDS` of them, or a hundred. One test, because memory is
//! counted for the whole process.

use llamascope_fuzz::inputs;
use llamascope_fuzz::targets::ALL;

#[test]
fn seeds_corpus_and_mutations_pass() {
    let rounds = std::env::var("FUZZ_ROUNDS").map_or(100, |rounds| rounds.parse().expect("FUZZ_ROUNDS is a number"));
    for target in ALL {
        println!("{}", target.name);
        inputs(target, rounds).unwrap().for_each(|input| target.check(&input));
    }
}
