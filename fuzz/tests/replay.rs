//! Seeds and corpus, through every target. One test, because memory is counted for the whole process.

use llamascope_fuzz::corpus;
use llamascope_fuzz::targets::ALL;

#[test]
fn seeds_and_corpus_pass() {
    for target in ALL {
        (target.seeds)().iter().for_each(|seed| target.check(seed));
        for (path, bytes) in corpus(target).unwrap() {
            println!("{}", path.display());
            target.check(&bytes);
        }
    }
}
